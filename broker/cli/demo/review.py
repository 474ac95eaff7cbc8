"""When both runs are over: what the rows and the jobs' own files say of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from broker.audit import audit_run
from broker.cli.demo.ground import Ground, Lost
from broker.cli.demo.measured import Pace
from broker.cli.demo.report import Moment, Move, Report
from broker.cli.demo.script import LAST, LOG, STAGE, Script
from broker.cli.telling import QUIET, sentence, subject
from broker.errors import NotFound
from broker.fetch import fetch, wanted_files
from broker.service import Service
from broker.states import RunState
from broker.store.base import AttemptRow, Store
from broker.traffic.asking import Traffic
from broker.traffic.rows import SUCCEEDED
from connectors.base import Site

PICTURE, DIGEST = "picture.png", "digest.txt"
KEPT_PICTURE = "tomography.png"
_BESIDES = frozenset({"silent", "answers"})
"""Events of sites that belong to the story."""
_TOLD_BY_OTHERS = frozenset({"run_running"})
"""The first stage that is placed says it, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What was done."""

    run_id: str
    undisturbed: str
    lost: Lost
    pace: Pace


def review(
    script: Script, course: Course, *, service: Service, ground: Ground, sites: Mapping[str, Site], began: float
) -> Report:
    """Nothing of it is taken from what was told on the way."""
    store = service.store
    runs = (course.run_id, course.undisturbed)
    digest, picture = _result(course.run_id, script.out, service, sites)
    digest_undisturbed, _ = _result(course.undisturbed, script.home / "undisturbed", service, sites)
    explained: Mapping[str, Any] = service.explain(f"{course.run_id}/{STAGE}")
    return Report(
        script=script,
        lost=course.lost,
        run=course.run_id,
        run_undisturbed=course.undisturbed,
        failures=[words for run_id in runs if (words := _failure(store, run_id))],
        moved=[move for move in successions(store, course.run_id) if move.origin != move.target],
        tried_again_undisturbed=successions(store, course.undisturbed),
        slices=_slices(service, ground, course.run_id),
        slices_undisturbed=sum(_slices(service, ground, course.undisturbed).values()),
        pace=course.pace,
        digest=digest,
        digest_undisturbed=digest_undisturbed,
        violations=[f"{v.rule}: {v.where} {v.what}" for run_id in runs for v in audit_run(store, run_id)],
        picture=picture,
        connectors=ground.connectors(),
        submissions=ground.submissions(),
        transfers=Traffic(store, service.clock, actor="demo").transfers()[::-1],
        needed=_needed(store, course.run_id),
        requests=ground.requests(),
        timeline=_timeline(store, course, script.home),
        decisions=explained["decisions"],
        seconds=time.monotonic() - began,
    )


def successions(store: Store, run_id: str) -> list[Move]:
    """Every further attempt of a stage, its site and that of the one before."""
    paths = {stage.n: stage.path for stage in store.stages(run_id)}
    rows = sorted(store.attempts(run_id), key=lambda row: (row.n, row.number))
    return [Move(paths[b.n], a.site, b.site, restored_seq(b)) for a, b in pairwise(rows) if a.n == b.n]


def restored_seq(attempt: AttemptRow) -> int:
    """The checkpoint that an attempt started from; 0: from none."""
    return int(json.loads(attempt.restore)["seq"]) if attempt.restore else 0


def _needed(store: Store, run_id: str) -> Mapping[str, bool]:
    """The projections to where they are reconstructed, and the checkpoint that the last attempt went on from."""
    paths = {stage.n: stage.path for stage in store.stages(run_id)}
    arrived = [row for row in store.traffic.movements_of(run_id) if row.state == SUCCEEDED and row.mover == "globus"]
    recon = [row for row in arrived if paths[row.n] == STAGE]
    began = next((row for row in store.attempts(run_id) if paths[row.n] == STAGE and row.restore), None)
    seq = int(json.loads(began.restore)["seq"]) if began is not None else 0
    shipped = any(f"checkpoint {seq} of" in row.label for row in recon)
    return {"the projections": any("projections" in row.items for row in recon), f"checkpoint {seq}": shipped}


def _failure(store: Store, run_id: str) -> str:
    run = store.run(run_id)
    if run is None or run.state == RunState.SUCCEEDED:
        return ""
    waiting = [f"{stage.path}: {stage.reason}" for stage in store.stages(run_id) if stage.reason]
    return f"run {run_id} is {run.state}: {run.reason or '; '.join(waiting)}"


def _slices(service: Service, ground: Ground, run_id: str) -> dict[int, int]:
    """Per attempt, the lines of its own log on the disk, also of one that nobody can reach any more."""
    _, stage = service.find(f"{run_id}/{STAGE}")
    attempts = service.store.attempts(run_id, stage.n) if stage else ()
    return {attempt.number: ground.lines(attempt, LOG) for attempt in attempts}


def _result(run_id: str, folder: Path, service: Service, sites: Mapping[str, Site]) -> tuple[str, Path | None]:
    """The digest and the picture, brought into that folder and verified; ("", None): there is no such product."""
    _, stage = service.find(f"{run_id}/{LAST}")
    stages = [stage] if stage else []
    try:
        files = wanted_files(stages, service.store.products(run_id), destination=folder, flat=True)
    except NotFound:
        return "", None
    targets = {PICTURE: folder / KEPT_PICTURE}
    files = [replace(file, target=targets.get(file.target.name, file.target)) for file in files]
    fetch(files, sites, told=lambda _file, _bytes: None)
    digest = (folder / DIGEST).read_text(encoding="ascii").strip()
    return digest, folder / KEPT_PICTURE


def _timeline(store: Store, course: Course, home: Path) -> Sequence[Moment]:
    """The run's events and those of the lost site, with our own deed among them."""
    run = store.run(course.run_id)
    start = run.created_at if run else 0
    events = [event for event in store.events(course.run_id) if event.kind not in QUIET | _TOLD_BY_OTHERS]
    events += [event for event in store.events(f"site:{course.lost.site}") if event.kind in _BESIDES]
    told = [(event.at, subject(event), sentence(event)) for event in events]
    deed = f"is lost: {course.lost.processes} processes killed, its files taken away"
    told.append((course.lost.at, course.lost.site, deed))
    told.sort(key=lambda line: line[0])
    # paths below the demo's own folder are as telling without it
    return [Moment((at - start) / 1e6, who, what.replace(f"{home}/", "")) for at, who, what in told]
