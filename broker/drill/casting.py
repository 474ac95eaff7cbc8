"""Who plays: the drill's sites or twins of a person's own, and the workflow, with a payload where it has none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broker.drill.document import DrillDocument
from broker.sites import Sites, sites_of
from broker.spec import CompiledRun, RawDocument, compile_workflow, document_from, load_workflow
from sandbox.payload import sim_lines

WORK = 3600.0
"""Seconds that a stage works whose document tells no walltime; of one that does, half of it."""
LAPS = 60
"""Checkpoints of a stage that is given work."""
OUTPUT = 1_000_000
"""Bytes of each output of a stage that is given work."""
POLL = 15.0
"""Seconds between two looks at a twin, which real sites are seldom asked more often for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """All that a drill is played with."""

    sites: Sites
    run: CompiledRun
    given: tuple[str, ...] = ()
    """Stages that were given work, for their own commands are not executed."""


def cast(
    drill: DrillDocument,
    *,
    name: str,
    workflow: RawDocument | None = None,
    base: Path | None = None,
    params: Mapping[str, str] | None = None,
    twins_of: Sites | None = None,
) -> Cast:
    """`workflow`: played instead of the drill's own, its files below `base`; `twins_of`: sites that are played instead
    of the drill's. Raises DocumentError."""
    sites = twins(twins_of) if twins_of is not None else drill_sites(drill, name)
    raw = workflow or document_from(drill.workflow, name=f"{name} (workflow)")
    made = _compiled(raw, base, params or {}, sites)
    given = [stage.path for stage in made.stages if _mute(stage.body)]
    if given:
        raw = document_from(_with_work(raw.data, made, given), name=raw.name)
        made = _compiled(raw, base, params or {}, sites)
    return Cast(sites=sites, run=made, given=tuple(given))


def drill_sites(drill: DrillDocument, name: str) -> Sites:
    """The sites of the file. What an entry need not say: its profile and its root. Raises DocumentError."""
    entries = {
        site: {"profile": "simulated", "root": f"/drill/{site}", "poll": POLL, "slots": 8, **entry}
        for site, entry in drill.sites.items()
    }
    places = {place: {"path": f"/drill/{place}", **entry} for place, entry in drill.places.items()}
    raw = document_from({"crossfade": 1, "sites": entries, "places": places}, name=f"{name} (sites)")
    return twins(sites_of(raw, base=Path("/drill"), where=name))


def twins(sites: Sites) -> Sites:
    """Each site as a simulated one: its limits, lanes, facility, clearance and vars; nothing that leads to it."""
    configs = {
        name: replace(
            config,
            connector="simulated",
            credentials={},
            collection="",
            claim="",
            options=config.options if config.connector == "simulated" else {},
            poll=max(config.poll, 5.0),
        )
        for name, config in sites.configs.items()
    }
    return replace(sites, configs=configs)


def _compiled(raw: RawDocument, base: Path | None, params: Mapping[str, str], sites: Sites) -> CompiledRun:
    workflow = load_workflow(raw, base=base)
    budget = max(config.unreachable_seconds for config in sites.configs.values())
    return compile_workflow(workflow, params=params, base=base, probe_budget=budget, places=sites.places)


def _mute(body: str) -> bool:
    """Is it a stage that would do nothing here?"""
    told = json.loads(body)
    return "run" in told and not sim_lines(told["run"].encode())


def _with_work(data: Mapping[str, Any], made: CompiledRun, given: list[str]) -> dict[str, Any]:
    lines = {stage.path: _sim_line(stage.rules, stage.body) for stage in made.stages if stage.path in given}
    stages = {
        name: _told(stage, lines[name]) if name in lines else stage for name, stage in data.get("stages", {}).items()
    }
    return {**data, "stages": stages}


def _told(stage: Mapping[str, Any], line: str) -> dict[str, Any]:
    """The stage with the line under each of its commands."""
    told: dict[str, Any] = {
        key: f"{stage[key]}\n{line}" for key in ("run", "restart") if isinstance(stage.get(key), str)
    }
    at = stage.get("at")
    if isinstance(at, dict):
        told["at"] = {site: _told(own, line) if isinstance(own, dict) else own for site, own in at.items()}
    return {**stage, **told}


def _sim_line(rules: str, body: str) -> str:
    """Half the walltime of work, a checkpoint sixty times on the way, all outputs."""
    said, told = json.loads(rules), json.loads(body)
    walltime = said.get("resources", {}).get("walltime")
    work = walltime / 2 if isinstance(walltime, int | float) else WORK
    words = [f"seconds={work:g}"]
    if said.get("checkpoint"):
        every = said["checkpoint"].get("every")
        words.append(f"checkpoint_every={every if isinstance(every, int | float) and every else work / LAPS:g}")
        words.append("checkpoint_notice=10")
    # a folder is made by a file in it
    paths = [path + "file" if path.endswith("/") else path for item in told["outputs"] for path in [item["path"]]]
    words += [f"outputs={path}:{OUTPUT}" for path in paths if not set(path) & set(",: \t")]
    return ": sim " + " ".join(words)
