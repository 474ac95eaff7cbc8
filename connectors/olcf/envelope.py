"""Replies of Slurm's REST API: an object with `errors`, whatever the HTTP status; and what the errors mean.

Measured with slurmrestd 22.05: an unknown job is HTTP 500 with error 2017; a job that the partition's limits forbid is
HTTP 200 with a job id *and* an error; a token that the controller does not take and a controller that is away are both
HTTP 500 with error -1 for everything that reads. Numbers of errors are those of Slurm's slurm_errno.h.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.errors import BadReply
from connectors.slurm.jobs import number

UNKNOWN_JOB = 2017
ALREADY_DONE = 2021
DENIED = 2002
LIMIT = 2050
"""A limit of the accounting's: jobs submitted, size, time."""
_TOKEN = frozenset({1007, *range(6000, 6100)})
"""«Protocol authentication error», «invalid authentication credential», and their kin."""
_TOLD = 300
_MOST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmError:
    """One error of a reply; `number` -1: not told, or «unspecified»."""

    number: int
    text: str
    source: str = ""

    @property
    def credential(self) -> bool:
        return self.number in _TOKEN

    @property
    def refusal(self) -> bool:
        """Is it the scheduler, or the API's reader of requests, that says no? Then nothing was done."""
        return 2000 <= self.number < 3000 or 9000 <= self.number < 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One reply."""

    status: int
    document: Mapping[str, Any]
    errors: Sequence[SlurmError]

    def has(self, error: int) -> bool:
        return any(one.number == error for one in self.errors)

    @property
    def credential(self) -> bool:
        return any(one.credential for one in self.errors)

    @property
    def unspecified(self) -> bool:
        """Did something fail without its cause being told?"""
        return bool(self.errors) and all(one.number == -1 for one in self.errors)

    @property
    def text(self) -> str:
        return "; ".join(one.text for one in self.errors[:_MOST] if one.text) or f"HTTP {self.status}"

    def items(self, name: str, site: str) -> Sequence[Any]:
        """A list in it. Raises BadReply."""
        found = self.document.get(name)
        if not isinstance(found, list):
            raise BadReply(f"{site}: the reply has no list of {name}", site=site)
        return found


def envelope_of(document: object, status: int) -> Envelope | None:
    """None: it is none, but something else's answer."""
    if not isinstance(document, dict) or not isinstance(document.get("errors", []), list):
        return None
    if "errors" not in document and "meta" not in document and status >= 400:
        return None
    errors = [_error(one) for one in document.get("errors", ())[:100]]
    return Envelope(status=status, document=document, errors=errors)


def _error(one: object) -> SlurmError:
    if not isinstance(one, Mapping):
        return SlurmError(number=-1, text=_line(one))
    # the oldest versions call it error_code or errno, too
    code = next((found for name in ("error_number", "error_code", "errno") if (found := number(one.get(name)))), -1)
    described, said = _line(one.get("description")), _line(one.get("error"))
    text = described if said in described else f"{said}: {described}" if described else said
    return SlurmError(number=code, text=text, source=_line(one.get("source")))


def _line(value: object) -> str:
    if not isinstance(value, str):
        return ""
    plain = "".join(letter if letter.isprintable() else " " for letter in value[: 4 * _TOLD])
    return " ".join(plain.split())[:_TOLD]
