"""The batch model under a virtual clock: payloads are simulated, files lie in memory, nothing waits."""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

from connectors.errors import SiteUnreachable, UnsafePath
from connectors.model import JobSpec, SmallFile
from connectors.registry import Clock
from sandbox.facilities.batch import BatchFacility, order_of
from sandbox.facilities.environment import login, output_path
from sandbox.facilities.memory import DiskFiles, Mirror
from sandbox.facilities.shape import FacilityShape
from sandbox.facility import FacilityFiles, FaultScript, Order, OrderRefused
from sandbox.job import Job
from sandbox.papers import Papers, read_papers
from sandbox.payload import BadSimLine, Payload, sim_lines

_OURS = ("job.conf", "payload.sh", "outputs")
_WORD = re.compile(rb"^cf_(key|digest)='([A-Za-z0-9:_-]+)'$", re.MULTILINE)
_CD = re.compile(r"^\s*cd\s+(\S.*?)(?:\s*(?:\|\||&&|;).*)?$", re.MULTILINE)
_SIMPLE = re.compile(r"^\s*(sleep|exit|echo)\s+(.*?)\s*$", re.MULTILINE)


class VirtualFacility(BatchFacility):
    """Jobs whose script starts our harness live as simulated payloads do, checkpoints and spool records included:
    `: sim` lines in the payload say how. In other scripts such lines count too, and else `sleep`, `echo` and `exit`.

    `files.root` is the root of the one installation that uses it: the spool lies right below. Commands of `run` see
    the files through a mirror on the real disk.
    """

    def __init__(self, shape: FacilityShape, folder: Path, *, clock: Clock, faults: FaultScript | None = None) -> None:
        """`folder`: where the mirror lies while a command runs; also what the root is called."""
        super().__init__(shape, clock=clock, faults=faults)
        root = str(folder.resolve() / "files")
        self._disk_files = DiskFiles(
            self.model.disk,
            root,
            knock=self._knock_at_files,
            on_request=self.model.request,
            before_read=self.model.show_beat,
        )
        self.files: FacilityFiles = self._disk_files
        self._mirror = Mirror(Path(root), self.model.disk, self._disk_files)

    @property
    def home(self) -> str:
        return self.files.root

    def _completed(self, order: Order) -> Order:
        order = super()._completed(order)
        return order if order.directory else replace(order, directory=self.home)

    def _read(self, order: Order) -> tuple[JobSpec, Papers, bool]:
        folder, ours = self._harness(order)
        conf = next((item.content for item in ours if item.path.endswith("job.conf")), b"")
        words = {name.decode(): value.decode() for name, value in _WORD.findall(conf)}
        try:
            if ours and "key" in words:
                spec = self._spec(order, words["key"], digest=words.get("digest", ""), directory=folder)
                return spec, read_papers(ours), False
            return *super()._read(order)[:1], _plain(order), True
        except BadSimLine as error:
            raise OrderRefused("script", str(error)) from error

    def _harness(self, order: Order) -> tuple[str, list[SmallFile]]:
        """Where the script starts our harness, and what that would read there."""
        text = order.script or " ".join(order.argv)
        for folder in (*_folders(text), order.directory):
            try:
                inside = self._disk_files.inside(folder)
            except UnsafePath:
                continue
            names = [f"{inside}/.crossfade/{name}" if inside else f".crossfade/{name}" for name in _OURS]
            found = [
                SmallFile(path=f".crossfade/{path.rpartition('/')[2]}", content=blob.whole())
                for path in names
                if (blob := self.model.disk.get(path)) is not None
            ]
            if found and inside and "stage.sh" in text:
                return inside, found
        return "", []

    def _ended(self, job: Job) -> None:
        super()._ended(job)
        if job.bare and job.started_at is not None:
            self._leave_output(job)

    def _leave_output(self, job: Job) -> None:
        order = order_of(job)
        host = job.execution.host if job.execution else ""
        path = output_path(order, order.stdout, self.shape, native_id=job.native_id, host=host)
        text = "".join(f"{word}\n" for verb, word in _SIMPLE.findall(order.script) if verb == "echo")
        try:
            self.model.disk.write(self._disk_files.inside(path), text.encode(), self.model.now)
        except UnsafePath:
            return  # as a job whose output lies elsewhere: nobody sees it here

    def run(self, command: str, *, timeout: float = 60.0) -> tuple[int, bytes, bytes]:
        with self.model.lock:
            now = self._asked("files")
            for job in self.model.all_jobs():
                if job.execution is not None and job.execution.alive and not job.bare:
                    self.model.show_beat(f"{job.spec.directory}/.crossfade/heartbeat", now)
            self._mirror.lay_out()
            try:
                done = subprocess.run(
                    ["/bin/sh", "-c", command],
                    cwd=self.home,
                    env=login(self.shape, self.home),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise SiteUnreachable(f"{self.name}: the command took too long", site=self.name) from error
            finally:
                self._mirror.take_in(now)
            return done.returncode, done.stdout, done.stderr


def _folders(text: str) -> list[str]:
    """Where a script goes before it does anything, as far as that can be read."""
    found = []
    for part in _CD.findall(text):
        try:
            found += shlex.split(part)[:1]
        except ValueError:
            continue
    return found


def _plain(order: Order) -> Papers:
    """What a script that knows nothing of us would do. Raises BadSimLine."""
    text = order.script or shlex.join(order.argv)
    lines = sim_lines(text.encode())
    if lines:
        return read_papers([SmallFile(path=".crossfade/payload.sh", content=text.encode())])
    seconds, code = 0.0, 0
    for verb, word in _SIMPLE.findall(text):
        number = re.fullmatch(r"\d+(?:\.\d+)?", word)
        if verb == "sleep" and number:
            seconds += float(word)
        elif verb == "exit" and number:
            code = int(float(word)) & 0xFF
    return Papers(payload=Payload(seconds=seconds, exit_code=code), conf=b"", outputs=b"")
