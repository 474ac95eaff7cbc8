"""Rows as people and programs read them: plain dictionaries, the same for tables, JSON and YAML."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from broker.engine.words import in_line
from broker.facts import override_of
from broker.health import Told
from broker.store.base import (
    AttemptRow,
    CommandRow,
    DecisionRow,
    EventRow,
    EvidenceRow,
    LogTail,
    ProductRow,
    RetentionRow,
    RunRow,
    SiteRow,
    StageRow,
    StrayRow,
    WorkerRow,
)
from connectors.registry import SiteConfig
from policies.explain import sentences
from policies.health import Judgement
from policies.model import Decision
from policies.verdicts import State
from policies.whatif import what_if

View = dict[str, object]

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands (titles, links, clipboards)
    r"|\x1b[PX^_].*?(?:\x1b\\|$)"  # device control and other strings
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # control sequences (colours, cursor)
    r"|\x1b[ -/]*[0-~]"
    r"|[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]",
    re.DOTALL,
)


def clean_text(data: bytes | str) -> str:
    """A job's output as text that cannot steer a terminal."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return _ESCAPES.sub("", text)


def when(at: int | None) -> str | None:
    """A time as ISO 8601, UTC, to the millisecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def attempt_state(row: AttemptRow) -> str:
    """The state as people see it: UNREACHABLE stands before what it was when it could last be asked."""
    return "UNREACHABLE" if row.unreachable_since is not None and row.open else row.state


def run_view(
    run: RunRow,
    stages: Sequence[StageRow],
    attempts: Iterable[AttemptRow],
    products: Iterable[ProductRow],
    *,
    now: int,
    place: int | None = None,
) -> View:
    """A run with its stages and their attempts."""
    by_stage: dict[int, list[AttemptRow]] = defaultdict(list)
    for attempt in attempts:
        by_stage[attempt.n].append(attempt)
    winners = {product.n: product for product in products}
    return {
        **run_line(run, now=now, place=place),
        "stages": [stage_view(s, by_stage[s.n], winners.get(s.n)) for s in stages],
    }


def run_line(run: RunRow, *, now: int, place: int | None = None) -> View:
    """A run in one line. `place`: in the line of those of its name, of which only so many go on at once."""
    waits = (run.reason or in_line(run)) if run.in_line else run.reason
    return {
        "run": run.run_id,
        "name": run.name,
        "state": run.state,
        "reason": "held" if run.held and not waits else waits + (f"; place {place} in line" if place else ""),
        "stages_total": run.stages,
        "stages_left": run.unsettled,
        "failed": run.failed,
        "orphans_or_open_attempts": run.open_attempts,
        "held": bool(run.held),
        "place": place,
        "created_at": when(run.created_at),
        "ended_at": when(run.ended_at),
        "seconds": round(((run.ended_at or now) - run.created_at) / 1e6, 3),
        "by": run.created_by,
    }


def stage_view(stage: StageRow, attempts: Sequence[AttemptRow], product: ProductRow | None) -> View:
    """A stage: its state, where it is or was, and every attempt."""
    current = next((a for a in attempts if a.number == stage.attempt), None)
    state = stage.state
    if state == "ACTIVE" and current is not None and attempt_state(current) == "UNREACHABLE":
        state = "UNREACHABLE"
    return {
        "name": stage.path,
        "state": state,
        "site": (product.site if product else current.site if current else "") or None,
        "epoch": stage.epoch,
        "reason": stage.reason,
        "attempts": [attempt_view(a) for a in attempts],
    }


def attempt_view(row: AttemptRow) -> View:
    """An attempt in short."""
    restore = json.loads(row.restore) if row.restore else None
    return {
        "number": row.number,
        "site": row.site or None,
        "state": attempt_state(row),
        "reason": row.reason,
        "why": row.why,
        "orphan": bool(row.orphan),
        "from_checkpoint": restore["seq"] if restore else None,
        "started_at": when(row.started_at),
        "ended_at": when(row.ended_at),
    }


def attempt_long(path: str, row: AttemptRow) -> View:
    """An attempt with what is needed to find its job at the site."""
    restore = json.loads(row.restore) if row.restore else None
    return {
        "stage": path,
        **attempt_view(row),
        "epoch": row.epoch,
        "key": row.submit_key,
        "native_id": row.native_id,
        "directory": row.directory,
        "failure": row.failure,
        "restored_from": restore,
        "unreachable_since": when(row.unreachable_since),
        "cancel_requested_at": when(row.cancel_requested_at),
        "stop_before": when(row.stop_before),
        "created_at": when(row.created_at),
        "submitted_at": when(row.submitted_at),
    }


def event_view(event: EventRow) -> View:
    """One line of a timeline."""
    return {
        "seq": event.seq,
        "at": when(event.at),
        "stage": event.stage,
        "attempt": event.attempt or None,
        "event": event.kind,
        "actor": event.actor,
        "data": json.loads(event.data),
    }


def command_view(row: CommandRow) -> View:
    """What somebody asked for, and what became of it. `outcome` is null until somebody has carried it out."""
    return {
        "command": row.id,
        "kind": row.kind,
        "run": row.run_id,
        "stage": row.stage or None,
        "args": json.loads(row.args),
        "reason": row.reason,
        "by": row.actor,
        "at": when(row.at),
        "done_at": when(row.done_at),
        "outcome": row.outcome if row.done_at is not None else None,
    }


def decision_view(decision: Decision) -> View:
    """A decision with its reasons, and in words."""
    return {
        "kind": decision.kind,
        "outcome": decision.outcome,
        "site": decision.site or None,
        "words": sentences(decision),
        "reasons": [
            {"rule": r.rule, "verdict": r.verdict, "fact": r.fact, "site": r.site or None} for r in decision.reasons
        ],
        "facts": dict(decision.facts),
    }


def explanation(
    run: RunRow,
    stage: StageRow | None,
    rows: Sequence[DecisionRow],
    paths: dict[int, str],
    attempts: Sequence[AttemptRow],
) -> View:
    """Every decision, oldest first."""
    waiting = stage.reason if stage is not None else run.reason
    return {
        "run": run.run_id,
        "stage": stage.path if stage else None,
        "state": stage.state if stage else run.state,
        "now": waiting,
        "attempts": [{"stage": paths[a.n], **attempt_view(a)} for a in attempts] if stage else [],
        "decisions": [
            {
                "at": when(row.at),
                "stage": paths.get(row.n),
                "attempt": row.attempt or None,
                **decision_view(decision := Decision.from_json(row.detail)),
                "what_if": what_if(decision),
            }
            for row in rows
        ],
    }


def error_view(path: str, row: AttemptRow, stderr: bytes) -> View:
    """How an attempt ended badly."""
    tail = clean_text(stderr).splitlines()[-20:]
    return {
        "stage": path,
        "attempt": row.number,
        "site": row.site or None,
        "state": row.state,
        "fault": row.failure or None,
        "reason": row.reason,
        "at": when(row.ended_at),
        "stderr": tail,
    }


def log_view(path: str, tail: LogTail) -> View:
    """The end of one log."""
    return {
        "stage": path,
        "attempt": tail.attempt,
        "log": tail.name,
        "read_at": when(tail.read_at),
        "text": clean_text(tail.tail),
    }


def site_view(config: SiteConfig, row: SiteRow | None, told: Told, *, load: int, now: int) -> View:
    """How a site stands, and how it is judged to be."""
    silent = row.cannot_ask_since if row else None
    state = "up"
    if row and row.quarantined:
        state = "quarantined"
    elif row and row.mode != "up":
        state = row.mode
    elif silent is not None:
        state = "silent"
    elif row is None or row.last_ok_at is None:
        state = "unknown"
    return {
        "site": config.name,
        "state": state,
        "facility": config.facility or config.name,
        "connector": config.connector,
        "slots": config.slots,
        "load": load,
        "last_answer": when(row.last_ok_at) if row else None,
        "silent_since": when(silent),
        "silent_seconds": round((now - silent) / 1e6, 1) if silent is not None else None,
        "probes_failed": row.probes if row else 0,
        "detail": row.detail if row else "",
        "reason": row.mode_reason if row else "",
        "by": row.mode_by if row else "",
        "quarantined": bool(row and row.quarantined),
        "root": config.root,
        "health": _summary(told),
        "override": _override_view(row, now) if row else None,
        "asked_again": when(told.asked_again(now, now)),
        "capabilities": health_view(told, now=now),
        "swallowed": swallowed_view(told, now=now),
    }


def stray_view(row: StrayRow, path: str) -> View:
    """A job of the hours that a restored backup does not know. `path`: of the stage that it belongs to, if any."""
    return {
        "key": row.key,
        "site": row.site,
        "native_id": row.native_id,
        "state": row.state,
        "stage": f"{row.run_id}/{path}" if row.run_id else None,
        "fate": row.fate,
        "found_at": when(row.found_at),
        "done_at": when(row.done_at),
        "outcome": row.outcome or None,
    }


def health_view(told: Told, *, now: int) -> View:
    """How each capability of a site is: state, why, since when that is known and from where, and what comes next."""
    return {name: _judgement_view(one, now) for name, one in told.health.capabilities.items()}


def _summary(told: Told) -> str:
    """What is not as it should be, in few words; else up, or unknown where nothing is known yet."""
    judged = told.health.capabilities
    bad: dict[str, list[str]] = {}
    for name, one in judged.items():
        if one.state not in (State.UP, State.UNKNOWN):
            bad.setdefault(one.state.value, []).append(name)
    if bad:
        return "; ".join(
            state if names == [*judged] else f"{state}: {', '.join(names)}" for state, names in bad.items()
        )
    return told.health.capabilities["status"].state.value


def _judgement_view(one: Judgement, now: int) -> View:
    return {
        "state": one.state.value,
        "rule": one.rule,
        "reason": one.fact,
        "source": one.source or None,
        "at": when(one.at),
        "age_seconds": round((now - one.at) / 1e6, 1) if one.at is not None else None,
        "until": when(one.until),
        "then": one.then or None,
        "reasons": [{"rule": r.rule, "state": r.verdict, "fact": r.fact} for r in one.reasons],
    }


def _override_view(row: SiteRow, now: int) -> View | None:
    override = override_of(row, now)
    if override is None:
        return None
    until = when(override.until)
    return {"state": override.state.value, "by": override.by, "reason": override.reason, "until": until}


def swallowed_view(told: Told, *, now: int) -> list[View]:
    """Whose jobs are not sent to a site now, because all of theirs ended there fast and badly."""
    found = (*told.holes.applications.items(), *told.holes.persons.items())
    return [
        {"of": name, "reason": hole.words, "until": when(hole.tries_at)} for name, hole in found if now < hole.tries_at
    ]


def evidence_view(row: EvidenceRow) -> View:
    """One measured or published fact about a site."""
    return {
        "at": when(row.at),
        "capability": row.capability,
        "ok": row.ok,
        "latency_ms": row.latency_us / 1e3,
        "detail": row.detail,
        "source": row.source,
    }


def retention_view(row: RetentionRow, outcome: str = "", why: str = "", files: int = 0, size: int = 0) -> View:
    """What a declared `keep` removes; with what a pass made, or would make, of it."""
    told: View = {} if not outcome else {"outcome": outcome, "files": files, "bytes": size}
    return {
        "side": row.side,
        "path": row.path,
        "state": row.state,
        "due_at": when(row.due_at),
        "run": row.run_id,
        "reason": why or row.reason,
        "key": row.key,
        "created_at": when(row.created_at),
        "removed_at": when(row.done_at),
        **told,
    }


def worker_view(row: WorkerRow) -> View:
    """One process that serves, alive or gone: `seen_at` tells."""
    return {
        "worker": row.name,
        "kind": row.kind,
        "host": row.host,
        "queues": row.queues,
        "started_at": when(row.started_at),
        "seen_at": when(row.seen_at),
        "progress_at": when(row.progress_at),
        "detail": row.detail,
    }
