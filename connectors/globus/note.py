"""What must be known of a transfer after a crash: small, by its key, in the notes of this installation.

globus:KEY      the newest attempt, as JSON: see Note
globus:KEY/2    the submission id of the second attempt, kept first, so that two processes that ask again at once
                ask for one and the same; and so on
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum

VERSION = 1
LARGEST_REASON = 500
MOST_BAD = 50


class Phase(Enum):
    """How far an attempt is known to be."""

    ASKED = "asked"
    """A submission id is kept; whether Globus has a task under it is not known here."""
    MOVING = "moving"
    """Globus has the task."""
    PUBLISHING = "publishing"
    """Everything has landed and was verified; some of it may have its final name."""
    DONE = "done"
    FAILED = "failed"
    """The task is surely at its end, and nothing of it was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One attempt."""

    digest: str
    """Of the transfer, so that another one under the same key is known for that."""
    submission_id: str
    attempt: int = 1
    at: int = 0
    """When it was asked for, µs."""
    task_id: str = ""
    phase: Phase = Phase.ASKED
    collections: Sequence[str] = ()
    """The source's and the destination's."""
    incoming: str = ""
    """The attempt's folder on the destination's; empty: the files go straight to their names."""
    bytes: int = 0
    files: int = 0
    faults: int = 0
    reason: str = ""
    fault: str = ""
    site: str = ""
    bad: Sequence[str] = ()

    @property
    def ended(self) -> bool:
        return self.phase in {Phase.DONE, Phase.FAILED}

    def text(self) -> str:
        told = asdict(self) | {"v": VERSION, "phase": self.phase.value}
        told |= {"reason": self.reason[:LARGEST_REASON], "bad": list(self.bad)[:MOST_BAD]}
        return json.dumps(told)


class Unreadable(ValueError):
    """A note that this version did not write."""


def note_from(text: str) -> Note:
    """Raises Unreadable: it must not be taken for none, or the files would be moved twice."""
    try:
        raw = json.loads(text)
        if raw.pop("v") != VERSION:
            raise Unreadable("another version")
        return Note(
            digest=str(raw["digest"]),
            submission_id=str(raw["submission_id"]),
            attempt=int(raw["attempt"]),
            at=int(raw["at"]),
            task_id=str(raw["task_id"]),
            phase=Phase(raw["phase"]),
            collections=tuple(str(one) for one in raw["collections"]),
            incoming=str(raw["incoming"]),
            bytes=int(raw["bytes"]),
            files=int(raw["files"]),
            faults=int(raw["faults"]),
            reason=str(raw["reason"]),
            fault=str(raw["fault"]),
            site=str(raw["site"]),
            bad=tuple(str(one) for one in raw["bad"]),
        )
    except Unreadable:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Unreadable(f"a note of a Globus transfer makes no sense ({type(error).__name__})") from error


def note_key(key: str) -> str:
    """Under which the newest attempt is kept."""
    return f"globus:{key}"


def attempt_key(key: str, attempt: int) -> str:
    """Under which a later attempt's submission id is kept."""
    return f"globus:{key}/{attempt}"
