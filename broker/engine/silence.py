"""What follows when a site gives no answer, or an operator wants a stage elsewhere. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from broker.cases.kept import kept
from broker.engine.attempt import Progress
from broker.engine.braking import braked
from broker.engine.closing import asked_for
from broker.engine.freezing import stays
from broker.engine.look import Look
from broker.engine.orphans import ask_to_end, leave, unsubmitted
from broker.engine.placing import place
from broker.engine.prospects import prospect
from broker.engine.take_in import advance_all
from broker.engine.takers import takers_now
from broker.engine.words import last_fact
from broker.facts import (
    silent_at,
    tries_of,
)
from broker.states import AttemptState, StageState, move
from broker.store.base import AttemptRow, StageRow
from policies import failover, outages, placement
from policies.model import Decision, Reason, Rules, SiteFacts

_S, _A = StageState, AttemptState


def cannot_ask(look: Look, stage: StageRow, current: Progress, rules: Rules) -> StageRow:
    """Its site does not answer. The job may live: stay, carry it elsewhere, or ask a person."""
    row = current.row
    site = look.site(row.site)
    if site is None:
        return stage._replace(due_at=None, reason=f"site {row.site} is no longer in the site document")
    elsewhere, seen = takers_now(look, stage, row.site), None
    if elsewhere and failover.may_leave(rules, site, look.now, look.world.numbers.failover):
        elsewhere, seen = prospect(look, stage, row, elsewhere)
    asked: dict[str, Any] = {
        "rules": rules,
        "site": site,
        "now": look.now,
        "tries": tries_of(stage),
        "elsewhere": elsewhere,
        "stop_before": row.stop_before,
        "surely_dead": unsubmitted(look, row),
        "past": look.world.outages.get(row.site, ())[-outages.KEPT :],
        **({"prospect": seen} if seen is not None else {}),
    }
    decision = judged = failover.judge(**asked, numbers=look.world.numbers.failover)
    shut: Collection[str] = ()
    if decision.outcome in ("move", "ask") and stage.want == row.site:
        decision = _stays(decision, Reason("hold", "stay", f"a person wants it to wait for {row.site}"))
    elif decision.outcome == "move" and look.run_row.held:
        decision = _stays(decision, Reason("held", "stay", "the run is held: nothing new starts, elsewhere neither"))
    elif decision.outcome == "move":
        decision = asked_for(look, site.name, stays(look, site.name, decision))
    if decision.outcome == "move":
        decision, shut = braked(look, stage, rules, elsewhere, decision, away=row.site)
    if decision.outcome == "move" and look.books and not unsubmitted(look, row):
        overspent = look.books.may_double(stage, row, rules)
        if overspent is not None:
            decision = replace(decision, outcome="ask", reasons=(*decision.reasons, overspent))
    if decision.outcome == "move":
        return carry_elsewhere(look, stage, row, kept(decision, "failover", asked, judged=judged), shut)
    if decision.outcome == "ask":
        return ask(look, stage, row, kept(decision, "failover", asked, judged=judged))
    words = f"{_OUTCOMES[decision.outcome].format(site=decision.site)}: {last_fact(decision)}"
    if stage.reason != words and site.silent:
        look.tell(stage, "stays", attempt=row.number, decision=kept(decision, "failover", asked, judged=judged))
    return stage._replace(due_at=next_look(look, site.name, decision.until, elsewhere), reason=words)


_OUTCOMES = {"stay": "stay", "advise": "advise to go on at {site}"}


def _stays(decision: Decision, reason: Reason) -> Decision:
    return Decision("failover", "stay", (*decision.reasons, reason), facts=decision.facts)


def ask(look: Look, stage: StageRow, row: AttemptRow, decision: Decision) -> StageRow:
    """A person decides whether it leaves its site; told with the commands that answer."""
    words = f"{last_fact(decision)}; {answers(stage, row.site, decision.site)}"
    look.waits_for = words
    data = {"reason": last_fact(decision), "help": answers(stage, row.site, decision.site)}
    look.tell(stage, "asks", attempt=row.number, data=data, decision=decision)
    return stage._replace(state=move(_S.ACTIVE, _S.AWAITING_DECISION).value, reason=words, due_at=None)


def answers(stage: StageRow, site: str, best: str) -> str:
    """What a person types who is asked: go, wait, or let the broker choose."""
    name = f"{stage.run_id}/{stage.path}"
    go = f"crossfade move {name} --to {best or 'SITE'}"
    return (
        f"answer with `{go}`, `crossfade hold {name}` (wait for {site}) or `crossfade retry {name}` (wherever it can)"
    )


def next_look(look: Look, site: str, until: int | None, elsewhere: Sequence[SiteFacts]) -> int:
    row = look.snapshot.sites.get(site)
    spent = silent_at(look.world.sites[site], row) if row else None
    ahead = [at for at in (until, spent) if at is not None and at > look.now]
    if ahead and elsewhere:
        return min(ahead)
    return min([*ahead, look.now + placement.WAIT_FOR_ANSWER])


def carry_elsewhere(
    look: Look, stage: StageRow, row: AttemptRow, decision: Decision, shut: Collection[str] = ()
) -> StageRow:
    """Carry the stage elsewhere; the old attempt stays behind as an orphan. `shut`: sites that the storm brake gives
    nothing more just now."""
    reason = f"left behind: {row.site} gives no answer"
    data = {"from": row.site, "reason": decision.reasons[0].fact}
    look.tell(stage, "failover", attempt=row.number, data=data, decision=decision)
    leave(look, stage, row, reason=reason)  # a submission in doubt is still to be found out: the copy may live
    ready = stage._replace(
        state=move(_S.ACTIVE, _S.READY).value, ready_at=look.now, failovers=stage.failovers + 1, due_at=None
    )
    return place(look, ready, why="failover", shut=shut)


def move_away(look: Look, stage: StageRow, *, by: str) -> tuple[StageRow | None, str]:
    """An operator wants the stage at `stage.want`: end its current attempt, or leave it behind if its site is
    dark. What it had checkpointed goes with it."""
    attempts = advance_all(look, stage)
    current = attempts.get(stage.attempt)
    if current is None or not current.row.open or adopted_later(attempts):
        return stage._replace(due_at=look.now), "its attempt has just ended; goes on at " + stage.want
    row, site = current.row, look.site(current.row.site)
    if row.site == stage.want:
        return None, f"it is at {row.site} already"
    if site is not None and site.answers:
        asked = look.rewrite(ask_to_end(look, stage, row._replace(reason=by)))
        if not asked.open:
            return stage._replace(due_at=look.now), f"it was not submitted yet; goes on at {stage.want}"
        return stage._replace(due_at=None), f"asked {row.site} to stop it; goes on at {stage.want} then"
    if look.rules_there(stage, row.site).duplicates == "never" and not unsubmitted(look, row):
        return None, f"not possible: duplicates: never, and nobody knows whether the copy at {row.site} lives"
    leave(look, stage, row, reason=by)
    ready = stage._replace(state=move(_S.ACTIVE, _S.READY).value, ready_at=look.now, due_at=None)
    return place(look, ready, why="move"), f"left {row.site} behind, which gives no answer"


def adopted_later(attempts: Mapping[int, Progress]) -> bool:
    return any(p.row.state == _A.SUCCEEDED for p in attempts.values())
