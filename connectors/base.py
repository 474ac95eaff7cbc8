"""The ports: what the broker may ask of a site. Small enough to hold in the head.

All verbs are synchronous and thread-safe, take batches, and keep no state per job: whatever they answer,
they answer from the site. Any of them may raise a `connectors.errors.SiteError`; none retries a call whose
side effect may have happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from connectors.model import (
    Accounted,
    Balance,
    Evidence,
    FileInfo,
    Finding,
    JobSpec,
    Listing,
    Script,
    SmallFile,
    SubmitAnswer,
    Transfer,
    TransferStatus,
)


@runtime_checkable
class ComputeSite(Protocol):
    """Runs jobs."""

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        """Ask for each job once; one answer per key. A key that the site already holds is adopted, not doubled,
        where the site can tell. Not retried inside."""
        ...

    def find(self, keys: Sequence[str]) -> Listing:
        """The jobs behind these keys, looked up by name in every source the site has (queue, accounting).
        Several items may carry one key."""
        ...

    def status(self, keys: Sequence[str]) -> Listing:
        """As `find`, by the cheapest way that is right for jobs known to have been accepted. One call to the
        site however many keys. A key without an item in a complete listing is LOST."""
        ...

    def list_mine(self, since: int) -> Listing:
        """Every job of this installation that lived at or after `since`."""
        ...

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """End these jobs. True: surely dead or never there (safe to repeat). False: asked, not yet confirmed."""
        ...


@runtime_checkable
class SiteFiles(Protocol):
    """Small files below the site's root. A path that would leave the root raises UnsafePath."""

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        """At most `limit` bytes from `offset` (negative: from the end). Raises NotThere."""
        ...

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        """The contents of several small files; missing ones are left out."""
        ...

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        """Create or replace the file whole (temporary name, then rename)."""
        ...

    def write_many(self, files: Sequence[SmallFile]) -> None:
        """As `write` for each, in as few calls as the site allows. A reader may see some of them before others."""
        ...

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        """What is in a folder, sorted by path; an absent folder is empty."""
        ...

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        """Size and SHA-256 of each file, computed at the site; missing ones are left out."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files (not folders); absent ones are fine."""
        ...


@runtime_checkable
class PlaceFiles(Protocol):
    """Files of a place, or of a site: as much as it takes to verify a copy and to remove it. A path that would leave
    the root raises UnsafePath. The verbs are those of SiteFiles, so that every site has them."""

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        """What is in a folder, sorted by path; an absent folder is empty, and so is a file."""
        ...

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        """Size and SHA-256 of each file, computed there; missing ones are left out."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files (not folders); absent ones are fine."""
        ...


@runtime_checkable
class Sweepable(Protocol):
    """Files of which emptied folders can be taken away too."""

    def sweep(self, path: str) -> None:
        """Remove the folder and those in it, as far as they are empty; an absent one is fine."""
        ...


@runtime_checkable
class HealthSource(Protocol):
    """Says how a site is, without side effects."""

    def probe(self) -> Sequence[Evidence]:
        """Measure now. Failures are evidence, not exceptions."""
        ...


@runtime_checkable
class AllocationSource(Protocol):
    """A site that says what is left to those who pay there. Many say it once a day only: what was used since is not in
    it yet."""

    def balances(self, account: str) -> Sequence[Balance]:
        """Of that account, one for each kind of hours; empty: the site answers, and tells of none. One call or few,
        no side effects. Raises RequestRefused where the account is not one that we may see."""
        ...


@runtime_checkable
class Accounting(Protocol):
    """A site that keeps account of jobs that are over."""

    def accounted(self, keys: Sequence[str], *, since: int) -> Mapping[str, Accounted]:
        """What it booked for the jobs behind these keys, which were submitted at or after `since`; those that it does
        not know (yet) are left out. One call however many keys."""
        ...


@runtime_checkable
class Preparable(Protocol):
    """A site whose place must be made before its first use. Called when the site is added, and never as a cure:
    making a place anew while the old one is away would look like a site that has lost all its jobs."""

    def prepare(self) -> str:
        """Make the place where it is not there; answers its identity, the same as long as it is the same place.
        Safe to repeat. Raises RequestRefused."""
        ...


@runtime_checkable
class Scripted(Protocol):
    """A site that is given scripts or requests which a person may want to read first."""

    def script(self, spec: JobSpec) -> Script:
        """What `submit` would send for this job. Asks nobody, changes nothing, shows no secret."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """A site that can say more of itself than its health: for `site check`."""

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        """Walk through what this site needs (credentials, expiry, status, allocation, files, submitting), in this
        order, and go on after a failure. Nothing is submitted, unless `canary`: then a job of seconds."""
        ...


@runtime_checkable
class Interactive(Protocol):
    """A site to which a person opens the way (a password, a second factor), and the broker goes along with it."""

    def login(self) -> Sequence[str]:
        """The command that a person runs at a terminal; empty: there is nothing to open."""
        ...


class Notes(Protocol):
    """Small texts that outlive this process, by key: what a mover must know again after a crash. Thread-safe, shared by
    all processes of an installation."""

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Those that there are."""
        ...

    def put_first(self, key: str, text: str) -> str:
        """Keep the text unless there is one already; the text that is kept. On disk when this returns."""
        ...

    def put(self, key: str, text: str) -> None:
        """Keep or replace it."""
        ...

    def drop(self, keys: Sequence[str]) -> None:
        """Absent ones are fine."""
        ...


@runtime_checkable
class Mover(Protocol):
    """Carries files between sites, verified, published by rename."""

    def submit(self, transfers: Sequence[Transfer]) -> Mapping[str, SubmitAnswer]:
        """Begin; repeating a key is harmless."""
        ...

    def status(self, keys: Sequence[str]) -> Mapping[str, TransferStatus]: ...

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        """True: nothing will be written any more."""
        ...


@runtime_checkable
class Able(Protocol):
    """A mover that says beforehand what it cannot carry."""

    def refuses(self, transfer: Transfer) -> str:
        """Why it could not carry this one, as a sentence; empty: it could. Asks nobody."""
        ...


@runtime_checkable
class Scheduled(Protocol):
    """A mover whose transfers live in a service of their own: every process that asks it sees the same ones, and it
    works at so many at a time. Others carry within the process that asks them."""

    slots: int

    def forget(self, keys: Sequence[str]) -> None:
        """The end of these transfers is kept elsewhere now: what was noted of them may go. What is under way stays."""
        ...


@runtime_checkable
class Crossing(Protocol):
    """A mover that carries within the process that asks it, over a network: what it does takes its time, is listed,
    and teaches how quick that way is. One that copies within a machine has no such thing to tell."""

    crosses_network: bool


class ClosableMover(Mover, Protocol):
    """A mover that holds threads or connections."""

    def close(self) -> None:
        """Let go of them; what was carried so far can be gone on with under the same keys."""
        ...


@runtime_checkable
class OnThisMachine(Protocol):
    """A site whose files this machine sees."""

    def live_root(self) -> Path:
        """The site's folder; raises SiteUnreachable when it is away."""
        ...


@runtime_checkable
class Site(ComputeSite, SiteFiles, HealthSource, Protocol):
    """A site as a whole, made by the registry from its entry in the site document."""

    name: str
    inline: bool
    """Are its calls so short (in process, local disk) that they may be made inside a run's drain?"""
    claim: str
    """How the start gate claims there: atomic_fs, unique_name, conditional_put or none."""
