"""The simulated stage as a workflow document: the policy that is tried, and a payload as the setting wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broker.policy_file import policy_file
from broker.rows import run_row, stage_row
from broker.simulate.setting import Setting
from broker.spec import (
    CompiledRun,
    RawDocument,
    Wrong,
    compile_workflow,
    document_from,
    load_workflow,
    read_document,
)
from broker.store.base import NewEvent, NewRun
from policies.numbers import USUAL_NUMBERS, Numbers

STAGE = "work"


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A policy to be tried, and what answers call it."""

    name: str
    keys: Mapping[str, Any]
    """`policy`, and any of a stage's that a policy file may have, as documents have them."""
    raw: RawDocument | None = None
    """The file that it came from."""
    numbers: Numbers = USUAL_NUMBERS


def usual_policy(setting: Setting) -> NamedPolicy:
    """What is tried where no file is named: leave as soon as the silence is sure, as often as that happens."""
    failover = {"act": "auto", "after": setting.detection, "max": 1_000_000}
    return NamedPolicy("crossfade", {"policy": {"failover": failover}})


def read_policy(path: Path) -> NamedPolicy:
    """A policy file. Raises DocumentError."""
    return policy_of(read_document(path), name=path.stem)


def policy_of(raw: RawDocument, *, name: str) -> NamedPolicy:
    """The policy that such a document tells of. Raises DocumentError."""
    read = policy_file(raw, name=name)
    return NamedPolicy(read.name, read.keys, read.raw, read.numbers)


def prefers(policy: NamedPolicy) -> bool:
    """Does the policy itself say which sites it would rather have?"""
    sites = _map(policy, "policy").get("sites")
    return isinstance(sites, Mapping) and bool(sites.get("prefer"))


def preferring(policy: NamedPolicy, order: Sequence[str]) -> NamedPolicy:
    """The same policy, with these sites preferred, in this order."""
    keys = _map(policy, "policy")
    sites = {**keys.get("sites", {}), "prefer": list(order)}
    return replace(policy, keys={**policy.keys, "policy": {**keys, "sites": sites}})


def compiled(policy: NamedPolicy, setting: Setting) -> CompiledRun:
    """A workflow of one stage under that policy. Raises DocumentError, naming what the policy has wrong."""
    checkpoint = {"path": ".", "ship": "always", **_map(policy, "checkpoint")}
    stage = {
        "run": f": sim {payload(setting)}",
        "outputs": [{"path": "result", "required": True}],
        "checkpoint": checkpoint,
        **{key: policy.keys[key] for key in ("retry", "duplicates") if key in policy.keys},
    }
    document = {"crossfade": 1, "name": "simulated", "policy": policy.keys["policy"], "stages": {STAGE: stage}}
    name = policy.raw.name if policy.raw is not None else policy.name
    return compile_workflow(load_workflow(document_from(document, name=name), base=None), params={}, base=None)


def payload(setting: Setting) -> str:
    """The simulated payload's words. That it stands still while a checkpoint is written is part of its work here: it
    has `whole` seconds of it, and a checkpoint after every `lap`. So a copy that goes on from the n-th has as much
    left as a real one would have."""
    words = f"seconds={setting.whole:.6f} outputs=result:64"
    return f"{words} checkpoint_every={setting.lap:.6f}" if setting.marks else words


def new_run(made: CompiledRun, run_id: str, *, now: int) -> NewRun:
    """The rows of a run of it."""
    stages = [
        stage_row(run_id, n, s.path, s.rules, s.body, s.digest, len(s.needs), now) for n, s in enumerate(made.stages)
    ]
    row = run_row(run_id, name=made.name, digest=made.digest, stages=len(stages), by="simulate", now=now)
    return NewRun(run=row, document="{}", stages=stages, deps=[], events=[NewEvent(kind="submitted")])


def _map(policy: NamedPolicy, key: str) -> Mapping[str, Any]:
    """A part of the policy file that must be a map; another value is left for the document's own reader to refuse."""
    value = policy.keys.get(key, {})
    if not isinstance(value, Mapping):
        raise (policy.raw or document_from({}, name=policy.name)).refuse([((key,), Wrong("must be a map"))])
    return value
