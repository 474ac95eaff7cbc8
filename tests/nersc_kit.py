"""A rehearsal NERSC for tests: facility, face, client key, and the connector that speaks to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from broker.clock import VirtualClock
from connectors.model import JobSpec, Resources, SmallFile
from connectors.nersc import NerscSite, make, token
from connectors.registry import SiteConfig
from sandbox.faces.superfacility import BASE, TOKEN, ApiClient, SuperfacilityFace, new_client
from sandbox.facilities import FacilityShape, LiveFacility, VirtualFacility
from sandbox.script import FaultScript, script_of
from sandbox.serving import InProcess

# the same key is read by every site of every test, and reading one is 65 ms of looking for the factors of its primes
token.load_pem_private_key = cache(token.load_pem_private_key)

ADDRESS = "http://nersc.test"
DAY = 86_400 * 1_000_000
SHAPE = FacilityShape(name="nersc", nodes=20, first_id=40_001, cancel_grace=0.2)


@cache
def _client() -> tuple[ApiClient, str]:
    """One key for all tests: making one takes longer than most of them."""
    return new_client(expires_at=0)


class Rehearsal:
    """A virtual facility with its face in this process; or, `live`, a real folder, real processes and real time."""

    def __init__(
        self, folder: Path, *rules: Mapping[str, Any], live: bool = False, shape: FacilityShape = SHAPE
    ) -> None:
        self.clock = VirtualClock()
        self.now: Callable[[], int] = (lambda: time.time_ns() // 1000) if live else self.clock
        self.script: FaultScript = script_of(*rules, clock=self.now)
        faults = self.script.of("nersc")
        self.facility: LiveFacility | VirtualFacility
        if live:
            self.facility = LiveFacility(shape, folder / "facility", faults=faults)
        else:
            self.facility = VirtualFacility(shape, folder / "facility", clock=self.clock, faults=faults)
        made, key = _client()
        self.client = replace(made, expires_at=self.now() + 2 * DAY)
        folder.mkdir(exist_ok=True)
        self.key_file = folder / "client.pem"
        self.key_file.write_text(key)
        self.key_file.chmod(0o600)
        self.face = SuperfacilityFace(self.facility, [self.client], accounts=("m1234",))
        self.transport = InProcess(self.face, faults, name="superfacility", sleep=self.sleep)
        self.live = live

    def sleep(self, seconds: float) -> None:
        if self.live:
            time.sleep(min(seconds, 0.05))
        else:
            self.clock.advance(seconds)

    def config(self, *, address: str = ADDRESS, **more: Any) -> SiteConfig:
        options = {"base": address + BASE, "token_url": address + TOKEN, **more.pop("options", {})}
        given: dict[str, Any] = {
            "name": "nersc",
            "connector": "nersc",
            "root": self.facility.files.root,
            "installation": "here",
            "account": "m1234",
            "credentials": {"key": f"file:{self.key_file}"},
            "options": options,
        }
        return SiteConfig(**(given | more))

    def site(self, *, transport: httpx.BaseTransport | None = None, **more: Any) -> NerscSite:
        """A new connector object."""
        elapsed = time.monotonic if self.live else lambda: self.clock() / 1e6
        config = self.config(**more)
        return make(config, self.now, transport=transport or self.transport, sleep=self.sleep, elapsed=elapsed)


def simulated_job(key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1", **more: Any) -> JobSpec:
    """A job whose script says how it would go."""
    given: dict[str, Any] = {
        "key": key,
        "digest": digest,
        "directory": f"runs/{key}",
        "entry": ".crossfade/stage.sh",
        "files": (
            SmallFile(path=".crossfade/stage.sh", content=b"exit 0\n"),
            SmallFile(path=".crossfade/payload.sh", content=f": sim seconds={seconds} exit={exit_code}\n".encode()),
            SmallFile(path=".crossfade/job.conf", content=f"cf_key='{key}'\ncf_digest='{digest}'\n".encode()),
        ),
        "resources": Resources(walltime=3600.0),
    }
    return JobSpec(**(given | more))


class Wire(httpx.BaseTransport):
    """What lies between connector and face: it can be cut, and it can lose an answer."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner
        self.cut = False
        self.losing = 0
        """How many answers to submissions are still to be lost."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of each request."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.cut:
            raise httpx.ConnectError("no route to host", request=request)
        self.asked.append((request.method, request.url.path))
        response = self._inner.handle_request(request)
        if self.losing and request.method == "POST" and "/compute/jobs/" in request.url.path:
            self.losing -= 1
            raise httpx.ReadTimeout("no answer in time", request=request)
        return response

    def close(self) -> None:
        self._inner.close()

    def count(self, method: str, part: str) -> int:
        """How many requests there were of that kind."""
        return sum(1 for asked, path in self.asked if asked == method and part in path)
