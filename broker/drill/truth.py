"""What really happened, held against what the broker believes.

The rows and events are judged by `broker.audit`; here the journals of the simulated sites, which no broker ever
reads, are the witness. Every exception is named where an assumption of the design was broken on purpose.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from broker.audit import audit_run
from broker.facts import is_copy
from broker.jobs import Job, outbound
from broker.states import AttemptState, StageState
from broker.store.base import AttemptRow, StageRow, Store
from connectors.model import JobState, Transfer, TransferState
from sandbox.connector import SimulatedSite
from sandbox.job import Execution
from sandbox.payload import parse_payload, sim_lines
from sandbox.world import SimulatedWorld


@dataclass
class Broken:
    """Assumptions that this story broke, so that nothing is asked that nobody can promise."""

    late_keys: set[str] = field(default_factory=set)
    """Submitted by a worker that had been stopped, between its last look and its call, until its claim lapsed."""
    dishonest: set[str] = field(default_factory=set)
    """Sites that lose jobs they have accepted, or show them too late: what is absent there may live."""
    doubling: set[str] = field(default_factory=set)
    """Sites that may take one submission twice."""
    ungated: set[str] = field(default_factory=set)
    """Sites whose disks came back empty, the claims with them."""
    gone: set[str] = field(default_factory=set)
    """Sites that never come back: what was there stays unknown for ever."""
    overruled: set[str] = field(default_factory=set)
    """Stages that a person started again although the old copy may live."""


@dataclass(frozen=True)
class Witness:
    """All that the journals say, by key."""

    sites: Mapping[str, SimulatedSite]

    def unrecorded_twice(self) -> set[str]:
        """Keys that a site ran twice, with no record of the first one's end: no gate can tell it from one that died."""
        runs = self.by_key().items()
        return {
            key
            for key, found in runs
            if len(found) > 1 and any(e.how == "done" and not e.left_record for _, e in found)
        }

    def ungated_twice(self, broken: Broken) -> set[str]:
        """Keys of which a site took several jobs whose claims it has lost: nothing stops the second one there."""
        journals = [site.model.journal for name, site in self.sites.items() if name in broken.ungated]
        return {key for journal in journals for key, count in journal.submissions().items() if count > 1}

    def executions(self, key: str) -> list[Execution]:
        return [e for site in self.sites.values() for e in site.model.journal.executions if e.key == key and e.began]

    def by_key(self) -> Mapping[str, list[tuple[str, Execution]]]:
        found: dict[str, list[tuple[str, Execution]]] = defaultdict(list)
        for name, site in self.sites.items():
            for execution in site.model.journal.executions:
                if execution.began:
                    found[execution.key].append((name, execution))
        return found


def judge(store: Store, sites: Mapping[str, SimulatedSite], broken: Broken, *, over: bool = True) -> list[str]:
    """Everything that is not as it must be, in words. `over`: the story has ended, nothing may be left open."""
    found = [str(violation) for run in store.runs() for violation in audit_run(store, run.run_id)]
    rows = [row for run in store.runs() for row in store.attempts(run.run_id)]
    found += keys_run_once(sites, broken)
    found += keys_accepted_once(sites, broken)
    witness = Witness(sites)
    unstoppable = witness.ungated_twice(broken) | witness.unrecorded_twice()
    loose = replace(broken, late_keys=broken.late_keys | unstoppable)
    found += closed_means_dead(rows, Witness(sites).by_key(), loose)
    found += canceled_means_silence(store, sites, broken)
    found += never_means_never(store, Witness(sites).by_key(), broken)
    found += products_are_real(store, sites)
    if over:
        found += nothing_left(store, sites, loose)
    return found


def keys_run_once(sites: Mapping[str, SimulatedSite], broken: Broken) -> Iterator[str]:
    """The start gate: executions of one key never overlap, and none follows one that came to its end."""
    where: dict[str, set[str]] = defaultdict(set)
    unrecorded = Witness(sites).unrecorded_twice()
    for name, site in sites.items():
        journal = site.model.journal
        for item in journal.accepted:
            where[item.key].add(name)
        if name in broken.ungated:
            continue
        for old, new in journal.overlaps():
            yield f"gate: {new.key} ran twice at once at {name} ({old.owner}, {new.owner})"
        for key, count in journal.completions().items():
            if count > 1 and key not in unrecorded:
                yield f"gate: {key} came to its end {count} times at {name}"
    yield from (f"key: {key} was submitted at {sorted(names)}" for key, names in where.items() if len(names) > 1)


