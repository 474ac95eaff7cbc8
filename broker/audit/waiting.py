"""Nothing waits for ever: what is held has an end, what is lost is sent again, what was left behind is put away.
Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from broker.audit.rows import Found, RunRows, Violation
from broker.states import AttemptState, StageState

FAR = 3_600_000_000
"""Microseconds. No claim, lease, pause of an effect or mark of a wake-up lasts an hour."""
REAP = 300_000_000
"""Microseconds within which a site that answers was asked to end what was left behind there."""
_ENDING = (AttemptState.VERIFYING, AttemptState.STAGING_OUT)


def waiting(rows: RunRows) -> list[Violation]:
    """All violations, by rule."""
    return [Violation(rule, where, what) for rule, check in _RULES for where, what in check(rows)]


def _held_with_an_end(rows: RunRows) -> Found:
    run, far = rows.run, None if rows.now is None else rows.now + FAR
    if run.lease_owner is not None and (run.lease_until is None or (far is not None and run.lease_until > far)):
        yield run.run_id, f"is leased to {run.lease_owner} until {run.lease_until}"
    for effect in rows.effects:
        if effect.state != "pending":
            continue
        if effect.claim and effect.claim_until is None:
            yield rows.name(effect.n, effect.attempt), f"the effect {effect.key} is claimed for ever"
        elif far is not None and effect.due_at is not None and effect.due_at > far:
            yield rows.name(effect.n, effect.attempt), f"the effect {effect.key} is due at {effect.due_at} only"


def _sent_again(rows: RunRows) -> Found:
    """A wake-up that its queue has lost is sent again, for its mark lies in the past."""
    sent = rows.run.wake_sent_at
    if sent is not None and rows.now is not None and sent > rows.now + FAR:
        yield rows.run.run_id, f"its wake-up counts as sent at {sent}: if it is lost, none will be sent for long"


def _reaped(rows: RunRows) -> Found:
    """What was left behind is asked to end soon after its site answers, where the document wants that."""
    for row in rows.attempts:
        site, stage = rows.sites.get(row.site), rows.stage_at.get(row.n)
        if not (row.open and row.orphan) or row.cancel_requested_at is not None or site is None or stage is None:
            continue
        if site.cannot_ask_since is not None or site.last_ok_at is None or site.quarantined or row.state in _ENDING:
            continue
        later = [other.created_at for other in rows.by_stage[row.n] if other.number > row.number]
        since = max([*later, stage.ended_at or 0, row.unreachable_since or 0])
        wanted = StageState(stage.state).final or (_kills(rows, row.n) and stage.state in ("READY", "ACTIVE"))
        if wanted and since and site.last_ok_at > since + REAP and _answered_long(rows, row.site, site.last_ok_at):
            yield rows.name(row.n, row.number), f"was left behind; {row.site} answers, and nobody asked it to end that"


def _kills(rows: RunRows, n: int) -> bool:
    rules = rows.rules_at[n]
    return rules.get("failover", {}).get("old_copy") == "kill" and not rules.get("at")


def _answered_long(rows: RunRows, site: str, at: int) -> bool:
    return not any(s.end is None or s.end > at - REAP for s in rows.silences.get(site, ()))


_RULES: Sequence[tuple[str, Callable[[RunRows], Found]]] = (
    ("I7", _reaped),
    ("I8", _held_with_an_end),
    ("I9", _sent_again),
)

NAMES = tuple(dict.fromkeys(name for name, _ in _RULES))
"""The rules, by the names of the invariants that they see part of."""
