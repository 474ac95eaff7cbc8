"""A task as Globus tells of it, and the request that makes one. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from globus_sdk import TransferData

from connectors.errors import BadReply
from connectors.globus.plan import Plan
from connectors.globus_api.faults import GLOBUS, told

OPEN = frozenset({"ACTIVE", "INACTIVE"})
_LATEST = 253_402_300_799


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How this installation has its transfers made; the site document's `globus`."""

    patience: float = 300.0
    """Seconds without any progress after which a task counts as stalled."""
    deadline: float = 7 * 86_400.0
    """Seconds after which Globus itself gives up, where the transfer says nothing shorter."""
    encrypt: bool = True
    """Is the data encrypted on its way?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task, with the figures that tell whether it gets on."""

    task_id: str
    status: str
    label: str
    nice_status: str
    nice_details: str
    paused: bool
    faults: int
    files: int
    files_transferred: int
    files_skipped: int
    bytes_transferred: int
    bytes_checksummed: int
    directories: int
    subtasks_done: int
    retrying: int
    fatal_code: str
    fatal_words: str

    @property
    def open(self) -> bool:
        return self.status in OPEN

    @property
    def queued(self) -> bool:
        return self.nice_status.casefold() == "queued"

    @property
    def mark(self) -> tuple[int, ...]:
        """Changes with every bit of progress."""
        return (
            self.files,
            self.directories,
            self.files_transferred,
            self.files_skipped,
            self.bytes_transferred,
            self.bytes_checksummed,
            self.subtasks_done,
        )


def task_from(raw: Mapping[str, Any]) -> Task:
    """From a task document; figures that are missing are 0. Raises BadReply."""
    status, task_id = raw.get("status"), raw.get("task_id")
    if not isinstance(status, str) or not isinstance(task_id, str):
        raise BadReply("globus: a task without a status", site=GLOBUS)
    fatal = raw.get("fatal_error")
    fatal = fatal if isinstance(fatal, dict) else {}
    return Task(
        task_id=task_id,
        status=status,
        label=str(raw.get("label") or ""),
        nice_status=_word(raw.get("nice_status")),
        nice_details=told(str(raw.get("nice_status_details") or raw.get("nice_status_short_description") or "")),
        paused=raw.get("is_paused") is True,
        faults=_count(raw, "faults"),
        files=_count(raw, "files"),
        files_transferred=_count(raw, "files_transferred"),
        files_skipped=_count(raw, "files_skipped"),
        bytes_transferred=_count(raw, "bytes_transferred"),
        bytes_checksummed=_count(raw, "bytes_checksummed"),
        directories=_count(raw, "directories"),
        subtasks_done=_count(raw, "subtasks_succeeded") + _count(raw, "subtasks_skipped_errors"),
        retrying=_count(raw, "subtasks_retrying"),
        fatal_code=_word(fatal.get("code")),
        fatal_words=told(str(fatal.get("description") or "")),
    )


def request_of(plan: Plan, options: Options, *, submission_id: str, now: int) -> TransferData:
    """The document that is posted. Nothing is left to what the service takes for usual."""
    data = TransferData(
        *plan.collections,
        label=plan.label,
        submission_id=submission_id,
        verify_checksum=True,
        preserve_timestamp=False,
        encrypt_data=options.encrypt,
        deadline=_deadline(plan.transfer.deadline, options, now),
        skip_source_errors=False,
        fail_on_quota_errors=True,
        delete_destination_extra=False,
        notify_on_succeeded=False,
        notify_on_failed=False,
        notify_on_inactive=False,
        additional_fields={
            "recursive_symlinks": "ignore",
            # null: everything is copied. What a level lets Globus skip, nobody compares with what was promised.
            "sync_level": None,
        },
    )
    for piece in plan.pieces:
        if piece.folder:
            data.add_item(f"{piece.source}/", f"{piece.landing}/", recursive=True)
        elif piece.item.sha256 is not None:
            data.add_item(piece.source, piece.landing, external_checksum=piece.item.sha256, checksum_algorithm="SHA256")
        else:
            data.add_item(piece.source, piece.landing)
    return data


def _deadline(asked: int | None, options: Options, now: int) -> str:
    ends = now + round(options.deadline * 1e6)
    if asked is not None:
        ends = min(ends, asked)
    return datetime.fromtimestamp(min(ends / 1e6, _LATEST), UTC).isoformat(timespec="seconds")


def _word(value: object) -> str:
    return told(value)[:64] if isinstance(value, str) else ""


def _count(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
