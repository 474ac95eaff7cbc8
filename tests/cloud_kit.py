"""A cluster and a bucket for tests: in this process under a virtual clock, or on sockets with real processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from broker.clock import VirtualClock
from connectors.base import Site
from connectors.files.bucket import BucketFiles, Place
from connectors.files.signing import KeyPair
from connectors.http import Auth, Fixed, Http
from connectors.kubernetes import KubernetesOptions, KubernetesSite
from connectors.model import JobSpec, SmallFile
from connectors.secrets import Secret
from sandbox.faces.kubernetes import KubernetesFace
from sandbox.faces.s3 import S3Face
from sandbox.faces.s3_objects import FacilityObjects, Objects
from sandbox.facilities import FacilityShape, LiveFacility, VirtualFacility
from sandbox.facilities.live import wall_clock
from sandbox.script import script_of
from sandbox.serving import FaceServer, InProcess

ACCESS, SECRET, TOKEN = "test-access-key", 'test-"secret"\\key-0123456789', "test-token-0123456789"
KEYS = {ACCESS: SECRET}
SECRETS = {"default": {"crossfade-bucket": {"access_key": ACCESS, "secret_key": SECRET}}}


def pair() -> KeyPair:
    return KeyPair(access=ACCESS, secret=Secret(SECRET))


class Dark(httpx.BaseTransport):
    """A transport that can be cut, and that can lose an answer."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner
        self.dark = False
        self.lose = ""
        """The answer to the next request of this method is lost."""
        self.requests: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.dark:
            raise httpx.ConnectError("no route", request=request)
        self.requests.append((request.method, request.url.path))
        answer = self.inner.handle_request(request)
        if self.lose == request.method:
            self.lose = ""
            answer.close()
            raise httpx.ReadError("connection reset", request=request)
        return answer

    def close(self) -> None:
        self.inner.close()


class VirtualCloud:
    """A rig: cluster, bucket and payloads in this process."""

    bucket = "lab"

    def __init__(self, folder: Path, *rules: Mapping[str, Any], options: KubernetesOptions | None = None) -> None:
        self.clock = VirtualClock()
        shape = FacilityShape(name="cloud", preempt_notice=0.0).slots(20)
        self.script = script_of(*rules, clock=self.clock)
        faults = self.script.of("cloud")
        self.facility = VirtualFacility(shape, folder, clock=self.clock, faults=faults)
        self.face = KubernetesFace(self.facility, tokens=[TOKEN], secrets=SECRETS, simulated=True)
        self.store = FacilityObjects(self.bucket, self.facility.files)
        self.s3 = S3Face(self.store, keys=KEYS, clock=self.clock)
        self.api, self.files = (
            Dark(InProcess(self.face, faults, name="kubernetes")),
            Dark(InProcess(self.s3, faults, name="s3")),
        )
        self.options = options or KubernetesOptions(image="registry.example.org/tools:1")

    def connect(self, owner: str = "here", *, auth: Auth | None = None) -> KubernetesSite:
        who = auth or Fixed(lambda: {"authorization": f"Bearer {TOKEN}"})
        place = Place(bucket=self.bucket, prefix="", endpoint="http://s3.example.org", region="us-east-1")
        return KubernetesSite(
            name="cloud",
            http=Http("http://cluster.example.org", site="cloud", auth=who, transport=self.api, sleep=lambda _: None),
            files=BucketFiles(site="cloud", place=place, keys=pair, clock=self.clock, transport=self.files),
            options=self.options,
            clock=self.clock,
            owner=owner,
        )

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        payload = f"echo begun\n: sim seconds={seconds} exit={exit_code}\n"
        conf = f"cf_key='{key}'\ncf_digest='{digest}'\n"
        return JobSpec(
            key=key,
            digest=digest,
            directory=f"runs/{key}",
            entry=".crossfade/stage.sh",
            files=(
                SmallFile(path=".crossfade/payload.sh", content=payload.encode()),
                SmallFile(path=".crossfade/job.conf", content=conf.encode()),
            ),
        )

    def executions(self, key: str) -> int:
        return self.facility.model.journal.runs()[key]

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        for _ in range(200):
            if predicate():
                return
            self.clock.advance(within / 200)
        assert predicate(), f"did not come true within {within} s"

    def darken(self) -> None:
        self.api.dark = self.files.dark = True

    def brighten(self) -> None:
        self.api.dark = self.files.dark = False

    def lose_next_reply(self, site: Site) -> bool:
        self.api.lose = "POST"
        return True


class LiveCloud:
    """A rig on sockets: a Job's container is a real process, which fetches and brings its files by itself."""

    bucket = "lab"
    prefix = "site/one/"

    def __init__(
        self,
        folder: Path,
        *rules: Mapping[str, Any],
        slots: int = 4,
        tokens: tuple[str, ...] = (TOKEN,),
        path: str = "/usr/local/bin:/usr/bin:/bin",
    ) -> None:
        self._stack = ExitStack()
        shape = FacilityShape(name="cloud", cancel_grace=4.0, preempt_notice=4.0, path=path).slots(slots)
        self.script = script_of(*rules, clock=wall_clock)
        faults = self.script.of("cloud")
        self.facility = self._stack.enter_context(LiveFacility(shape, folder / "cloud", faults=faults))
        self.objects = Objects([self.bucket])
        self.face = KubernetesFace(self.facility, tokens=tokens, secrets=SECRETS)
        self.api = self._stack.enter_context(FaceServer(self.face, faults, name="kubernetes"))
        self.s3 = self._stack.enter_context(
            FaceServer(S3Face(self.objects, keys=KEYS, clock=wall_clock), faults, name="s3")
        )
        self._lost: list[Dark] = []
        self.options = KubernetesOptions(image="registry.example.org/tools:1", grace=5, margin=60)

    def connect(self, owner: str = "here", *, heartbeat: int = 1) -> KubernetesSite:
        auth = Fixed(lambda: {"authorization": f"Bearer {TOKEN}"})
        place = Place(bucket=self.bucket, prefix=self.prefix, endpoint=self.s3.address, region="us-east-1")
        line = Dark(httpx.HTTPTransport())
        self._lost.append(line)
        site = KubernetesSite(
            name="cloud",
            http=Http(self.api.address, site="cloud", auth=auth, transport=line),
            files=BucketFiles(site="cloud", place=place, keys=pair, clock=wall_clock),
            options=self.options,
            clock=wall_clock,
            owner=owner,
            heartbeat=heartbeat,
        )
        self._stack.callback(site.close)
        return site

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.05)

    def close(self) -> None:
        self._stack.close()
