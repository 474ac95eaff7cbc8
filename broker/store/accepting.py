"""Taking what people ask for: runs, commands, site modes. And this installation's own identity."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import literal_column, null, or_, select

from broker.ids import RandomBits
from broker.states import RunState
from broker.store import chain, dating, wake
from broker.store.base import CommandRow, Installation, KeyTaken, NewEvent, NewRun, SiteRow, StoreError
from broker.store.connect import Tx
from broker.store.rows import INSERT_DEP, INSERT_STAGE
from broker.store.schema import command, document, installation, run, site, stage
from broker.store.statement import Statement, given, given_time, insert_row, upsert

INSERT_RUN = insert_row(run)
INSERT_DOCUMENT = insert_row(document)
HOLDER = Statement(
    select(run.c.run_id, run.c.state, run.c.request_digest)
    .where(or_(run.c.client_key == given("client_key"), run.c.run_id == given("run_id")))
    .with_for_update(),
    "client_key",
    "run_id",
)
DROP_KEY = Statement(
    run.update()
    .values(client_key=null())
    .where(run.c.run_id == given("run_id"), run.c.client_key == given("client_key")),
    "run_id",
    "client_key",
)

_GIVEN_UP = {str(RunState.FAILED), str(RunState.CANCELED)}


def create_run(tx: Tx, new: NewRun, *, again: bool) -> tuple[str, bool]:
    row = new.run
    former = []
    for run_id, state, digest in tx.rows(HOLDER, (row.client_key, row.run_id)):
        if run_id == row.run_id and digest == row.request_digest:
            return run_id, False  # stored before; its answer was lost
        if again or state in _GIVEN_UP:
            former.append(run_id)
            continue
        if digest != row.request_digest:
            raise KeyTaken(run_id)
        return run_id, False
    # only of those that were looked at: who took the key a moment ago keeps it, and the insert below finds that out
    tx.put(DROP_KEY, [(run_id, row.client_key) for run_id in former] if row.client_key is not None else ())
    tx.put(INSERT_RUN, [row])
    tx.put(INSERT_DOCUMENT, [(row.run_id, new.document)])
    tx.put(INSERT_STAGE, new.stages)
    tx.put(INSERT_DEP, new.deps)
    tx.put(dating.INSERT, new.deadlines)
    chain.append(tx, row.run_id, new.events, at=row.created_at)
    return row.run_id, True


# -- commands ------------------------------------------------------------------------------------------------


COMMAND_KNOWN = Statement(select(command.c.id).where(command.c.id == given("id")), "id")
INSERT_COMMAND = insert_row(command)
COUNT_COMMAND = Statement(
    run.update().values(commands=run.c.commands + literal_column("1")).where(run.c.run_id == given("run_id")), "run_id"
)
STAGE_NUMBER = Statement(
    select(stage.c.n).where(stage.c.run_id == given("run_id"), stage.c.path == given("path")), "run_id", "path"
)


def add_command(tx: Tx, new: CommandRow) -> None:
    """Kept once, however often it arrives."""
    if tx.row(COMMAND_KNOWN, (new.id,)):
        return
    if not tx.run(COUNT_COMMAND, (new.run_id,)):
        raise StoreError(f"there is no run {new.run_id}")
    found = tx.row(STAGE_NUMBER, (new.run_id, new.stage)) if new.stage else None
    wake.hint_runs(tx, (new.run_id,), now=new.at)
    tx.many(wake.HINT_STAGE, [(new.run_id, found[0], new.at)] if found else ())
    tx.run(INSERT_COMMAND, new)


# -- sites ---------------------------------------------------------------------------------------------------

SITE_NAMES = Statement(select(site.c.site))
SITE_MODE = Statement(
    site.update()
    .values(
        mode=given("mode"),
        mode_by=given("by"),
        mode_reason=given("reason"),
        mode_at=given_time("now"),
        mode_to=given("to"),
        mode_then=given("then"),
        clear_at=null(),
        ver=site.c.ver + literal_column("1"),
    )
    .where(site.c.site == given("site")),
    "site",
    "mode",
    "by",
    "reason",
    "now",
    "to",
    "then",
)
SITE_CLEAR = Statement(
    site.update()
    .values(clear_at=given_time("now"), ver=site.c.ver + literal_column("1"))
    .where(
        site.c.site == given("site"),
        site.c.mode == literal_column("'closed'"),
        site.c.mode_at == given_time("since"),
        site.c.clear_at.is_(None),
    ),
    "site",
    "since",
    "now",
)
SITE_OVERRIDE = Statement(
    site.update()
    .values(
        override=given("state"),
        override_by=given("by"),
        override_reason=given("reason"),
        override_until=given_time("until"),
        ver=site.c.ver + literal_column("1"),
    )
    .where(site.c.site == given("site")),
    "site",
    "state",
    "by",
    "reason",
    "until",
)
WANTING = 10_000
"""More runs than that do not wait for room at once; the others would be found by their own time."""


def _make_site(dialect: str) -> Any:
    values = {column.name: given(column.name) for column in site.columns}
    return upsert(dialect, site).values(values).on_conflict_do_nothing(index_elements=[site.c.site])


MAKE_SITE = Statement(_make_site, *SiteRow._fields)


def unknown_sites(tx: Tx, names: Iterable[str]) -> list[str]:
    """Those of the names that have no row."""
    known = {name for (name,) in tx.rows(SITE_NAMES)}
    return sorted(set(names) - known)


def make_sites(tx: Tx, names: Iterable[str]) -> None:
    """Rows for those that have none. Once a backup was restored, a site without a row may be one that was added,
    and used, in the hours that are lost: it begins in quarantine, which its first complete look ends."""
    known = known_installation(tx)
    quarantined = int(known is not None and known.incarnation > 0)
    tx.many(MAKE_SITE, [_fresh_site(name, quarantined) for name in names])


def set_site_mode(
    tx: Tx, name: str, *, mode: str, by: str, reason: str, to: str = "", then: str = "", now: int
) -> None:
    make_sites(tx, (name,))
    wake.hint(tx, wake.stages_at_site(tx, name), now=now)
    wake.wake_ready(tx, WANTING, now=now)
    tx.run(SITE_MODE, (name, mode, by, reason, now, to, then))
    also = {key: word for key, word in (("to", to), ("then", then)) if word}
    told = NewEvent(kind="site_mode", actor=by, data=json.dumps({"mode": mode, "reason": reason, **also}))
    chain.append(tx, f"site:{name}", [told], at=now)


def site_is_clear(tx: Tx, name: str, told: NewEvent, *, since: int, now: int) -> bool:
    """See the port."""
    if not tx.run(SITE_CLEAR, (name, since, now)):
        return False
    chain.append(tx, f"site:{name}", [told], at=now)
    return True


def override_site(tx: Tx, name: str, *, state: str, by: str, reason: str, until: int | None, now: int) -> None:
    make_sites(tx, (name,))
    wake.hint(tx, wake.stages_at_site(tx, name), now=now)
    wake.wake_ready(tx, WANTING, now=now)
    tx.run(SITE_OVERRIDE, (name, state, by, reason, until))
    data = {"state": state, "reason": reason, "until": until}
    chain.append(tx, f"site:{name}", [NewEvent(kind="override", actor=by, data=json.dumps(data))], at=now)


def _fresh_site(name: str, quarantined: int) -> SiteRow:
    return SiteRow(
        site=name,
        mode="up",
        mode_by="",
        mode_reason="",
        mode_at=None,
        next_poll_at=None,
        last_ok_at=None,
        cannot_ask_since=None,
        probes=0,
        detail="",
        ver=0,
        quarantined=quarantined,
    )


# -- installation --------------------------------------------------------------------------------------------

INSTALLATION = Statement(select(installation))
INSERT_INSTALLATION = insert_row(installation)


def known_installation(tx: Tx) -> Installation | None:
    row = tx.row(INSTALLATION)
    return None if row is None else Installation._make(row)


def make_installation(tx: Tx, bits: RandomBits, *, now: int) -> Installation:
    """Its identity, made now unless another process was first."""
    tx.hold_places()  # any lock that all share: two that look at once would both make one
    found = known_installation(tx)
    if found is None:
        found = Installation(id=f"{bits(64):016x}", incarnation=0, created_at=now)
        tx.run(INSERT_INSTALLATION, found)
    return found
