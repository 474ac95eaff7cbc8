"""Facts for the tests of the policies. Everything is a default until a test says otherwise."""

from __future__ import annotations

from typing import Any

from connectors.model import Resources
from policies.model import (
    CheckpointFacts,
    ContinueRule,
    Decision,
    FailoverRule,
    RetryRule,
    Rules,
    SiteFacts,
    SiteRule,
    Tries,
)
from policies.placement import Candidate

SECOND = 1_000_000
NOW = 1_000_000 * SECOND
GB = 1_000_000_000


def site(name: str = "nersc", **said: Any) -> SiteFacts:
    """A site with 4 places, one of them taken, and room for 3 more."""
    values: dict[str, Any] = {"facility": name.upper(), "slots": 4, "load": 1, "share": 3, "cores": 64, **said}
    return SiteFacts(name=name, **values)


def silent(name: str = "nersc", *, seconds: float, **said: Any) -> SiteFacts:
    """A site that gave no answer for so long; both budgets are spent."""
    values: dict[str, Any] = {"cannot_ask_since": NOW - round(seconds * SECOND), "probes": 9, "silent": True, **said}
    return site(name, **values)


def rules(**said: Any) -> Rules:
    """Rules from flat words: `allow`, `prefer`, `deny`, `act`, `after`, `max`, `site_fault`, `exit_codes`, ..."""

    def part(*names: str) -> dict[str, Any]:
        return {name: said.pop(name) for name in names if name in said}

    return Rules(
        sites=SiteRule(**part("allow", "prefer", "deny")),
        failover=FailoverRule(**part("act", "after", "max", "old_copy", "failback")),
        retry=RetryRule(**part("site_fault", "app_fault", "exit_codes")),
        resources=Resources(**part("nodes", "cores", "gpus", "memory", "walltime")),
        **said,
    )


def candidate(name: str = "nersc", /, *, rules: Rules | None = None, **said: Any) -> Candidate:
    return Candidate(site=site(name, **said), rules=rules or Rules())


def checkpoint(seq: int, at: str = "nersc", **said: Any) -> CheckpointFacts:
    values: dict[str, Any] = {"attempt": 1, "generation": 1, "path": f"g1/{seq}", "bytes": 10, "at": NOW, **said}
    return CheckpointFacts(seq=seq, site=at, **values)


def said(decision: Decision) -> list[tuple[str, str]]:
    """The reasons in short: (rule, verdict), in their order."""
    return [(reason.rule, reason.verdict) for reason in decision.reasons]


__all__ = [
    "GB",
    "NOW",
    "SECOND",
    "ContinueRule",
    "Tries",
    "candidate",
    "checkpoint",
    "rules",
    "said",
    "silent",
    "site",
]
