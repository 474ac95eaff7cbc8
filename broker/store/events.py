"""What is told: an event of a stream, before it has its place in the chain; and a row of evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """Something to be told in a stream's chain. With `decision`, a decision row of the same seq is written."""

    kind: str
    stage: str = ""
    n: int = -1
    attempt: int = 0
    data: str = "{}"
    actor: str = "engine"
    decision: tuple[str, str, str] | None = None
    """(kind, outcome, detail as JSON)"""


class EvidenceRow(NamedTuple):
    """One measured or published fact about a site's capability; `policies.evidence.Fact` tells what each part means."""

    site: str
    at: int
    capability: str
    ok: bool
    latency_us: int
    detail: str
    source: str = ""
    word: str = ""
    subject: str = ""
    until: int | None = None
