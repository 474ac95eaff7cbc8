"""Questions that change nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, func, literal_column, or_, select

from broker.states import RunState
from broker.store import turns
from broker.store.base import (
    AttemptRow,
    CheckpointRow,
    CommandRow,
    DecisionRow,
    DepRow,
    EffectRow,
    EventRow,
    EvidenceRow,
    LogTail,
    ProductRow,
    RunRow,
    SiteRow,
    StageRow,
)
from broker.store.connect import Database
from broker.store.schema import (
    attempt,
    checkpoint,
    command,
    decision,
    document,
    effect,
    event,
    evidence,
    log_tail,
    product,
    run,
    site,
    stage,
    stage_dep,
    stream,
)
from broker.store.statement import Lookup, Statement, given, given_time


def _of_run(table: Table, *order: ColumnElement[Any], also: Sequence[str] = ()) -> Statement:
    where = [table.c[name] == given(name) for name in ("run_id", *also)]
    return Statement(select(table).where(and_(*where)).order_by(*(order or table.primary_key)), "run_id", *also)


RUN = _of_run(run)
DOCUMENT = Statement(select(document.c.text).where(document.c.run_id == given("run_id")), "run_id")
STAGES = _of_run(stage)
STAGES_AT = Lookup(
    lambda numbers: select(stage).where(stage.c.run_id == given("run_id"), stage.c.n.in_(numbers)), "run_id"
)
DEPS = _of_run(stage_dep)
ATTEMPTS = _of_run(attempt)
ATTEMPTS_OF_STAGE = _of_run(attempt, also=("n",))
ATTEMPT_BY_KEY = Statement(select(attempt).where(attempt.c.submit_key == given("key")), "key")
OPEN_ATTEMPTS = Statement(
    select(attempt).where(attempt.c.open == 1, attempt.c.site == given("site")).order_by(*attempt.primary_key), "site"
)
DECISIONS = _of_run(decision)
DECISIONS_OF_STAGE = _of_run(decision, also=("n",))
EVENTS = Statement(
    select(event)
    .where(event.c.stream == given("stream"), event.c.seq > given("after"))
    .order_by(event.c.seq)
    .limit(given("limit")),
    "stream",
    "after",
    "limit",
)
STREAMS = Statement(select(stream).order_by(stream.c.stream))
TIP = Statement(select(stream.c.tip).where(stream.c.stream == given("stream")), "stream")
OTHER_STREAMS = Statement(select(stream).where(stream.c.stream.not_in(select(run.c.run_id))).order_by(stream.c.stream))
RUN_IDS = Statement(
    select(run.c.run_id).where(run.c.run_id > given("after")).order_by(run.c.run_id).limit(given("limit")),
    "after",
    "limit",
)
EFFECT = Statement(select(effect).where(effect.c.key == given("key")), "key")
EFFECTS = _of_run(effect, effect.c.created_at, effect.c.key)
PENDING_EFFECTS = Statement(
    select(effect)
    .where(effect.c.run_id == given("run_id"), effect.c.state == "pending")
    .order_by(effect.c.created_at, effect.c.key),
    "run_id",
)
PRODUCTS = _of_run(product)
PRODUCTS_OF = Lookup(
    lambda paths: (
        select(stage.c.path, product)
        .join(product, (product.c.run_id == stage.c.run_id) & (product.c.n == stage.c.n))
        .where(stage.c.run_id == given("run_id"), stage.c.path.in_(paths))
    ),
    "run_id",
)
CHECKPOINTS = _of_run(checkpoint)
COMMANDS = _of_run(command, command.c.at, command.c.id)
SITES = Statement(select(site).order_by(site.c.site))
EVIDENCE = Statement(
    select(evidence)
    .where(evidence.c.site == given("site"), evidence.c.at >= given_time("since"))
    .order_by(evidence.c.at.desc(), evidence.c.capability)
    .limit(given("limit")),
    "site",
    "since",
    "limit",
)
LOG_TAILS = _of_run(log_tail, log_tail.c.name, also=("n", "attempt"))
LOGGED_SIZES = Statement(
    select(log_tail.c.run_id, log_tail.c.n, log_tail.c.attempt, log_tail.c.name, log_tail.c.size)
    .join(
        attempt,
        (attempt.c.run_id == log_tail.c.run_id)
        & (attempt.c.n == log_tail.c.n)
        & (attempt.c.number == log_tail.c.attempt),
    )
    .where(attempt.c.open == 1, attempt.c.site == given("site")),
    "site",
)


def _runs(*, unfinished: bool, prefixed: bool) -> Statement:
    found: Select[Any] = select(run).order_by(run.c.created_at.desc(), run.c.run_id.desc()).limit(given("limit"))
    if unfinished:
        final: list[ColumnElement[str]] = [literal_column(f"'{state}'") for state in RunState if state.final]
        found = found.where(run.c.state.not_in(final))
    if prefixed:  # substr and not LIKE: % and _ are no patterns here, and case counts on every database
        start = func.substr(run.c.run_id, 1, func.length(given("prefix")))
        found = found.where(or_(start == given("prefix"), run.c.name == given("prefix")))
    return Statement(found, "prefix", "limit")


RUNS = {
    (unfinished, prefixed): _runs(unfinished=unfinished, prefixed=prefixed)
    for unfinished in (False, True)
    for prefixed in (False, True)
}


class Reading:
    """The half of the port that changes nothing. Each question is a transaction of its own and waits for nobody."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _rows(self, statement: Statement, *values: object) -> Sequence[Any]:
        return self._database.ask(lambda tx: tx.rows(statement, values))

    def _row(self, statement: Statement, *values: object) -> Any:
        return self._database.ask(lambda tx: tx.row(statement, values))

    def run(self, run_id: str) -> RunRow | None:
        row = self._row(RUN, run_id)
        return None if row is None else RunRow._make(row)

    def document(self, run_id: str) -> str | None:
        row = self._row(DOCUMENT, run_id)
        return None if row is None else str(row[0])

    def runs(self, *, unfinished: bool = False, limit: int = 100, prefix: str = "") -> Sequence[RunRow]:
        return [RunRow._make(row) for row in self._rows(RUNS[unfinished, bool(prefix)], prefix, limit)]

    def lines(self, names: Collection[str]) -> Mapping[str, int]:
        return self._database.read(lambda tx: turns.positions(tx, names))

    def stages(self, run_id: str) -> Sequence[StageRow]:
        return [StageRow._make(row) for row in self._rows(STAGES, run_id)]

    def stages_at(self, run_id: str, numbers: Collection[int]) -> Mapping[int, StageRow]:
        rows = self._database.read(lambda tx: tx.rows_of(STAGES_AT, (run_id,), numbers))
        return {row[1]: StageRow._make(row) for row in rows}

    def deps(self, run_id: str) -> Sequence[DepRow]:
        return [DepRow._make(row) for row in self._rows(DEPS, run_id)]

    def attempts(self, run_id: str, n: int | None = None) -> Sequence[AttemptRow]:
        rows = self._rows(ATTEMPTS, run_id) if n is None else self._rows(ATTEMPTS_OF_STAGE, run_id, n)
        return [AttemptRow._make(row) for row in rows]

    def attempt_by_key(self, submit_key: str) -> AttemptRow | None:
        row = self._row(ATTEMPT_BY_KEY, submit_key)
        return None if row is None else AttemptRow._make(row)

    def open_attempts(self, site: str) -> Sequence[AttemptRow]:
        return [AttemptRow._make(row) for row in self._rows(OPEN_ATTEMPTS, site)]

    def decisions(self, run_id: str, n: int | None = None) -> Sequence[DecisionRow]:
        rows = self._rows(DECISIONS, run_id) if n is None else self._rows(DECISIONS_OF_STAGE, run_id, n)
        return [DecisionRow._make(row) for row in rows]

    def events(self, stream: str, *, after: int = 0, limit: int = 100_000) -> Sequence[EventRow]:
        return [EventRow._make(row) for row in self._rows(EVENTS, stream, after, limit)]

    def streams(self) -> Sequence[tuple[str, int, str]]:
        return [(name, seq, tip) for name, seq, tip in self._rows(STREAMS)]

    def tip(self, stream: str) -> str:
        row = self._row(TIP, stream)
        return "" if row is None else str(row[0])

    def other_streams(self) -> Sequence[tuple[str, int, str]]:
        return [(name, seq, tip) for name, seq, tip in self._rows(OTHER_STREAMS)]

    def run_ids(self, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        return [run_id for (run_id,) in self._rows(RUN_IDS, after, limit)]

    def effect(self, key: str) -> EffectRow | None:
        row = self._row(EFFECT, key)
        return None if row is None else EffectRow._make(row)

    def effects(self, run_id: str) -> Sequence[EffectRow]:
        return [EffectRow._make(row) for row in self._rows(EFFECTS, run_id)]

    def pending_effects(self, run_id: str) -> Sequence[EffectRow]:
        return [EffectRow._make(row) for row in self._rows(PENDING_EFFECTS, run_id)]

    def products(self, run_id: str) -> Sequence[ProductRow]:
        return [ProductRow._make(row) for row in self._rows(PRODUCTS, run_id)]

    def products_of(self, run_id: str, paths: Collection[str]) -> Mapping[str, ProductRow]:
        rows = self._database.read(lambda tx: tx.rows_of(PRODUCTS_OF, (run_id,), paths))
        return {path: ProductRow._make(row) for path, *row in rows}

    def checkpoints(self, run_id: str) -> Sequence[CheckpointRow]:
        return [CheckpointRow._make(row) for row in self._rows(CHECKPOINTS, run_id)]

    def commands(self, run_id: str) -> Sequence[CommandRow]:
        return [CommandRow._make(row) for row in self._rows(COMMANDS, run_id)]

    def sites(self) -> Sequence[SiteRow]:
        return [SiteRow._make(row) for row in self._rows(SITES)]

    def evidence(self, site: str, *, limit: int = 100, since: int = 0) -> Sequence[EvidenceRow]:
        return [EvidenceRow._make(row)._replace(ok=bool(row[3])) for row in self._rows(EVIDENCE, site, since, limit)]

    def log_tails(self, run_id: str, n: int, attempt: int) -> Sequence[LogTail]:
        return [LogTail._make(row) for row in self._rows(LOG_TAILS, run_id, n, attempt)]

    def logged_sizes(self, site: str) -> Mapping[tuple[str, int, int, str], int]:
        rows = self._rows(LOGGED_SIZES, site)
        return {(run_id, n, number, name): size for run_id, n, number, name, size in rows}
