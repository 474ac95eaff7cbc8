"""Attempts that their stage went on without: let go, asked to end, superseded. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from broker.engine.attempt import Progress, never_submitted, to_state
from broker.engine.look import Look
from broker.engine.start import effect
from broker.engine.take_in import closed
from broker.states import AttemptState, StageState
from broker.store.base import AttemptRow, StageRow

_S, _A = StageState, AttemptState


def let_go(look: Look, stage: StageRow, row: AttemptRow, *, reason: str, by_us: bool = True) -> None:
    """The stage goes on without this attempt: from now on it is an orphan, to be reaped."""
    row = row._replace(orphan=1, reason=row.reason or reason)
    if by_us:
        row = ask_to_end(look, stage, row)
    look.rewrite(row)


def leave(look: Look, stage: StageRow, row: AttemptRow, *, reason: str) -> None:
    """The stage goes on elsewhere. The attempt stays behind as an orphan, unless nothing of it can exist."""
    row = row._replace(orphan=1, reason=reason)
    look.rewrite(call_off(look, stage, row) if unsubmitted(look, row) else row)


def ask_to_end(look: Look, stage: StageRow, row: AttemptRow, *, whenever: bool = False) -> AttemptRow:
    """Ask its site to end it, once, as soon as the site answers; what was never submitted is over at once. `whenever`:
    write the wish down although the site gives no answer; it is asked until it does."""
    if unsubmitted(look, row):
        return call_off(look, stage, row)
    if row.cancel_requested_at is not None or not (whenever or look.answers(row.site)):
        return row
    look.changes.effects.append(effect(look.world, row, "cancel", now=look.now))
    look.changes.dropped_effects.extend(f"{kind}:{row.submit_key}" for kind in ("stage_in", "submit", "copy"))
    look.tell(stage, "cancel", attempt=row.number, data={"site": row.site, "reason": row.reason})
    return row._replace(cancel_requested_at=look.now)


def unsubmitted(look: Look, row: AttemptRow) -> bool:
    """Can no job of it exist? Its submission was never decided, or is only being decided in this very look."""
    key = f"submit:{row.submit_key}"
    return never_submitted(row) or any(new.key == key for new in look.changes.effects)


def call_off(look: Look, stage: StageRow, row: AttemptRow) -> AttemptRow:
    """It ends here, wherever its site is: nobody needs to be asked, and its submission must not go out."""
    key = f"submit:{row.submit_key}"
    look.changes.effects[:] = [new for new in look.changes.effects if new.key != key]
    over = to_state(row, _A.CANCELED)._replace(open=0, ended_at=look.now, unreachable_since=None)
    data = {"site": row.site, "from": row.state, "to": over.state, "reason": row.reason}
    look.tell(stage, "canceled", attempt=row.number, data=data)
    closed(look, over)
    return over


def closed_by(look: Look, site: str) -> str:
    """Why everything of ours is to end at that site; empty: it is not."""
    row = look.snapshot.sites.get(site)
    if row is None or row.mode != "closed":
        return ""
    return f"{row.mode_by} closed {site}" + (f": {row.mode_reason}" if row.mode_reason else "")


def reap_orphans(look: Look, stage: StageRow, attempts: Mapping[int, Progress], *, all_of_them: bool = False) -> None:
    """Ask for the end of copies left behind, where the document wants that or nobody needs them any more."""
    for progress in attempts.values():
        row = progress.row
        wanted = row.orphan and look.rules_there(stage, row.site).failover.old_copy == "kill"
        wanted = wanted or bool(row.orphan and closed_by(look, row.site))
        ending = row.state in (_A.VERIFYING, _A.STAGING_OUT)
        if row.open and not ending and row.cancel_requested_at is None and (wanted or all_of_them):
            asked = ask_to_end(look, stage, row)
            if asked is not row:
                look.rewrite(asked)
        elif row.open and ending and all_of_them:
            supersede(look, stage, row)


def supersede(look: Look, stage: StageRow, row: AttemptRow) -> None:
    """It ended well, but its stage is over without it."""
    over = to_state(row, _A.SUPERSEDED)._replace(open=0, reason="another result was published first")
    look.rewrite(over)
    look.tell(stage, "superseded", attempt=row.number, data={"site": row.site})
    closed(look, over)
