"""Use cases, one method each: what people and programs may ask of the broker.

Everything here is a row written or read; whoever serves carries it out. Nothing waits for a site.
"""

from __future__ import annotations

import copy
import difflib
import getpass
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from broker import ids, views
from broker.alerts.rows import entries_json
from broker.charged import charge_view, charge_words
from broker.clock import Clock, FollowingClock, micros, wall_clock
from broker.config import Settings
from broker.errors import KeyInUse, NotFound, RefusedByPolicy, Unwritable, UsageError
from broker.facts import (
    is_copy,
    override_of,
    rules_of,
)
from broker.formats import ImportFault, import_wfformat, looks_like_wfformat
from broker.health import judge_all
from broker.holdings import Held, holding
from broker.operating.homes import HOME, home_of
from broker.people import whoami
from broker.possible import Possible, check, refuse_places
from broker.preflight import LOOKED_AT, warnings_for
from broker.prices import Prices
from broker.rows import rows_of, run_row
from broker.sites import Sites, load_sites
from broker.spec import (
    CompiledRun,
    RawDocument,
    Wrong,
    compile_workflow,
    document_from,
    load_workflow,
    read_document,
)
from broker.states import RunState, StageState
from broker.store.base import (
    AttemptRow,
    CommandRow,
    KeyTaken,
    NewEvent,
    NewRun,
    RunRow,
    StageRow,
    Store,
    StoreError,
)
from broker.store.sql import SqlStore
from broker.submitting import check_event_time, dated, refuse_addresses
from broker.underway import OnTheWay, copies_of, only_copies, still_open
from broker.whereabouts import Known, digests_of, whereabouts

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run that is stored. `new` is False when its key named a run that was there already."""

    run_id: str
    new: bool
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for: a document, and how to read it."""

    document: Path | RawDocument
    """A file; or a document that came by itself, and may name no files, neither here nor beside it."""
    params: Mapping[str, str]
    key: str | None = None
    again: bool = False
    bodies: Literal["noop", "sleep", "bytes"] = "noop"
    """For WfFormat documents: noop, sleep or bytes."""
    scale: float = 1.0
    name: str | None = None
    hold: bool = False
    """Store it held: nothing of it starts before it is released. What two persons may waive is not refused then."""
    event_at: int | None = None
    """When what it is about happened (µs): what a deadline `from: event` is counted from. None: as it is submitted."""
    from_outside: bool = False
    """It came over HTTP: it has people told whom the installation's owner has named, and nobody else."""

    @property
    def base(self) -> Path | None:
        """Where the document's files are."""
        return self.document.absolute().parent if isinstance(self.document, Path) else None


_AT_A_SITE = (StageState.ACTIVE.value, StageState.AWAITING_DECISION.value)


