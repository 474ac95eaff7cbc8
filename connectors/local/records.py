"""What the site remembers of each job, in `<root>/jobs/`; the connector itself remembers nothing.

<key>          a symbolic link that leads nowhere; its text says which process has the key. Made in one step, so that
               a key belongs to one job for ever, however many processes ask for it and whenever they are killed.
<key>.exit     how the job ended: `<exit code>` from its launcher, or `signal <n>` when that was killed itself.
<key>.cancel   somebody asked for its end: when, whether it had ended by itself before, and its processes then.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from connectors.local.process import Process, boot_id
from connectors.tree import read_at, write_all

KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
DIGEST = re.compile(r"[A-Za-z0-9:_=+-]{0,200}")
_RECORD = re.compile(r"(\d{1,10})\.(\d{1,20})\.([0-9a-f-]*)\.(\d{1,20})\.([A-Za-z0-9:_=+-]*)")
_SEEN = re.compile(r"\d{1,10}\.\d{1,20}")
_LARGEST = 1 << 16
_MOST_SEEN = 2000
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Who has a key. `pid` 0: nobody ever will, it was canceled before a job came."""

    key: str
    pid: int
    started: int
    boot: str
    at: int
    """Microseconds: submitted, or canceled."""
    digest: str

    @property
    def tombstone(self) -> bool:
        return self.pid == 0

    @property
    def this_boot(self) -> bool:
        """May its process still be there?"""
        return not self.tombstone and self.boot == boot_id()

    @property
    def native_id(self) -> str:
        return "canceled" if self.tombstone else f"{self.pid}.{self.started}.{self.boot[:8]}"

    @property
    def text(self) -> str:
        return f"{self.pid}.{self.started}.{self.boot}.{self.at}.{self.digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """How a job ended: one of the two is set, or neither when the disk was too full to write it down."""

    ended_at: int
    exit_code: int | None = None
    signal: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelMark:
    """A wish to end a job. `late`: it had ended before. `seen`: number and start time of its processes then."""

    at: int
    late: bool
    seen: tuple[tuple[int, int], ...] = ()


class Records:
    """The folder `jobs`, open as the descriptor `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def get(self, key: str) -> Record | None:
        """Who has the key. A link that makes no sense counts as a tombstone: nothing may start under it."""
        if not KEY.fullmatch(key):
            return None
        try:
            text = os.readlink(key, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        found = _RECORD.fullmatch(text)
        if not found:
            return _tombstone(key, 0)
        pid, started, boot, at, digest = found.groups()
        return Record(key=key, pid=int(pid), started=int(started), boot=boot, at=int(at), digest=digest)

    def claim(self, key: str, process: Process, *, at: int, digest: str) -> Record | None:
        """Give the key to a process; None when somebody has it already."""
        return self._put(
            Record(key=key, pid=process.pid, started=process.started, boot=boot_id(), at=at, digest=digest)
        )

    def bury(self, key: str, *, at: int) -> Record:
        """Take the key out of use, unless somebody has it; answers who has it then."""
        return self._put(_tombstone(key, at)) or self.get(key) or _tombstone(key, at)

    def keys(self, since: int) -> Iterator[str]:
        """All keys but those whose end was written down before `since` (microseconds)."""
        with os.scandir(self._fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            if KEY.fullmatch(name) and not self._ended_before(name, since):
                yield name

    def trace(self, key: str) -> Trace | None:
        found = self._read(f"{key}.exit")
        if found is None:
            return None
        text, at = found
        word, _, number = text.rpartition(" ")
        if not text.endswith("\n") or not number.strip().isdigit():
            return Trace(ended_at=at)
        if word == "signal":
            return Trace(ended_at=at, signal=int(number))
        return Trace(ended_at=at, exit_code=int(number))

    def note_signal(self, key: str, number: int) -> None:
        """Write down that a launcher was killed, unless it had written its end itself."""
        self._create(f"{key}.exit", f"signal {number}\n")

    def cancel_mark(self, key: str) -> CancelMark | None:
        found = self._read(f"{key}.cancel")
        if found is None:
            return None
        at, _, rest = found[0].strip().partition(" ")
        state, *words = rest.split()[: _MOST_SEEN + 1] or ["live"]
        pairs = [word.split(".") for word in words if _SEEN.fullmatch(word)]
        return CancelMark(
            at=int(at) if at.isdigit() else 0,
            late=state == "late",
            seen=tuple((int(pid), int(started)) for pid, started in pairs),
        )

    def mark_cancel(self, key: str, mark: CancelMark) -> bool:
        """Write down the wish to end a job; False when it was there before."""
        words = [str(mark.at), "late" if mark.late else "live"]
        words += [f"{pid}.{started}" for pid, started in mark.seen[:_MOST_SEEN]]
        return self._create(f"{key}.cancel", " ".join(words) + "\n")

    def _put(self, record: Record) -> Record | None:
        try:
            os.symlink(record.text, record.key, dir_fd=self._fd)
        except FileExistsError:
            return None
        return record

    def _ended_before(self, key: str, since: int) -> bool:
        with suppress(FileNotFoundError):
            return os.stat(f"{key}.exit", dir_fd=self._fd).st_mtime_ns // 1000 < since
        return False

    def _read(self, name: str) -> tuple[str, int] | None:
        try:
            fd = os.open(name, _READ, dir_fd=self._fd)
        except FileNotFoundError:
            return None
        try:
            text = read_at(fd, offset=0, limit=_LARGEST).decode("ascii", "replace")
            return text, os.fstat(fd).st_mtime_ns // 1000
        finally:
            os.close(fd)

    def _create(self, name: str, text: str) -> bool:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=self._fd)
        except FileExistsError:
            return False
        try:
            write_all(fd, text.encode())
        finally:
            os.close(fd)
        return True


def _tombstone(key: str, at: int) -> Record:
    return Record(key=key, pid=0, started=0, boot="", at=at, digest="")