def keys_accepted_once(sites: Mapping[str, SimulatedSite], broken: Broken) -> Iterator[str]:
    """Find before submitting again: an honest site never gets a second submission of a key that it has accepted."""
    for name, site in sites.items():
        if name in broken.dishonest | broken.doubling:
            continue
        for key, count in site.model.journal.submissions().items():
            if count > 1 and key not in broken.late_keys:
                yield f"double: {name} accepted {key} {count} times"


def closed_means_dead(
    rows: Collection[AttemptRow], executions: Mapping[str, list[tuple[str, Execution]]], broken: Broken
) -> Iterator[str]:
    """An attempt is called over only when nothing of it runs any more, and nothing of it ever will."""
    for row in rows:
        if row.open or row.submit_key in broken.late_keys or row.site in broken.dishonest:
            continue
        for _, run in executions.get(row.submit_key, ()):
            if run.ended_at is None or (row.ended_at is not None and run.ended_at > row.ended_at):
                what = f"{row.run_id}/{row.n}@{row.number} ({row.submit_key})"
                yield f"closed: {what} ended {row.state} at {row.ended_at}, its job lived until {run.ended_at}"


def canceled_means_silence(store: Store, sites: Mapping[str, SimulatedSite], broken: Broken) -> Iterator[str]:
    """I23 at the sites: nothing is accepted for a stage after it was canceled."""
    for run in store.runs():
        ended = {s.n: s.ended_at for s in store.stages(run.run_id) if s.state == StageState.CANCELED}
        keys = {row.submit_key: ended[row.n] for row in store.attempts(run.run_id) if row.n in ended}
        for site in sites.values():
            for item in site.model.journal.accepted:
                at = keys.get(item.key)
                if at is not None and item.at > at and item.key not in broken.late_keys:
                    yield f"I23: {item.key} was accepted {(item.at - at) / 1e6:g} s after its stage was canceled"


def never_means_never(
    store: Store, executions: Mapping[str, list[tuple[str, Execution]]], broken: Broken
) -> Iterator[str]:
    """`duplicates: never`: no two executions of a stage overlap, at any sites."""
    for run in store.runs():
        for stage in store.stages(run.run_id):
            if json.loads(stage.rules)["duplicates"] == "allow" or stage.path in broken.overruled:
                continue
            rows = store.attempts(run.run_id, stage.n)
            if any(r.submit_key in broken.late_keys or r.site in broken.dishonest | broken.ungated for r in rows):
                continue
            runs = [e for row in rows for _, e in executions.get(row.submit_key, ())]
            for a, b in combinations(sorted(runs, key=lambda e: e.started_at), 2):
                if a.ended_at is None or a.ended_at > b.started_at:
                    yield f"never: two copies of {run.run_id}/{stage.path} overlap ({a.owner}, {b.owner})"


def data_stays(store: Store, sites: Mapping[str, SimulatedSite]) -> Iterator[str]:
    """`data.stay`: a site that it does not name has taken a job only while two persons had waived that."""
    for run in store.runs():
        waivers = store.waivers(run.run_id)
        stays = {s.n: json.loads(s.rules).get("data", {}).get("stay", ()) for s in store.stages(run.run_id)}
        keys = {row.submit_key: stays[row.n] for row in store.attempts(run.run_id)}
        for name, site in sites.items():
            held = [(w.confirmed_at or 0, w.withdrawn_at or w.ends_at) for w in waivers if w.side == name]
            for item in site.model.journal.accepted:
                bound = keys.get(item.key)
                if bound and name not in bound and not any(start <= item.at < end for start, end in held):
                    yield f"data: {name} took {item.key}, whose data stays at {', '.join(bound)}"


def products_are_real(store: Store, sites: Mapping[str, SimulatedSite]) -> Iterator[str]:
    """A product's attempt really came to its end, and its manifest names what the payload really makes."""
    for run in store.runs():
        stages = {stage.n: stage for stage in store.stages(run.run_id)}
        winners = {(row.n, row.number): row for row in store.attempts(run.run_id)}
        for product in store.products(run.run_id):
            stage, row = stages[product.n], winners[product.n, product.attempt]
            at = f"{run.run_id}/{stage.path}"
            if not product.site:
                continue  # it has only moved data: see `copies_are_real`
            if not sites[product.site].model.journal.completions()[row.submit_key]:
                yield f"product: {at} has one of attempt {row.number}, which never came to its end"
            body = json.loads(stage.body)
            payload = parse_payload(sim_lines(body["run"].encode()))
            made = {path: payload.output(path, size).sha256 for path, size in payload.outputs}
            told = {path: digest for path, _, digest in json.loads(product.manifest)["files"]}
            wanted = tuple(item["path"] for item in body["outputs"])
            if told != {path: digest for path, digest in made.items() if _belongs(path, wanted)}:
                yield f"product: {at} names other files than its payload made"