class Service:
    """The use cases over one installation's store and sites."""

    def __init__(self, *, settings: Settings, store: Store, sites: Sites, clock: Clock = wall_clock) -> None:
        self.settings, self.store, self.sites, self.clock = settings, store, sites, clock
        self.actor = settings.user or getpass.getuser()
        """Who asks, as events name it."""
        self.person = settings.person or whoami()
        """Who asks, where two persons must agree."""

    def on_behalf_of(self, person: str) -> Service:
        """The same for somebody else, who is known by that name."""
        other = copy.copy(self)
        other.actor = other.person = person
        return other

    # -- submitting --------------------------------------------------------------------------------------------

    def compile(self, request: Request) -> CompiledRun:
        """Read, check and fill in a document. Raises DocumentError."""
        raw = read_document(request.document) if isinstance(request.document, Path) else request.document
        base = request.base
        notes: Sequence[str] = ()
        if isinstance(raw.data, dict) and looks_like_wfformat(raw.data):
            raw, notes = self._imported(raw, request)
        workflow = load_workflow(raw, base=base)
        budget = max((config.unreachable_seconds for config in self.sites.configs.values()), default=60.0)
        # without a site document nobody knows the places: `validate` then checks the form, and `submit` refuses
        places = self.sites.places if self.sites.path is not None else None
        compiled = compile_workflow(workflow, params=request.params, base=base, probe_budget=budget, places=places)
        refuse_addresses(compiled.notify, raw, self.sites.notify, from_outside=request.from_outside)
        return replace(compiled, warnings=[*notes, *compiled.warnings])

    @staticmethod
    def _imported(raw: RawDocument, request: Request) -> tuple[RawDocument, Sequence[str]]:
        """A foreign document in our own language, and what was changed or assumed. Raises DocumentError."""
        stem = request.document.stem if isinstance(request.document, Path) else request.document.name
        named = request.name or stem
        try:
            imported = import_wfformat(dict(raw.data), name=named, bodies=request.bodies, scale=request.scale)
        except ImportFault as fault:
            raise raw.refuse([(fault.path, Wrong(fault.problem, fault.cure))]) from fault
        return document_from(imported.document, name=raw.name), imported.notes

    def submit(self, request: Request) -> Submitted:
        """Store a run, whole or not at all. Raises DocumentError, RefusedByPolicy, UsageError, Unwritable."""
        compiled = self.compile(request)
        possible = self.possible(compiled, hold=request.hold)
        self._keep_blobs(compiled)
        now = self.clock()
        if request.event_at is not None:
            check_event_time(request.event_at, now=now)
        run_id = ids.run_id(now, ids.random_bits)
        new = self._new_run(compiled, request, run_id=run_id, now=now)
        try:
            known, is_new = self.store.create_run(new, again=request.again)
        except KeyTaken as error:
            cure = "use another key, or --again for a new run"
            raise KeyInUse(str(error), run_id=error.run_id, help=cure) from error
        forbidden = possible.warnings(known) if is_new else ()
        warnings = [*compiled.warnings, *self.unknown_sites(compiled), *self.preflight(possible.sites)]
        warnings += [*self.prices().warnings(compiled, possible.sites), *forbidden]
        return Submitted(run_id=known, new=is_new, warnings=tuple(warnings))

    def _new_run(self, compiled: CompiledRun, request: Request, *, run_id: str, now: int) -> NewRun:
        stages, deps = rows_of(compiled, run_id, now=now)
        digest, name = compiled.digest, request.name or compiled.name
        row = run_row(run_id, name=name, digest=digest, stages=len(stages), by=self.actor, now=now)._replace(
            client_key=request.key or compiled.key,
            source=str(request.base or ""),
            held=int(request.hold),
            notify=entries_json(compiled.notify),
            event_at=request.event_at,
            at_once=compiled.at_once,
            in_line=int(compiled.at_once > 0),
        )
        row, deadlines = dated(compiled, row, stages)
        data = {"digest": compiled.digest, "stages": len(stages), "document": request.document.name}
        if request.hold:
            data["held"] = True
        if request.event_at is not None:
            data["event_at"] = request.event_at
        return NewRun(
            run=row,
            document=json.dumps(compiled.document, separators=(",", ":")),
            stages=stages,
            deps=deps,
            deadlines=deadlines,
            events=[NewEvent(kind="submitted", data=json.dumps(data), actor=self.actor)],
        )

    def possible(self, compiled: CompiledRun, *, hold: bool = False) -> Possible:
        """What sites could do with it; refuses what none could ever run, before anything is stored. `hold`: what two
        persons may still waive is not refused. Raises RefusedByPolicy."""
        return check(compiled, self.sites, hold=hold)

    def prices(self) -> Prices:
        """What stages would cost now."""
        return Prices(self.store, self.sites, self.clock, person=self.actor)

    def unknown_sites(self, compiled: CompiledRun) -> list[str]:
        """Sentences on names that the document gives to sites, and that no site, facility or profile has."""
        known = {name for c in self.sites.configs.values() for name in (c.name, c.facility, c.profile)}
        known.update(self.sites.places)
        named: dict[str, str] = {}
        for text, path in {stage.rules: stage.path for stage in reversed(compiled.stages)}.items():
            rules = json.loads(text)
            stay = rules["data"]["stay"] if "data" in rules else ()
            for name in [*(n for names in rules["sites"].values() for n in names), *rules["at"], *stay]:
                named.setdefault(name, path)
        return [
            f"stage {path} names {name!r}, which is no site, facility or profile here{_nearest(name, known)}"
            for name, path in sorted(named.items())
            if name not in known
        ]

    def preflight(self, sites: Collection[str]) -> list[str]:
        """Sentences on what a person should mend in time at these sites. Reads files and rows; asks no site."""
        rows = {row.site: row for row in self.store.sites()}
        now = self.clock()
        # a service's workers have their credentials where they are, not where somebody submits
        here = not self.settings.is_service
        return [
            sentence
            for name in sites
            for sentence in warnings_for(
                self.sites.configs[name],
                rows.get(name),
                self.store.evidence(name, limit=LOOKED_AT),
                now=now,
                credentials=here,
            )
        ]

    def _keep_blobs(self, compiled: CompiledRun) -> None:
        """Copy what the document's files hold into the broker's own store, checked against their digests."""
        try:
            for digest, source in compiled.blobs.items():
                _keep_blob(self.settings.blobs, digest, source)
        except OSError as error:
            raise Unwritable(
                f"cannot keep the document's files: {error}", help="free space, or set CROSSFADE_HOME"
            ) from error

    def plan(self, request: Request) -> list[dict[str, object]]:
        """Where each stage would start if the run were submitted now, and why not elsewhere."""
        from broker.planning import Planner  # noqa: PLC0415 - few verbs want it

        compiled = self.compile(request)
        refuse_places(compiled, self.sites)
        return Planner(self.store, self.sites, now=self.clock(), prices=self.prices()).plan(compiled)

    def planned_script(self, request: Request, site: str, stage: str | None = None) -> dict[str, object]:
        """The script and request that a site would be given for a stage. Raises NotFound, UsageError."""
        from broker.scripts import planned_script  # noqa: PLC0415 - imports Celery

        self._known_site(site)
        compiled = self.compile(request)
        return planned_script(compiled, stage, self.sites.configs[site], store=self.store, clock=self.clock)

    def attempt_script(self, target: str) -> dict[str, object]:
        """The script and request of RUN/STAGE@N. Raises NotFound, UsageError."""
        from broker.scripts import attempt_script  # noqa: PLC0415 - imports Celery

        run, stage, row = self.attempt(target)
        if is_copy(stage.body):
            raise UsageError(f"{stage.path} only moves data: no site was given a script for it")
        self._known_site(row.site)
        config = self.sites.configs[row.site]
        return attempt_script(run.run_id, stage.path, row, config, store=self.store, clock=self.clock)

    # -- commands ----------------------------------------------------------------------------------------------

    def command(self, kind: str, target: str, *, reason: str = "", args: Mapping[str, str] | None = None) -> str:
        """Ask for cancel, hold, release, retry or move of RUN or RUN/STAGE; the command's id."""
        run, stage = self.find(target)
        if stage is None and kind == "retry":
            return self._retry_all(run, reason)
        if stage is None and kind == "move":
            return self._move_all(run, reason, args or {})
        if stage is not None and kind == "move":
            return self._for_stages(kind, run, reason, args or {}, [stage])
        command = self._command(kind, run, stage.path if stage else "", reason, args or {})
        self.store.add_command(command)
        return command.id

    def _command(self, kind: str, run: RunRow, stage: str, reason: str, args: Mapping[str, str]) -> CommandRow:
        now = self.clock()
        ident = f"c{ids.run_id(now, ids.random_bits)}"
        return CommandRow(ident, run.run_id, stage, kind, json.dumps(dict(args)), self.actor, reason, now, None, "")

    def _retry_all(self, run: RunRow, reason: str) -> str:
        """Every stage that failed or waits for a person."""
        wanted = (StageState.FAILED.value, StageState.AWAITING_DECISION.value)
        return self._for_stages(
            "retry", run, reason, {}, [s for s in self.store.stages(run.run_id) if s.state in wanted]
        )

    def _move_all(self, run: RunRow, reason: str, args: Mapping[str, str]) -> str:
        stages = self.store.stages(run.run_id)
        stages = [s for s in stages if not StageState(s.state).final and not is_copy(s.body)]
        return self._for_stages("move", run, reason, args, stages)

    def _at_home(self, run: RunRow, stages: Sequence[StageRow]) -> Mapping[str, str]:
        """Where each of them is at home, by path. Raises UsageError where one has no home."""
        attempts, configs = self.store.attempts(run.run_id), self.sites.configs
        homes = {stage.path: home_of(stage, attempts, configs) for stage in stages}
        if lost := sorted(path for path, home in homes.items() if not home):
            words = f"{run.run_id}/{lost[0]} began nowhere, and its document prefers no site"
            raise UsageError(words, help="name the site: --to SITE")
        return homes

    def _for_stages(
        self, kind: str, run: RunRow, reason: str, args: Mapping[str, str], stages: Sequence[StageRow]
    ) -> str:
        if not stages:
            raise UsageError(f"nothing to {kind} in run {run.run_id}: it is {run.state}")
        homes = self._at_home(run, stages) if args.get("to") == HOME and HOME not in self.sites.configs else {}
        commands = [
            self._command(kind, run, stage.path, reason, {**args, **({"to": homes[stage.path]} if homes else {})})
            for stage in stages
        ]
        for command in commands:
            self.store.add_command(command)
        return commands[-1].id

    @staticmethod
    def refuse_command(kind: str, run: RunRow, stage: StageRow | None) -> None:
        """Refuse a command that could never be carried out. Raises UsageError, RefusedByPolicy."""
        if kind == "hold" and stage is not None and stage.state not in _AT_A_SITE:
            raise RefusedByPolicy(
                f"cannot hold {run.run_id}/{stage.path}: it is {stage.state}",
                help=f"a stage can be told to wait for its silent site; for the rest: crossfade hold {run.run_id}",
            )
        if kind in ("adopt", "reap") and stage is not None and (kind == "reap" or not StageState(stage.state).final):
            return  # also of a stage that is over something may be left behind
        over = StageState(stage.state).final if stage else RunState(run.state).final
        if kind != "retry" and over:
            name = f"{run.run_id}/{stage.path}" if stage else run.run_id
            state = stage.state if stage else run.state
            raise RefusedByPolicy(f"cannot {kind} {name}: it is {state}", help="see `crossfade history`")

    def asked(self, run_id: str, ident: str) -> dict[str, object]:
        """A command with its outcome. Raises NotFound."""
        row = next((c for c in self.store.commands(run_id) if c.id == ident), None)
        if row is None:
            raise NotFound(f"run {run_id} has no command {ident!r}")
        return views.command_view(row)

    def command_outcome(self, run_id: str, ident: str) -> str | None:
        """What became of a command; None: it has not been carried out yet."""
        return next((c.outcome for c in self.store.commands(run_id) if c.id == ident and c.done_at is not None), None)

    def drain_site(self, name: str, *, reason: str) -> None:
        """Start nothing new at a site; what runs there goes on."""
        self._known_site(name)
        self.store.set_site_mode(name, mode="drained", by=self.actor, reason=reason)

    def resume_site(self, name: str, *, reason: str) -> None:
        """Take a site into use again."""
        self._known_site(name)
        self.store.set_site_mode(name, mode="up", by=self.actor, reason=reason)

    def override_site(self, name: str, state: str, *, reason: str, seconds: float) -> int:
        """Say that a site is in that state, against all evidence; until when (µs)."""
        self._known_site(name)
        until = self.clock() + micros(seconds)
        self.store.override_site(name, state=state, by=self.actor, reason=reason, until=until)
        return until

    def end_override(self, name: str, *, reason: str) -> None:
        """Let evidence speak again. Raises RefusedByPolicy."""
        self._known_site(name)
        row = next((row for row in self.store.sites() if row.site == name), None)
        if row is None or override_of(row, self.clock()) is None:
            raise RefusedByPolicy(f"{name} has no override", help="see `crossfade site ls`")
        self.store.override_site(name, state="", by=self.actor, reason=reason, until=None)

    def release_site(self, name: str, *, reason: str) -> None:
        """End a site's quarantine by hand, although its jobs of the lost hours may not all be known."""
        self._known_site(name)
        data = json.dumps({"reason": reason})
        told = NewEvent(kind="released", data=data, actor=self.actor)
        if not self.store.lift_quarantine(name, told, now=self.clock()):
            raise RefusedByPolicy(f"{name} is not in quarantine", help="see `crossfade site ls`")

    def strays(self, name: str | None = None) -> list[dict[str, object]]:
        """Jobs that were found after a restore and that the backup did not know, at one site or at all."""
        if name is not None:
            self._known_site(name)
        rows = [row for row in self.store.strays() if name in (None, row.site)]
        return [views.stray_view(row, self._path(row.run_id, row.n)) for row in rows]

    def _path(self, run_id: str, n: int) -> str:
        stage = self.store.stages_at(run_id, [n]).get(n)
        return stage.path if stage else f"#{n}"

    def _known_site(self, name: str) -> None:
        if name not in self.sites.configs:
            known = ", ".join(sorted(self.sites.configs))
            raise NotFound(f"no site {name!r}", help=f"sites are: {known}")

    # -- finding -----------------------------------------------------------------------------------------------

    def find(self, target: str | None) -> tuple[RunRow, StageRow | None]:
        """RUN or RUN/STAGE; RUN may be left out (the newest), a unique prefix, or a name."""
        text = target or ""
        run_part, _, stage_part = text.partition("/")
        run = self._run(run_part)
        if not stage_part:
            return run, None
        path = stage_part.split("@", 1)[0]
        stage = next((s for s in self.store.stages(run.run_id) if s.path == path), None)
        if stage is None:
            raise NotFound(f"run {run.run_id} has no stage {path!r}", help=f"see `crossfade status {run.run_id}`")
        return run, stage

    def _run(self, text: str) -> RunRow:
        if text:
            exact = self.store.run(text)
            if exact is not None:
                return exact
        found = self.store.runs(prefix=text, limit=3 if text else 1)
        if not found:
            raise NotFound(f"no run {text!r}" if text else "there are no runs yet", help="see `crossfade history`")
        starting = [run for run in found if run.run_id.startswith(text)]
        if len(starting) > 1 and text:
            names = ", ".join(run.run_id for run in starting)
            raise UsageError(f"{text!r} could be more than one run: {names}", help="type more of it")
        return (starting or found)[0]

    @staticmethod
    def attempt_number(target: str) -> int | None:
        """The number in RUN/STAGE@2."""
        _, at, number = target.rpartition("@")
        if not at:
            return None
        if not number.isdigit():
            raise UsageError(f"{target!r}: after @ comes an attempt's number")
        return int(number)

    # -- reading -----------------------------------------------------------------------------------------------

    def status(self, target: str | None) -> dict[str, object]:
        """A run whole, as `status -o json` prints it."""
        run, stage = self.find(target)
        stages = [stage] if stage else self.store.stages(run.run_id)
        attempts = self.store.attempts(run.run_id, stage.n if stage else None)
        products, place = self.store.products(run.run_id), self._places_in_line([run]).get(run.run_id)
        return views.run_view(run, stages, attempts, products, now=self.clock(), place=place)

    def queue(self, *, limit: int = 10_000) -> list[dict[str, object]]:
        """Unfinished runs, newest first."""
        rows, now = self.store.runs(unfinished=True, limit=limit), self.clock()
        places = self._places_in_line(rows)
        return [views.run_line(run, now=now, place=places.get(run.run_id)) for run in rows]

    def _places_in_line(self, rows: Sequence[RunRow]) -> Mapping[str, int]:
        """Of those that wait for their turn, which it is."""
        names = {run.name for run in rows if run.in_line}
        return self.store.lines(names) if names else {}

    def history(self, *, limit: int = 50) -> list[dict[str, object]]:
        """All runs, newest first."""
        return [views.run_line(run, now=self.clock()) for run in self.store.runs(limit=limit)]

    def timeline(self, target: str | None) -> list[dict[str, object]]:
        """What happened, in order."""
        run, stage = self.find(target)
        events = self.store.events(run.run_id)
        return [views.event_view(e) for e in events if stage is None or e.stage == stage.path]

    def explain(self, target: str | None) -> dict[str, object]:
        """Every decision about a run or a stage, with its reasons and in words."""
        run, stage = self.find(target)
        paths = {s.n: s.path for s in self.store.stages(run.run_id)}
        rows = self.store.decisions(run.run_id, stage.n if stage else None)
        attempts = self.store.attempts(run.run_id, stage.n if stage else None)
        charges = self.store.money.charges(run.run_id, stage.n if stage else None)
        booked = [
            {"stage": paths[row.n], "attempt": row.attempt, "site": row.site, "words": charge_words(view), **view}
            for row, view in ((row, charge_view(row)) for row in charges)
        ]
        return {**views.explanation(run, stage, rows, paths, attempts), "charges": booked}

    def errors(self, target: str | None) -> list[dict[str, object]]:
        """Attempts that ended badly and stages that failed, with the end of their stderr."""
        run, stage = self.find(target)
        paths = {s.n: s for s in self.store.stages(run.run_id)}
        found = []
        for a in self.store.attempts(run.run_id, stage.n if stage else None):
            if a.failure or (a.reason and a.state in ("FAILED", "TIMED_OUT", "PREEMPTED")):
                tails = {t.name: t.tail for t in self.store.log_tails(run.run_id, a.n, a.number)}
                found.append(views.error_view(paths[a.n].path, a, tails.get("stderr", b"")))
        return found

    def logs(self, target: str | None) -> list[dict[str, object]]:
        """The last 64 KiB of each log of a stage's newest (or named) attempt, as kept by the broker."""
        run, stage = self.find(target)
        stages = [stage] if stage else self.store.stages(run.run_id)
        number = self.attempt_number(target) if target and stage else None
        found: list[dict[str, object]] = []
        for s in stages:
            tails = self.store.log_tails(run.run_id, s.n, number or s.attempt)
            found.extend(views.log_view(s.path, tail) for tail in tails)
        return found

    def checkpoints(self, target: str | None, *, everything: bool = False) -> list[dict[str, object]]:
        """Of each stage that has any, or asks for them: its checkpoints, where copies are, and the work at risk."""
        run, stage = self.find(target)
        held = Held(
            configs=self.sites.configs,
            sites={row.site: row for row in self.store.sites()},
            attempts=self.store.attempts(run.run_id, stage.n if stage else None),
            checkpoints=self.store.checkpoints(run.run_id),
            effects=self.store.effects(run.run_id),
            now=self.clock(),
        )
        saved = {row.n for row in held.checkpoints}
        stages = [stage] if stage else self.store.stages(run.run_id)
        wanted = [s for s in stages if s.n in saved or rules_of(s.rules).checkpoint is not None]
        rules = {s.n: rules_of(s.rules).checkpoint for s in wanted}
        keep = {n: rule.keep if rule else 1 for n, rule in rules.items()}
        return [holding(held, s, keep=keep[s.n], everything=everything) for s in wanted]

    def where(self, target: str | None) -> list[dict[str, object]]:
        """Of each stage that has a product: which sides hold it, how much of it, how sure that is, and where copies are
        being made; and what stages that only copy are about to bring."""
        run, stage = self.find(target)
        stages = [stage] if stage else self.store.stages(run.run_id)
        paths = {s.n: s.path for s in stages}
        products = [row for row in self.store.products(run.run_id) if row.n in paths]
        digests = frozenset[str]().union(*map(digests_of, products))
        purges = {name: config.purge for name, config in self.sites.configs.items() if config.purge}
        known = Known(replicas=self.store.traffic.replicas(digests), purges=purges)
        way = self._on_the_way(run.run_id)
        views = [
            {**view, "copies": [*view["copies"], *copies_of(row, way)]}  # type: ignore[misc]  # a list, as it is made
            for row in sorted(products)
            for view in [whereabouts(row, known, stage=paths[row.n])]
        ]
        copying = {s.n: s.path for s in stages if is_copy(s.body)}
        return [*views, *only_copies(copying, {row.n for row in products}, way)]

    def _on_the_way(self, run_id: str) -> OnTheWay:
        rows = still_open(self.store.traffic.movements_of(run_id))
        open_transfers = self.store.traffic.transfers(run_id=run_id, open_only=True, limit=10_000) if rows else ()
        return OnTheWay(movements=rows, transfers={row.key: row for row in open_transfers})

    def attempts(self, target: str | None) -> list[dict[str, object]]:
        """Every attempt, with its key and its job's native id."""
        run, stage = self.find(target)
        paths = {s.n: s.path for s in self.store.stages(run.run_id)}
        number = self.attempt_number(target) if target and stage else None
        rows = self.store.attempts(run.run_id, stage.n if stage else None)
        charges = {(row.n, row.attempt): charge_view(row) for row in self.store.money.charges(run.run_id)}
        return [
            {**views.attempt_long(paths[a.n], a), "charge": charges.get((a.n, a.number))}
            for a in rows
            if number is None or a.number == number
        ]

    def attempt(self, target: str) -> tuple[RunRow, StageRow, AttemptRow]:
        """RUN/STAGE@N (the newest attempt without @N)."""
        run, stage = self.find(target)
        if stage is None:
            raise UsageError(f"{target!r} names no stage", help="RUN/STAGE or RUN/STAGE@2")
        number = self.attempt_number(target) or stage.attempt
        row = next((a for a in self.store.attempts(run.run_id, stage.n) if a.number == number), None)
        if row is None:
            raise NotFound(f"{run.run_id}/{stage.path} has no attempt {number}")
        return run, stage, row

    def site_list(self) -> list[dict[str, object]]:
        """Every site: how it stands, since when, and why."""
        rows = {row.site: row for row in self.store.sites()}
        now, configs = self.clock(), self.sites.configs
        told = judge_all(self.store, configs, now=now)
        return [
            views.site_view(config, rows.get(name), told[name], load=len(self.store.open_attempts(name)), now=now)
            for name, config in configs.items()
        ]

    def kept(self, *, due: bool = False) -> list[dict[str, object]]:
        """What declared `keep`s will remove and have removed, newest first; `due`: only what is due by now."""
        now = self.clock()
        rows = self.store.due_retention(now=now, limit=1000) if due else self.store.retention(limit=1000)
        return [views.retention_view(row) for row in rows]

    def workers(self) -> list[dict[str, object]]:
        """Every process that serves this installation, or did."""
        return [views.worker_view(row) for row in self.store.workers()]

    def site(self, name: str) -> dict[str, object]:
        """One site with its newest evidence and its own events."""
        self._known_site(name)
        view = next(v for v in self.site_list() if v["site"] == name)
        evidence = [views.evidence_view(e) for e in self.store.evidence(name, limit=20)]
        events = [views.event_view(e) for e in self.store.events(f"site:{name}")[-20:]]
        return {**view, "leaving": self._leaving(name), "evidence": evidence, "events": events}

    def _leaving(self, name: str) -> dict[str, object] | None:
        """How far a site is evacuated, or closed; None: it is neither."""
        from broker.operating.leaving import Leavings, line  # noqa: PLC0415 - it is built on this

        found = Leavings(self).progress(name)
        says = line(found)
        return {**found, "says": says} if says else None


