"""A rehearsal machine behind Slurm's REST API for tests: facility, face, token, files, and the connector that asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from broker.clock import VirtualClock
from connectors.errors import NotThere, SiteUnreachable, UnsafePath
from connectors.files.mounted import MountedFiles
from connectors.model import FileInfo, JobSpec, Resources, SmallFile
from connectors.olcf import RestSite, make
from connectors.paths import clean, file_path
from connectors.registry import SiteConfig
from sandbox.faces.slurmrest import S3mFace, SlurmRestFace, Token, TokenBook, machine_of
from sandbox.facilities import FacilityShape, LiveFacility, Queue, VirtualFacility
from sandbox.facility import FacilityFiles
from sandbox.queue import Reservation
from sandbox.script import FaultScript, script_of
from sandbox.serving import InProcess

ADDRESS = "http://slurm.test"
TOKEN = "opat-token-of-the-rehearsal-4711"
HOUR = 3_600_000_000
START = VirtualClock()()
SHAPE = FacilityShape(
    name="olcf",
    nodes=20,
    queues={"batch": Queue(), "debug": Queue(max_walltime=3600.0)},
    reservations=(Reservation(name="beam", start=START, end=START + HOUR, units=2),),
    first_id=70_001,
    cancel_grace=0.2,
)


@dataclass(frozen=True)
class Flavor:
    """One kind of service, and what the site document says of it."""

    connector: str
    version: str
    options: Mapping[str, Any]

    @property
    def s3m(self) -> bool:
        return self.connector == "olcf"


S3M_43 = Flavor("olcf", "v0.0.43", {"resource": "defiant"})
S3M_44 = Flavor("olcf", "v0.0.44", {"resource": "defiant"})
PLAIN_38 = Flavor("slurmrest", "v0.0.38", {"user": "user"})
PLAIN_44 = Flavor("slurmrest", "v0.0.44", {"user": "user"})
BARE_38 = Flavor("slurmrest", "v0.0.38", {"user": "user", "accounting": "none"})


class Rehearsal:
    """A virtual facility with its face in this process; or, `live`, a real folder, real processes and real time."""

    def __init__(
        self,
        folder: Path,
        *rules: Mapping[str, Any],
        flavor: Flavor = S3M_43,
        live: bool = False,
        shape: FacilityShape = SHAPE,
    ) -> None:
        self.flavor, self.live = flavor, live
        self.clock = VirtualClock()
        self.now: Callable[[], int] = (lambda: time.time_ns() // 1000) if live else self.clock
        self.script: FaultScript = script_of(*rules, clock=self.now)
        self.faults = self.script.of("olcf")
        self.facility: LiveFacility | VirtualFacility
        if live:
            self.facility = LiveFacility(shape, folder / "facility", faults=self.faults)
        else:
            self.facility = VirtualFacility(shape, folder / "facility", clock=self.clock, faults=self.faults)
        self.tokens = TokenBook(Token(value=TOKEN, project="ABC123", until=self.now() + 20 * 24 * HOUR))
        machine = machine_of(shape, "defiant")
        self.face: S3mFace | SlurmRestFace
        if flavor.s3m:
            self.face = S3mFace(self.facility, self.tokens, machine=machine)
        else:
            accounting = flavor.options.get("accounting") != "none"
            self.face = SlurmRestFace(self.facility, self.tokens, machine=machine, accounting=accounting)
        self.wire = Wire(InProcess(self.face, self.faults, name="slurmrest", sleep=self.sleep))
        folder.mkdir(exist_ok=True)
        self.token_file = folder / "token"
        self.put_token(TOKEN)

    def put_token(self, value: str) -> None:
        self.token_file.write_text(f"{value}\n")
        self.token_file.chmod(0o600)

    def sleep(self, seconds: float) -> None:
        if self.live:
            time.sleep(min(seconds, 0.05))
        else:
            self.clock.advance(seconds)

    def config(self, *, address: str = ADDRESS, **more: Any) -> SiteConfig:
        flavor = self.flavor
        options = {"url": address, "version": flavor.version, **flavor.options, **more.pop("options", {})}
        given: dict[str, Any] = {
            "name": "olcf",
            "connector": flavor.connector,
            "root": self.facility.files.root,
            "installation": "here",
            "account": "abc123",
            "credentials": {"token": f"file:{self.token_file}"},
            "options": options,
        }
        return SiteConfig(**(given | more))

    def site(self, **more: Any) -> RestSite:
        """A new connector object."""
        elapsed = time.monotonic if self.live else lambda: self.clock() / 1e6
        if self.live:
            files: Any = MountedFiles(site="olcf", mount=Path(self.facility.files.root))
        else:
            files = PortFiles(self.facility.files, self.wire)
        config = self.config(**more)
        return make(config, self.now, files=files, transport=self.wire, sleep=self.sleep, elapsed=elapsed)


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
    """What lies between connector and service: it can be cut, and it can lose an answer."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner
        self.cut = False
        self.losing = 0
        """How many answers to submissions are still to be lost."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of each request."""
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.cut:
            raise httpx.ConnectError("no route to host", request=request)
        self.asked.append((request.method, request.url.path))
        self.requests.append(request)
        response = self._inner.handle_request(request)
        if self.losing and request.method == "POST" and request.url.path.endswith("/job/submit"):
            self.losing -= 1
            response.close()
            raise httpx.ReadTimeout("no answer in time", request=request)
        return response

    def close(self) -> None:
        self._inner.close()

    def count(self, method: str, part: str) -> int:
        """How many requests there were of that kind."""
        return sum(1 for asked, path in self.asked if asked == method and part in path)


class PortFiles:
    """`SiteFiles` straight to a facility's files, as far away as the wire says: these services move no files."""

    def __init__(self, files: FacilityFiles, wire: Wire) -> None:
        self._files, self._wire = files, wire

    def prepare(self) -> str:
        return "in memory"

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        place = self._place(file_path(path))
        if offset < 0:
            offset = max(0, self._files.stat(place).size + offset)
        return self._files.read(place, offset=offset, limit=limit)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        found = {}
        for path in paths:
            try:
                found[path] = self.read(path, limit=limit)
            except NotThere:
                continue
        self._reach()
        return found

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self._files.write(self._place(file_path(path)), content, mode=mode)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        for file in files:
            file_path(file.path)
        for file in files:
            self.write(file.path, file.content, mode=file.mode)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        inside = clean(path)
        try:
            found = self._files.list(self._place(inside), recursive=recursive)
        except NotThere:
            return []
        below = f"{inside}/" if inside else ""
        infos = [
            FileInfo(path=below + one.path, size=one.size, is_dir=one.is_dir, modified_at=one.modified_at)
            for one in found
        ]
        return sorted(infos, key=lambda info: info.path)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        found = {}
        for path in paths:
            try:
                found[path] = self._files.digest(self._place(file_path(path)))
            except NotThere:
                continue
        return found

    def remove(self, paths: Sequence[str]) -> None:
        for path in paths:
            try:
                self._files.remove(self._place(file_path(path)))
            except NotThere:
                continue

    def _place(self, inside: str) -> str:
        self._reach()
        return f"{self._files.root}/{inside}" if inside else self._files.root

    def _reach(self) -> None:
        if self._wire.cut:
            raise SiteUnreachable("olcf: the files are away", site="olcf")


__all__ = ["ADDRESS", "BARE_38", "HOUR", "PLAIN_38", "PLAIN_44", "S3M_43", "S3M_44", "SHAPE", "TOKEN", "Flavor",
           "PortFiles", "Rehearsal", "UnsafePath", "Wire", "simulated_job"]  # fmt: skip
