"""rsync itself: its command line, what it tells while it works, and what its end means."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from shlex import quote

from connectors.errands import TransferFailure
from connectors.errors import CredentialError, Fault, SiteError
from connectors.rsync import scripts
from connectors.rsync.ends import End
from connectors.secrets import scrub
from connectors.ssh.openssh import remote_words
from connectors.ssh.transport import Ended, jobs_environment, talk

PROGRAM = "rsync"
PARTIAL = ".cf-partial.tmp"
"""Half a file, beside where it will be, below the incoming folder; listings leave such names out."""
SILENCE = 120
"""Seconds without a byte after which a connection counts as broken."""
_OPTIONS = (
    "--secluded-args",  # no path is ever seen by a shell: they go over the wire
    "--files-from=-",
    "--from0",
    "--dirs",
    "--no-implied-dirs",
    "--copy-links",  # those that leave the root were refused before
    "--times",  # what has arrived whole is not sent again
    "--omit-dir-times",
    "--perms",
    "--chmod=D0700,Fug-s",
    f"--partial-dir={PARTIAL}",
    "--sparse",  # a hole travels as zeros, and is one again
    f"--timeout={SILENCE}",
    "--info=progress2,stats2",
    "--no-human-readable",
)
_PROGRESS = re.compile(rb"(\d{1,19}) +\d{1,3}%")
_LITERAL = re.compile(rb"Literal data: (\d{1,19}) bytes")
_FULL = re.compile(r"no space left on device|disk quota exceeded|quota exceeded", re.IGNORECASE)
_TOO_LARGE = re.compile(r"file too large", re.IGNORECASE)
_OURS = re.compile(r"^crossfade (here|there): (.+)$", re.MULTILINE)
_ABSENT = "there is no such program"
_BUSY = "another one writes here"
_BROKEN = frozenset({10, 12, 30, 35, 255})
"""Exit codes of a connection that broke or fell silent."""
_STRANGE = frozenset({1, 2, 4, 126, 127})
"""Of a program that does not know what is asked of it, or is none."""
_VANISHED = 24
_PARTLY = 23


class Dropped(Exception):
    """The connection broke; what has arrived is kept, and can be gone on with. `failure`: if it is not."""

    def __init__(self, failure: TransferFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Lacking(TransferFailure):
    """There is no rsync at that side that could be used."""


@dataclass(slots=True)
class Progress:
    """Listens to rsync. `told`: is called with all bytes so far."""

    told: Callable[[int], None]
    sent: int = 0
    """Bytes of files that went over the line, of the last run."""
    _tail: bytes = b""

    def hear(self, block: bytes) -> None:
        self._tail = (self._tail + block)[-4096:]
        if found := _PROGRESS.findall(self._tail):
            self.told(int(found[-1]))
        if literal := _LITERAL.findall(self._tail):
            self.sent = int(literal[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """From one folder to another, one of which is behind ssh."""

    source: End
    destination: End
    stage: str
    """The folder in which it arrives, below the destination's root."""

    def go(self, paths: Sequence[str], *, seconds: float, stop: threading.Event, progress: Progress) -> None:
        """Bring these files of the source's root. Raises Dropped, TransferFailure, Stopped."""
        listed = b"".join(path.encode() + b"\0" for path in paths)
        with self._far.blamed():
            argv = self._argv()
            ended = talk(
                argv, listed, site=self._far.site, deadline=seconds, env=_environment(), stop=stop, heard=progress.hear
            )
        self._judge(ended)

    @property
    def _far(self) -> End:
        return self.source if self.source.reach else self.destination

    @property
    def _near(self) -> End:
        return self.destination if self.source.reach else self.source

    def _argv(self) -> Sequence[str]:
        reach = self._far.reach
        assert reach is not None  # noqa: S101 - one of them is behind ssh
        program = shutil.which(PROGRAM)
        if program is None:
            raise Lacking(f"there is no {PROGRAM} on this machine: install it", fault=Fault.SITE, site="")
        # the word that rsync takes for the host becomes $0: whom ssh asks is in the command
        ssh = "exec 9>&-; exec " + " ".join(quote(word) for word in reach.transport.argv()) + ' "$@"'
        there = remote_words(reach.prelude + self._serve(self._far, program=reach.options.rsync, umask=reach.umask))
        words = [
            *_OPTIONS,
            *([f"--bwlimit={reach.options.bwlimit}"] if reach.options.bwlimit else []),
            f"--rsh=/bin/sh -c '{ssh.replace(chr(39), chr(39) * 2)}'",
            f"--rsync-path={there} {PROGRAM}",
            *(("there:.", ".") if self.source.reach else (".", "there:.")),
        ]
        return ["/bin/sh", "-c", self._serve(self._near, program=program, umask="077"), PROGRAM, *words]

    def _serve(self, end: End, *, program: str, umask: str) -> str:
        arrives = end is self.destination
        return scripts.SERVE.format(
            root=quote(end.root),
            folder=quote(self.stage if arrives else "."),
            umask=quote(umask),
            program=quote(program),
            lock=scripts.LOCK if arrives else "",
            where="there" if end.reach else "here",
        )

    # -- its end -------------------------------------------------------------------------------------------

    def _judge(self, ended: Ended) -> None:
        if ended.code == 0:
            return
        said = _said(ended.err)
        ours = _OURS.search(ended.err)
        if ours is not None:  # of a wrapper that could not begin; its exit code is not always handed on
            raise self._stated(ours[2], self._near if ours[1] == "here" else self._far)
        if _FULL.search(ended.err):
            raise self.destination.failure(f"no space at the destination: {said}", Fault.QUOTA)
        if _TOO_LARGE.search(ended.err):
            raise self.destination.failure(f"too large for the file system: {said}", Fault.QUOTA)
        if ended.code in _STRANGE:
            what = f"rsync at {self._far.site} or here does not do what is needed, 3.1 or newer is: {said}"
            raise Lacking(what, fault=Fault.SITE, site=self._far.site)
        if ended.code in _BROKEN:
            raise self._broken(ended, said)
        raise self._refused(ended, said)

    def _stated(self, words: str, end: End) -> Exception:
        if words == _ABSENT:
            what = f"there is no rsync at {end.site or 'the broker'}: install it, or name it with option rsync"
            return Lacking(what, fault=Fault.SITE, site=end.site)
        if words == _BUSY:
            return Dropped(end.failure("another process brings the same files just now", Fault.SITE))
        return end.failure(words, Fault.SITE)

    def _broken(self, ended: Ended, said: str) -> Exception:
        reach = self._far.reach
        assert reach is not None  # noqa: S101 - as above
        error: SiteError | None = reach.transport.error(ended.err) if ended.code == 255 else None
        if isinstance(error, CredentialError):
            return self._far.failure(str(error), Fault.CREDENTIAL)
        return Dropped(self._far.failure(f"the connection to {self._far.site} broke: {said}", Fault.SITE))

    def _refused(self, ended: Ended, said: str) -> TransferFailure:
        """Some files could not be read, or not be written: rsync says by which of its halves."""
        if ended.code == _VANISHED:
            return self.source.failure(f"corrupt: the source was changed while it was being copied: {said}")
        if ended.code == _PARTLY and ("[sender]" in ended.err or "link_stat" in ended.err):
            missing = "source missing: " if "No such file" in ended.err else "the source cannot be read: "
            return self.source.failure(missing + said)
        fault = Fault.STAGING if "permission denied" in ended.err.lower() else Fault.SITE
        return self.destination.failure(f"rsync ended with {ended.code}: {said}", fault)


def _environment() -> dict[str, str]:
    """Without what a person set for other calls of rsync."""
    ours = {name: value for name, value in jobs_environment().items() if not name.startswith("RSYNC_")}
    return {**ours, "LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}


def _said(err: str) -> str:
    """For a person: the first words that tell something, on one line."""
    lines = [line.strip() for line in err[:20_000].splitlines() if line.strip()]
    plain = " ".join("".join(c if c.isprintable() else " " for c in line) for line in lines[:3])
    return scrub(plain)[:300] or "it said nothing"
