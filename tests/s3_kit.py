"""A bucket in this process or at moto, and the s3 mover between that and a folder here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path

import httpx
import requests
from cloud_kit import KEYS, Dark, pair

from connectors.errors import NotThere, SiteUnreachable
from connectors.files.bucket import BucketFiles, Place
from connectors.model import Accepted, Transfer, TransferItem, TransferState, TransferStatus
from connectors.s3 import Here, S3Mover
from sandbox.faces.s3 import S3Face
from sandbox.faces.s3_objects import Objects
from sandbox.serving import InProcess

CLOUD, NEAR = "cloud", "near"
NOW = 1_800_000_000_000_000
PART = 1 << 20


class MotoTransport(httpx.BaseTransport):
    """Hands on to moto, which stands in for the addresses of AWS where `requests` asks for them: one call at a time,
    since what moto keeps in a process is not made for threads."""

    def __init__(self) -> None:
        self._one = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        given = {"headers": dict(request.headers), "data": request.read(), "timeout": 60, "stream": True}
        with self._one, requests.request(request.method, str(request.url), **given) as answer:  # type: ignore[arg-type]
            content = b"" if request.method == "HEAD" else answer.content
            headers = {name: value for name, value in answer.headers.items() if name.lower() != "transfer-encoding"}
            return httpx.Response(answer.status_code, headers=headers, stream=httpx.ByteStream(content))


class S3Rig:
    """`source` and `destination`: which of the two is the bucket. `part`: bytes of a part."""

    def __init__(
        self, folder: Path, *, upload: bool, part: int = PART, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.source, self.destination = (NEAR, CLOUD) if upload else (CLOUD, NEAR)
        self.folder, self.part = folder, part
        self.now = NOW
        self.objects = Objects(["lab"])
        self.face = S3Face(self.objects, keys=KEYS, clock=self.clock, smallest=min(part, 5 << 20))
        self.line = Dark(transport or InProcess(self.face))
        self.root = folder / "near"
        self.root.mkdir()
        self.movers: list[S3Mover] = []
        self.bucket = self.files()

    def clock(self) -> int:
        return self.now

    def files(self) -> BucketFiles:
        place = Place(
            bucket="lab", prefix="pre fix/", endpoint="https://s3.us-east-1.amazonaws.com", region="us-east-1"
        )
        return BucketFiles(site=CLOUD, place=place, keys=pair, clock=self.clock, transport=self.line, deadline=2.0)

    def connect(self) -> S3Mover:
        sides: dict[str, Here | BucketFiles] = {NEAR: Here(live_root=self._near), CLOUD: self.bucket}
        self.movers.append(S3Mover(sides, self.clock, part=self.part))
        return self.movers[-1]

    def _near(self) -> Path:
        if not self.root.exists():
            raise SiteUnreachable("the folder is away", site=NEAR)
        return self.root

    def put(self, site: str, path: str, content: bytes) -> None:
        if site == CLOUD:
            self.bucket.write(path, content)
            return
        at = self.root / path
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_bytes(content)

    def get(self, site: str, path: str) -> bytes | None:
        if site == CLOUD:
            try:
                return self.bucket.read(path, limit=1 << 30)
            except NotThere:
                return None
        at = self.root / path
        return at.read_bytes() if at.is_file() else None

    def names(self, site: str) -> list[str]:
        """All files there."""
        if site == CLOUD:
            return [info.path for info in self.bucket.list("", recursive=True)]
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file())

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        deadline = time.monotonic() + within
        while not predicate():
            assert time.monotonic() < deadline, f"did not come true within {within} s"
            time.sleep(0.002)

    def darken(self, site: str) -> None:
        if site == CLOUD:
            self.line.dark = True
        else:
            self.root.rename(self.root.with_suffix(".away"))

    def end(self) -> None:
        for mover in self.movers:
            mover.close()

    # -- for stories ---------------------------------------------------------------------------------------

    def transfer(self, *items: TransferItem, key: str = "cfs300000000001", **more: object) -> Transfer:
        made = Transfer(key=key, source_site=self.source, destination_site=self.destination, items=items)
        return replace(made, **more)  # type: ignore[arg-type]

    def carry(self, mover: S3Mover, transfer: Transfer) -> TransferStatus:
        answer = mover.submit([transfer])[transfer.key]
        assert isinstance(answer, Accepted), answer
        future = mover._errands._known([transfer.key])[transfer.key].future
        assert future is not None
        wait([future], timeout=60)
        status = mover.status([transfer.key])[transfer.key]
        assert status.state is not TransferState.ACTIVE
        return status
