"""A decision in words: what was decided, then why, then what was rejected."""

from __future__ import annotations

from collections.abc import Sequence

from policies.model import Decision, Reason

_OPENINGS = {
    ("placement", "place"): "Placed at {site}",
    ("placement", "copy"): "Copies",
    ("placement", "wait"): "Waits for a place",
    ("placement", "impossible"): "No site can take it",
    ("placement", "forbidden"): "May bring nothing there",
    ("when", "skip"): "Skipped",
    ("failover", "move"): "Leaves its site",
    ("failover", "stay"): "Stays where it is",
    ("failover", "ask"): "Asks a person whether to leave its site",
    ("failover", "advise"): "Would leave its site, but may not (failover.act: never)",
    ("leaving", "leave"): "Leaves its site for {site}, as is wanted of it",
    ("leaving", "stay"): "Is to leave its site, and stays for now",
    ("leaving", "ask"): "Is asked to save itself",
    ("retry", "again"): "Starts again",
    ("retry", "elsewhere"): "Starts again, elsewhere if it can",
    ("retry", "continue"): "Goes on with the next segment",
    ("retry", "more_memory"): "Starts again with twice the memory",
    ("retry", "fail"): "Gives up",
    ("retry", "ask"): "Asks a person",
    ("checkpoint", "restore"): "Goes on from a checkpoint",
    ("checkpoint", "from_start"): "Starts from the beginning",
    ("ship", "ship"): "Sends a copy of its checkpoint to {site}",
    ("ship", "wait"): "Keeps its checkpoint where it is for now",
    ("ship", "keep"): "Keeps its checkpoint where it is",
    ("inputs", "send"): "Sends its inputs ahead to {site}",
    ("inputs", "keep"): "Sends no inputs ahead",
    ("prune", "prune"): "Removes old copies of checkpoints at {site}",
    ("interval", "ask"): "Is asked for checkpoints at the best interval",
    ("closed", "end"): "Is ended where it is",
    ("closed", "ask"): "Asks a person what follows",
    ("command", "cancel"): "Somebody canceled it",
    ("command", "retry"): "Somebody had it tried again",
    ("command", "release"): "Somebody released it",
    ("command", "adopt"): "Somebody made an earlier attempt its own again",
    ("command", "reap"): "Somebody had a copy ended that was left behind",
    ("command", "move"): "Somebody moved it",
    ("command", "hold"): "Somebody had it wait for its site",
}
_REJECTED = ("refused", "against")


def sentences(decision: Decision) -> list[str]:
    """The decision as sentences, most important first."""
    opening = _OPENINGS.get((decision.kind, decision.outcome), f"{decision.kind}: {decision.outcome}")
    because = [reason.fact for reason in decision.reasons if reason.verdict not in _REJECTED]
    text = opening.format(site=decision.site)
    lines = [f"{text}: {'; '.join(because)}." if because else f"{text}."]
    rejected = _facts(decision.reasons)
    if rejected:
        lines.append(f"Rejected: {'; '.join(rejected)}.")
    return lines


def _facts(reasons: Sequence[Reason]) -> list[str]:
    return [reason.fact for reason in reasons if reason.verdict in _REJECTED]
