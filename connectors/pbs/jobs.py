"""One job as PBS tells of it: `qstat -f -F json`, or the text of `qstat -f -w` where the JSON is none.

Some versions print escapes that JSON does not know, and values that look like numbers as numbers: all are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from connectors.model import JobState, JobStatus
from connectors.names import Label, label_of
from connectors.pbs.script import LABEL
from connectors.pbs.words import ENDED, exit_of, fatal_comment, state_of

_CLOCK = re.compile(r"(\d{1,6}):(\d{2}):(\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class PbsJob:
    """A job's record. Times are µs."""

    native_id: str
    name: str
    label_text: str = ""
    state: JobState
    word: str = ""
    comment: str = ""
    restarts: int = 0
    exit_code: int | None = None
    signal: int | None = None
    submitted_at: int | None = None
    started_at: int | None = None
    ended_at: int | None = None
    folder: str = ""

    @property
    def label(self) -> Label | None:
        """What our variable says; None: it has none of ours."""
        return label_of(self.label_text.replace(".", " "))

    def status(self, key: str) -> JobStatus:
        """As the port tells it."""
        return JobStatus(
            key=key,
            native_id=self.native_id,
            state=self.state,
            exit_code=self.exit_code,
            signal=self.signal,
            restarts=self.restarts,
            native_state=self.word,
            native_reason=self.comment[:300],
            stuck_reason=fatal_comment(self.comment) if self.state in {JobState.QUEUED, JobState.HELD} else "",
            submitted_at=self.submitted_at,
            started_at=self.started_at,
            ended_at=self.ended_at,
        )


def job_of(native_id: str, record: Mapping[str, Any]) -> PbsJob:
    """A job from its attributes, of JSON or of text."""
    word, comment = _text(record.get("job_state")), _text(record.get("comment"))
    status = _number(record.get("Exit_status"))
    state = state_of(word, exit_status=status, comment=comment, overtime=_overtime(record))
    runs = _number(record.get("run_count")) or 0
    code, signal = exit_of(status) if word in ENDED else (None, None)
    return PbsJob(
        native_id=native_id,
        name=_text(record.get("Job_Name")),
        label_text=_variable(record.get("Variable_List"), LABEL),
        state=state,
        word=word,
        comment=comment,
        # the count is of starts: a job that waits again has been started so often before
        restarts=max(0, runs if state in {JobState.QUEUED, JobState.HELD} else runs - 1),
        exit_code=code,
        signal=signal,
        submitted_at=_moment(record.get("qtime")),
        started_at=_moment(record.get("stime")),
        ended_at=_moment(record.get("obittime") or record.get("mtime")) if state.final else None,
        folder=_folder(record.get("Output_Path")),
    )


def jobs_of_text(told: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Id and attributes of each job in the text of `qstat -f`, wrapped lines or not."""
    native_id, last = "", ""
    attributes: dict[str, str] = {}
    for line in told.splitlines():
        if line.startswith("Job Id:"):
            if native_id:
                yield native_id, attributes
            native_id, attributes, last = line.partition(":")[2].strip(), {}, ""
        elif line.startswith("\t") and last:
            attributes[last] += line.strip("\t\n")
        elif " = " in line and line.startswith("    "):
            last, _, value = line.strip().partition(" = ")
            attributes[last] = value
    if native_id:
        yield native_id, attributes


def _overtime(record: Mapping[str, Any]) -> bool:
    wanted = _seconds(_inner(record, "Resource_List", "walltime"))
    used = _seconds(_inner(record, "resources_used", "walltime"))
    return wanted is not None and used is not None and used >= wanted


def _inner(record: Mapping[str, Any], outer: str, name: str) -> object:
    found = record.get(outer)
    return found.get(name) if isinstance(found, Mapping) else record.get(f"{outer}.{name}")


def _variable(found: object, name: str) -> str:
    if isinstance(found, Mapping):
        return _text(found.get(name))
    parts = found.split(",") if isinstance(found, str) else ()
    return next((part.partition("=")[2] for part in parts if part.startswith(f"{name}=")), "")


def _folder(output: object) -> str:
    """The job's own, of where PBS would put its output: HOST:/root/dir/.crossfade/scheduler.log."""
    path = _text(output)
    path = path[path.find("/") :] if "/" in path else ""
    return path.partition("/.crossfade/")[0] if "/.crossfade/" in path else ""


def _seconds(value: object) -> int | None:
    found = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) * 3600 + int(found[2]) * 60 + int(found[3]) if found else None


def _moment(value: object) -> int | None:
    """`Fri Nov  4 11:04:12 2022`, in UTC since qstat was asked with TZ=UTC; or seconds."""
    if isinstance(value, str) and value:
        try:
            return int(datetime.strptime(value, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC).timestamp()) * 1_000_000
        except ValueError:
            return None
    seconds = _number(value)
    return seconds * 1_000_000 if seconds is not None and 0 < seconds < 10**11 else None


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
        return int(value)
    return None


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else ""
