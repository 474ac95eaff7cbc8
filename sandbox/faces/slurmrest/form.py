"""How a version of Slurm's REST API writes things: numbers plain or wrapped, states as a word or a list, replies in
their envelope. Versions up to 22.05 by what slurmrestd was seen to answer, newer ones by SchedMD's published models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.model import JobState
from sandbox.faces.http import Response, answer

VERSIONS = ("v0.0.38", "v0.0.41", "v0.0.42", "v0.0.43", "v0.0.44")
_RELEASES = {38: ("22", "05", "8"), 41: ("24", "05", "5"), 42: ("24", "11", "3"), 43: ("25", "05", "2")}
_NEWEST = ("25", "11", "1")
_BASES = {
    JobState.QUEUED: "PENDING",
    JobState.HELD: "PENDING",
    JobState.RUNNING: "RUNNING",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.CANCELED: "CANCELLED",
    JobState.PREEMPTED: "PREEMPTED",
    JobState.TIMED_OUT: "TIMEOUT",
    JobState.OUT_OF_MEMORY: "OUT_OF_MEMORY",
    JobState.NODE_FAILED: "NODE_FAIL",
}
_FLAGS = frozenset(
    {"COMPLETING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESIZING", "RESV_DEL_HOLD", "REVOKED",
     "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "LAUNCH_FAILED", "POWER_UP_NODE", "RECONFIG_FAIL",
     "EXPEDITING"}
)  # fmt: skip
_SIGNALS = {1: "HUP", 2: "INT", 6: "ABRT", 9: "KILL", 10: "USR1", 11: "SEGV", 12: "USR2", 15: "TERM"}


class RestError(Exception):
    """An error of Slurm's, by its number, as the body of a reply."""

    def __init__(self, status: int, number: int, text: str, *, description: str = "", source: str = "") -> None:
        super().__init__(text)
        self.status, self.number, self.text = status, number, text
        self.description, self.source = description, source


@dataclass(frozen=True, slots=True)
class Form:
    """One version's way of writing."""

    version: str
    cluster: str

    @property
    def number(self) -> int:
        return int(self.version.rpartition(".")[2])

    @property
    def plain(self) -> bool:
        return self.number < 39

    def count(self, value: int | None, *, infinite: bool = False) -> object:
        """A number that may be not set."""
        if self.plain:
            return value
        return {"set": value is not None, "infinite": infinite, "number": value or 0}

    def time(self, at: int | None) -> object:
        """µs, as seconds since the epoch; None: not yet."""
        seconds = (at or 0) // 1_000_000
        return seconds if self.plain else {"set": True, "infinite": False, "number": seconds}

    def state(self, state: JobState, word: str) -> object:
        if self.plain:
            return word
        if word in _FLAGS:
            return [_BASES.get(state, "PENDING"), word]
        return [word]

    def exit(self, code: int | None, signal: int | None, *, ended: bool) -> object:
        """Of wait(2) in plain numbers, in words else."""
        if self.plain:
            return ((code or 0) << 8) | (signal or 0)
        status = "PENDING" if not ended else "SIGNALED" if signal else "ERROR" if code else "SUCCESS"
        return {
            "status": [status],
            "return_code": self.count((code or 0) if ended and not signal else None),
            "signal": {"id": self.count(signal), "name": _SIGNALS.get(signal or 0, "")},
        }

    def meta(self) -> Mapping[str, Any]:
        release = _RELEASES.get(self.number, _NEWEST)
        dotted = ".".join(release)
        if self.plain:
            numbers = dict(zip(("major", "minor", "micro"), map(int, release), strict=True))
            return {
                "plugin": {"type": f"openapi/{self.version}", "name": f"Slurm OpenAPI {self.version}"},
                "Slurm": {"version": numbers, "release": dotted},
            }
        words = dict(zip(("major", "minor", "micro"), release, strict=True))
        return {
            "plugin": {
                "type": "openapi/slurmctld",
                "name": "Slurm OpenAPI slurmctld",
                "data_parser": f"data_parser/{self.version}",
                "accounting_storage": "accounting_storage/slurmdbd",
            },
            "client": {"source": "[localhost]", "user": "user", "group": "user"},
            "command": [],
            "slurm": {"version": words, "release": dotted, "cluster": self.cluster},
        }

    def reply(
        self,
        content: Mapping[str, Any],
        *,
        status: int = 200,
        errors: Sequence[RestError] = (),
        warnings: Sequence[str] = (),
    ) -> Response:
        """The content in its envelope."""
        body: dict[str, Any] = {**content, "meta": self.meta(), "errors": [self._error(one) for one in errors]}
        if not self.plain:
            body["warnings"] = [{"description": text, "source": "#/job/"} for text in warnings]
        return answer(body, status)

    def refusal(self, error: RestError, content: Mapping[str, Any] | None = None) -> Response:
        return self.reply(content or {}, status=error.status, errors=[error])

    def _error(self, error: RestError) -> Mapping[str, Any]:
        if self.plain and not error.source:  # 22.05 names the number differently from place to place
            return {"error_code": error.number, "error": error.text}
        return {
            "description": error.description or error.text,
            "error_number": error.number,
            "error": error.text,
            "source": error.source,
        }