def open_store(settings: Settings, *, clock: Clock = wall_clock) -> Store:
    """The installation's database, made or brought up to date. Raises Unwritable."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        words = f"cannot use {settings.home}: {error.strerror}"
        raise Unwritable(words, help="check the folder and its owner, or set CROSSFADE_HOME") from error
    try:
        if settings.postgres is not None:
            return SqlStore(settings.postgres.url, clock=clock)
        return SqlStore.open(settings.database, clock=clock)
    except (OSError, StoreError) as error:
        help = "check the folder and the disk, or set CROSSFADE_HOME"  # noqa: A001 - the word of our errors
        if settings.postgres is not None:
            help = "check CROSSFADE_DATABASE, and whether the server runs"  # noqa: A001
        where = settings.postgres or settings.database
        said = str(error).partition("; whether")[0]  # nothing was being written yet
        raise Unwritable(f"cannot use {where}: {said}", help=help) from error


def open_service(settings: Settings, *, clock: Clock = wall_clock) -> Service:
    """The use cases over this installation. Close its store when done.

    A service's time is its database's: its processes live on machines whose clocks need not agree.
    """
    sites = load_sites(settings.sites, home=settings.home, cwd=Path.cwd(), env=os.environ)
    store = open_store(settings, clock=clock)
    shared = FollowingClock(store.now) if settings.is_service else clock
    return Service(settings=settings, store=store, sites=sites, clock=shared)


def _nearest(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _keep_blob(folder: Path, digest: str, source: Path) -> None:
    """Copy a file in under its digest; a source that changed since it was read is refused."""
    target = folder / digest[:2] / digest
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = target.with_name(f".{digest}.{os.getpid()}")
    try:
        with source.open("rb") as reading, temporary.open("wb") as writing:
            shutil.copyfileobj(reading, writing, 1 << 20)
            writing.flush()
            os.fsync(writing.fileno())
        if _digest(temporary) != digest:
            raise UsageError(f"{source} changed while it was read", help="submit again")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unfinished(rows: Collection[RunRow]) -> list[str]:
    """Ids of the runs among these that are not final."""
    return [row.run_id for row in rows if not RunState(row.state).final]
