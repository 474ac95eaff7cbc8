"""A transfer that this process works on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from connectors.base import Notes
from connectors.globus.judging import History
from connectors.globus.note import Note, Phase, note_key
from connectors.globus.plan import Plan
from connectors.model import TransferState, TransferStatus

Step = Callable[[str], None]
"""Told after each step that leaves a trace, by its name; tests let the process die there."""


def no_step(name: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Why it goes no further without a person."""

    reason: str
    help: str
    until: int
    """µs before which it is not tried again."""
    stamp: object = None
    """Of the login that did not do; with another one it is tried at once."""


@dataclass(slots=True)
class Errand:
    """One attempt at a transfer. Whoever changes it holds `lock`."""

    plan: Plan
    note: Note
    notes: Notes
    step: Step = no_step
    lock: threading.Lock = field(default_factory=threading.Lock)
    history: History | None = None
    hold: Hold | None = None
    giving_up: tuple[str, str] | None = None
    """Reason and fault, where its task is to be canceled and was not seen to have ended."""
    moved: int = 0
    files: int = 0
    faults: int = 0
    retrying: int = 0
    """Files that Globus was trying again when it was last looked at."""
    detail: str = ""
    renamed: set[int] = field(default_factory=set)
    """Items that have their final names, as far as this process knows."""

    @property
    def key(self) -> str:
        return self.plan.transfer.key

    def keep(self, step: str, note: Note) -> None:
        """Commit what is known now."""
        self.notes.put(note_key(self.key), note.text())
        self.note = note
        self.step(step)

    def begin(self, plan: Plan) -> None:
        """From here on it is this attempt."""
        self.plan, self.history, self.hold, self.giving_up = plan, None, None, None
        self.moved = self.files = self.faults = 0
        self.detail, self.renamed = "", set()

    def fail(self, reason: str, *, fault: str, site: str = "", bad: tuple[str, ...] = ()) -> None:
        """Its task is surely at its end."""
        failed = replace(
            self.note, phase=Phase.FAILED, faults=self.faults, reason=reason, fault=fault, site=site, bad=bad
        )
        self.hold = self.giving_up = None
        self.keep("failed", failed)

    def status(self) -> TransferStatus:
        """As far as it is known."""
        if self.note.ended:
            return status_of(self.key, self.note)
        state = TransferState.HELD if self.hold else TransferState.ACTIVE
        return TransferStatus(
            key=self.key,
            state=state,
            bytes_moved=self.moved,
            files_moved=self.files,
            faults=self.faults,
            detail=self.detail,
            reason=self.hold.reason if self.hold else "",
            help=self.hold.help if self.hold else "",
            native_id=self.note.task_id,
        )


def status_of(key: str, note: Note) -> TransferStatus:
    """Of an attempt that has ended."""
    done = note.phase is Phase.DONE
    return TransferStatus(
        key=key,
        state=TransferState.SUCCEEDED if done else TransferState.FAILED,
        bytes_moved=note.bytes,
        files_moved=note.files,
        faults=note.faults,
        native_id=note.task_id,
        reason=note.reason,
        fault=note.fault,
        site=note.site,
        bad_items=note.bad,
    )
