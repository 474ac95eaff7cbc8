"""A task of Globus, as the service keeps it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from sandbox.globus.orders import Kind, Order
from sandbox.globus.pieces import Copied, Done, Piece
from sandbox.globus.troubles import Trouble

HOUR = 3_600_000_000
"""µs."""


class Status(StrEnum):
    """A canceled task, and one whose deadline has passed, are FAILED."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"

    @property
    def final(self) -> bool:
        return self in (Status.SUCCEEDED, Status.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that has happened to a task."""

    at: int
    code: str
    is_error: bool
    description: str
    details: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A path that was left out because of an error at the source."""

    at: int
    code: str
    details: str
    piece: Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Last:
    """The trouble that a task is in, since."""

    at: int
    code: str
    short: str


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a task tells of its work."""

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    files_skipped: int = 0
    files_transferred: int = 0
    bytes: int = 0
    checksummed: int = 0
    faults: int = 0
    subtasks: int = 0
    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    expired: int = 0
    skipped_errors: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Task:
    """Changed by the service alone, under its lock. Times are µs."""

    id: str
    order: Order
    owner: str
    username: str
    requested_at: int
    deadline: int
    deadline_given: bool = False
    """By the user: it stays where it is."""
    status: Status = Status.ACTIVE
    label: str = ""
    completed_at: int | None = None
    counts: Counts = field(default_factory=Counts)
    pending: deque[Piece] = field(default_factory=deque)
    current: Piece | None = None
    steps: Iterator[Done] | None = None
    """Of the current piece, begun."""
    retrying: bool = False
    slot: bool = False
    """Is it one of those that are worked at?"""
    ready_at: int = 0
    """When its work goes on, while it has a slot."""
    rests_until: int = 0
    """After an error; without a slot."""
    resting: bool = False
    """After an error, up to then."""
    rest: float = 0.0
    """Seconds that it has rested last."""
    trouble: Last | None = None
    """None: none since its last success."""
    fatal: tuple[str, str] | None = None
    """Code and description."""
    events: list[Event] = field(default_factory=list)
    """The oldest first."""
    copied: list[Copied] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    paused: str = ""
    """A message: by an administrator, this task alone."""
    paused_now: bool = False
    """By that, or by one of its collections."""
    cancel_at: int | None = None
    """When an accepted cancellation takes effect."""

    @property
    def kind(self) -> Kind:
        return self.order.kind

    @property
    def queued(self) -> bool:
        """Does it wait for nothing but a slot?"""
        return self.status is Status.ACTIVE and not self.slot and not self.paused_now and self.trouble is None

    @property
    def waits(self) -> bool:
        """Has it rested, and has no slot?"""
        return self.status is Status.ACTIVE and not self.slot and not self.resting

    @property
    def left(self) -> int:
        """Pieces that are to be done."""
        return len(self.pending) + (self.current is not None)

    def note(self, at: int, code: str, description: str, details: str = "", *, is_error: bool = False) -> None:
        """Write down an event."""
        self.events.append(Event(at=at, code=code, is_error=is_error, description=description, details=details))

    def suffer(self, at: int, trouble: Trouble, *, rest: float) -> None:
        """A fault: it gives its slot up, and rests before it tries again."""
        self.counts.faults += 1
        self.trouble = Last(at=at, code=trouble.code, short=trouble.short)
        self.note(at, trouble.code, trouble.short, str(trouble), is_error=True)
        self.slot, self.retrying, self.resting = False, True, True
        self.rest, self.rests_until = rest, at + round(rest * 1e6)

    def end(self, at: int, status: Status, code: str, description: str) -> None:
        """For good."""
        left = self.left
        if code == "CANCELED":
            self.counts.canceled += left
        elif code == "EXPIRED":
            self.counts.expired += left
        else:
            self.counts.failed += left
        self.status, self.completed_at = status, at
        self.slot, self.trouble, self.paused_now, self.cancel_at = False, None, False, None
        self.pending.clear()
        self.current = None
        self.note(at, code, description, is_error=status is Status.FAILED and code != "CANCELED")
