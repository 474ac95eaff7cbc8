"""Executions as real processes: each in a session of its own, known by a word in its environment wherever it hides."""

from __future__ import annotations

import logging
import os
import queue
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger(__name__)

MARK = "CROSSFADE_SANDBOX_JOB"
PLACE = "CROSSFADE_SANDBOX_AT"
"""Holds the folder of the facility: by it processes are found that a killed sandbox has left."""
_PATIENCE = 3.0
"""Seconds that a KILL may take until nothing of a job is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How one execution begins."""

    argv: Sequence[str]
    directory: str
    env: Mapping[str, str]
    stdin: str = "/dev/null"
    stdout: str
    stderr: str = ""
    """Empty: with stdout."""
    append: bool = False


@dataclass(eq=False, slots=True)
class Running:
    """One that has begun."""

    token: str
    process: subprocess.Popen[bytes] | None = None
    waiter: threading.Thread | None = None
    killed: bool = field(default=False)


Exit = tuple[object, int]
"""Whatever was started, and what `wait` said: below 0 a signal."""


class Processes:
    """Starts, signals and waits. Ends are put into `ends`."""

    def __init__(self, ends: queue.SimpleQueue[Exit | None], place: Path) -> None:
        """`place`: the facility's folder, absolute; what a former facility has left there is ended first."""
        self._ends = ends
        self._place = str(place)
        end_left(place)
        self._prefix = secrets.token_hex(8)
        self._count = 0
        self._lock = threading.Lock()
        self._running: dict[object, Running] = {}

    def start(self, what: object, launch: Launch) -> None:
        """Begin; what could not begin ends with 127, and a line in its own output where that can be written."""
        with self._lock:
            self._count += 1
            running = self._running[what] = Running(f"{self._prefix}.{self._count}")
        try:
            running.process = _spawn(launch, {MARK: running.token, PLACE: self._place})
        except (OSError, ValueError) as error:
            log.debug("an execution could not begin: %s", error)
            with self._lock:
                self._running.pop(what, None)
            self._ends.put((what, 127))
            return
        running.waiter = threading.Thread(target=self._wait, args=(what, running), name="sandbox-job", daemon=True)
        running.waiter.start()

    def _wait(self, what: object, running: Running) -> None:
        assert running.process is not None  # noqa: S101 - `start` has put it there
        code = running.process.wait()
        end_all(running.token)  # what the script left behind dies with its job
        with self._lock:
            self._running.pop(what, None)
        self._ends.put((what, code))

    def signal(self, what: object, number: int, *, shell_only: bool) -> None:
        running = self._of(what)
        if running is None or running.process is None:
            return
        if shell_only:
            running.process.send_signal(number)
        else:
            send_all(running.token, number)

    def kill(self, what: object) -> None:
        """Nothing of it lives on return."""
        running = self._of(what)
        if running is not None:
            end_all(running.token)

    def close(self) -> None:
        """End all of them."""
        with self._lock:
            everyone = list(self._running.values())
        for running in everyone:
            end_all(running.token)
        for running in everyone:
            if running.waiter is not None:
                running.waiter.join(_PATIENCE)

    def _of(self, what: object) -> Running | None:
        with self._lock:
            return self._running.get(what)


def _open(path: str, flags: int) -> int:
    """Without waiting for whoever has the other end of a FIFO."""
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    os.set_blocking(descriptor, True)
    return descriptor


def _spawn(launch: Launch, marks: Mapping[str, str]) -> subprocess.Popen[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if launch.append else os.O_TRUNC)
    opened = [stdin := _open(launch.stdin, os.O_RDONLY)]
    try:
        opened.append(stdout := _open(launch.stdout, flags))
        stderr = subprocess.STDOUT
        if launch.stderr and launch.stderr != launch.stdout:
            opened.append(stderr := _open(launch.stderr, flags))
        return subprocess.Popen(
            list(launch.argv),
            cwd=launch.directory,
            env={**launch.env, **marks},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    finally:
        for descriptor in opened:
            os.close(descriptor)


def stop_all(place: Path) -> None:
    """Stop every process of jobs at facilities in this folder or below; twice, for one may just be born."""
    for _ in range(2):
        for pid in left(place):
            _send(pid, signal.SIGSTOP)


def end_left(place: Path) -> int:
    """End every process of jobs at facilities in this folder or below; how many there were."""
    found = left(place)
    for pid in found:
        _send(pid, signal.SIGKILL)
    return len(found)


def left(place: Path) -> list[int]:
    """The processes of jobs at facilities in this folder or below."""
    marks = (f"{PLACE}={place}".encode(), f"{PLACE}={place}/".encode())
    return _carriers(lambda word: word == marks[0] or word.startswith(marks[1]))


def members(token: str) -> list[int]:
    """The live processes of one execution."""
    mark = f"{MARK}={token}".encode()
    return _carriers(lambda word: word == mark)


def _carriers(wanted: Callable[[bytes], bool]) -> list[int]:
    """The live processes with such a word in their environment; a zombie has none."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            try:
                variables = Path(f"/proc/{entry.name}/environ").read_bytes().split(b"\0")
            except OSError:  # ended meanwhile, or another user's
                continue
            if any(map(wanted, variables)):
                found.append(int(entry.name))
    return found


def send_all(token: str, number: int) -> None:
    for pid in members(token):
        _send(pid, number)


def end_all(token: str) -> None:
    """KILL, again and again, until there is nobody left who could start another."""
    until = time.monotonic() + _PATIENCE
    while found := members(token):
        for pid in found:
            _send(pid, signal.SIGKILL)
        if time.monotonic() > until:
            log.warning("processes of a job do not end: %s", found)
            return
        time.sleep(0.002)


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