def _belongs(path: str, outputs: Sequence[str]) -> bool:
    """Is it one of the outputs, or in a folder that is one?"""
    return any(path == output or (output.endswith("/") and path.startswith(output)) for output in outputs)


def copies_are_real(store: Store, world: SimulatedWorld) -> Iterator[str]:
    """What is said to have been brought lies there, whole; and after a confirmed cancel nothing more is brought."""
    for run in store.runs():
        for stage in store.stages(run.run_id):
            if not is_copy(stage.body):
                continue
            at = f"{run.run_id}/{stage.path}"
            wanted = {entry["from"]["stage"] for entry in _copied(stage) if isinstance(entry["from"], dict)}
            products = store.products_of(run.run_id, wanted)
            for row in store.attempts(run.run_id, stage.n):
                if wanted - products.keys():
                    continue
                for transfer in outbound(Job(stage=stage, attempt=row), products=products)[0]:
                    yield from _moved(transfer, row, world, at, product=stage.state == StageState.SUCCEEDED)


def _copied(stage: StageRow) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stage.body)["copy"]
    return found


def _moved(transfer: Transfer, row: AttemptRow, world: SimulatedWorld, at: str, *, product: bool) -> Iterator[str]:
    errand = world.errands.get(transfer.key)
    late = errand is not None and errand.state is TransferState.SUCCEEDED and (errand.due_at or 0) > (row.ended_at or 0)
    if row.state == AttemptState.CANCELED and late:
        yield f"copy: {at} was canceled for sure, and {transfer.key} was brought afterwards"
    for item in transfer.items if product else ():
        if item.destination.endswith("/"):
            there = bool(world.place(transfer.destination_site).below(item.destination))
        else:
            found = world.place(transfer.destination_site).get(item.destination)
            there = found is not None and item.sha256 in (None, found.sha256)
        if not there:
            yield f"copy: {at} has succeeded, and {item.destination} is not as it should be"


def nothing_left(store: Store, sites: Mapping[str, SimulatedSite], broken: Broken) -> Iterator[str]:
    """When the weather has cleared and all is quiet, nothing is open but at sites that are gone for good."""
    open_keys = set()
    for run in store.runs():
        waiting = {s.n for s in store.stages(run.run_id) if s.state == StageState.AWAITING_DECISION}
        for row in store.attempts(run.run_id):
            open_keys.add(row.submit_key if row.open else "")
            if row.open and row.site not in broken.gone and row.n not in waiting:
                yield f"left: {run.run_id}/{row.n}@{row.number} is {row.state} at {row.site}, orphan {row.orphan}"
        for effect in store.effects(run.run_id):
            if effect.state == "pending" and effect.site not in broken.gone and effect.n not in waiting:
                yield f"left: effect {effect.key} is pending at {effect.site} ({effect.note})"
    for name, site in sites.items():
        for job in site.model.all_jobs():
            late = job.key in broken.late_keys or name in broken.dishonest or name in broken.gone
            if job.state in (JobState.QUEUED, JobState.RUNNING) and not late and job.key not in open_keys:
                yield f"left: job {job.native_id} ({job.key}) is {job.state} at {name}, and nobody watches it"
    if all(StageState(stage.state).final for run in store.runs() for stage in store.stages(run.run_id)):
        yield from inputs_left(sites, broken)


def inputs_left(sites: Mapping[str, SimulatedSite], broken: Broken) -> Iterator[str]:
    """What was sent ahead goes with the stage."""
    for name, site in sites.items():
        if name not in broken.gone:
            yield from (f"left: {path} at {name}" for path, _ in site.model.disk.files_below("inputs"))


def ends(store: Store, run_id: str) -> tuple[str, ...]:
    """How a run and its stages ended."""
    run = store.run(run_id)
    if run is None:
        raise LookupError(run_id)
    return (run.state, *(f"{stage.path} {stage.state}" for stage in store.stages(run_id)))
