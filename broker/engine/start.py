"""A new attempt and the first effect that it wants. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from broker.facts import NOWHERE, World
from broker.ids import submit_key
from broker.spec import body_for
from broker.states import AttemptState
from broker.store.base import AttemptRow, EffectRow, StageRow, StrayRow
from policies.model import CheckpointFacts

FIND_FIRST = '{"find":true}'
"""Payload of a submission whose job is known to have existed."""
_UNSAFE = str.maketrans({"/": "~", "[": "(", "]": ")", "#": "+"})
"""Stage paths may hold `/ [ ] #`; folders of attempts may not."""


@dataclass(frozen=True, slots=True)
class Start:
    attempt: AttemptRow
    effect: EffectRow


def start(
    world: World,
    stage: StageRow,
    *,
    site: str,
    why: str,
    restore: CheckpointFacts | None,
    walltime: float | None,
    now: int,
    ahead: Sequence[str] = (),
    done: float = 0.0,
) -> Start:
    """The stage's next attempt, at `site`, and the effect that begins it (bringing files in, or submitting). `ahead`:
    the keys under which inputs were sent there before; `done`: seconds of work there that the checkpoint saves."""
    number = stage.newest + 1
    installation = world.installation
    key = submit_key(installation.id, installation.incarnation, stage.run_id, stage.path, number, stage.digest)
    body = body_for(json.loads(stage.body), site, world.sites[site].config.profile)
    staging = restore is not None or brings_files(body)
    row = _attempt(
        world,
        stage,
        key=key,
        directory=attempt_directory(stage, number, installation.incarnation),
        site=site,
        state=AttemptState.STAGING_IN if staging else AttemptState.SUBMITTING,
        why=why,
        restore=restore_json(restore, done=done),
        walltime=walltime,
        now=now,
    )
    if not staging:
        return Start(row, effect(world, row, "submit", now=now))
    payload = json.dumps({"ahead": list(ahead)}, separators=(",", ":")) if ahead else "{}"
    return Start(row, effect(world, row, "stage_in", now=now, payload=payload))


def start_copy(world: World, stage: StageRow, *, why: str, now: int) -> Start:
    """The stage's next attempt at moving data: at no site, in no folder, and nothing of it runs."""
    number = stage.newest + 1
    installation = world.installation
    row = _attempt(
        world,
        stage,
        key=submit_key(installation.id, installation.incarnation, stage.run_id, stage.path, number, stage.digest),
        directory="",
        site=NOWHERE,
        state=AttemptState.STAGING_IN,
        why=why,
        restore="",
        walltime=None,
        now=now,
    )
    return Start(row, effect(world, row, "copy", now=now))


def take_up(world: World, stage: StageRow, stray: StrayRow, *, why: str, walltime: float | None, now: int) -> Start:
    """The stage's next attempt is one of the hours that a restored backup does not know: its job is looked up under
    the key that it has, in the folder that it has, before anything is submitted."""
    row = _attempt(
        world,
        stage,
        key=stray.key,
        directory=attempt_directory(stage, stray.number, stray.incarnation),
        site=stray.site,
        state=AttemptState.SUBMITTING,
        why=why,
        restore="",
        walltime=walltime,
        now=now,
    )
    return Start(row, effect(world, row, "submit", now=now, payload=FIND_FIRST))


def attempt_directory(stage: StageRow, number: int, incarnation: int) -> str:
    """An attempt's folder, relative to the site's root. After a restore numbers are given again: folders are not."""
    again = f"-{incarnation}" if incarnation else ""
    return f"runs/{stage.run_id}/{stage.path.translate(_UNSAFE)}/a{number}{again}"


def _attempt(
    world: World,
    stage: StageRow,
    *,
    key: str,
    directory: str,
    site: str,
    state: AttemptState,
    why: str,
    restore: str,
    walltime: float | None,
    now: int,
) -> AttemptRow:
    if walltime is None and site != NOWHERE:
        walltime = world.sites[site].config.max_walltime
    latest_start = now + round(world.queue_seconds * 1e6)
    return AttemptRow(
        run_id=stage.run_id,
        n=stage.n,
        number=stage.newest + 1,
        epoch=stage.epoch + 1,
        site=site,
        state=state.value,
        ver=0,
        why=why,
        reason="",
        failure="",
        submit_key=key,
        digest=stage.digest,
        directory=directory,
        restore=restore,
        orphan=0,
        open=1,
        created_at=now,
        submitted_at=None,
        started_at=None,
        ended_at=None,
        stop_before=None if walltime is None else latest_start + round(walltime * 1e6),
        unreachable_since=None,
        cancel_requested_at=None,
        native_id="",
        staged="",
        answer="",
        job="",
        started="",
        exit="",
        verified="",
        dead="",
        seen_at=None,
    )


def brings_files(body: dict[str, Any]) -> bool:
    """Does a start need files brought in, beside a checkpoint?"""
    return bool(body["files"] or body["inputs"])


def restore_json(restore: CheckpointFacts | None, *, done: float = 0.0) -> str:
    """How an attempt row keeps the checkpoint that it starts from. `done`: seconds of work there that it saves, as far
    as they are known."""
    if restore is None:
        return ""
    data: dict[str, object] = {
        "attempt": restore.attempt,
        "generation": restore.generation,
        "seq": restore.seq,
        "site": restore.site,
        "path": restore.path,
        "bytes": restore.bytes,
    }
    if done > 0:
        data["done"] = round(done, 1)
    return json.dumps(data, separators=(",", ":"))


def effect(
    world: World, attempt: AttemptRow, kind: str, *, now: int, payload: str = "{}", suffix: str = "", site: str = ""
) -> EffectRow:
    """An effect about an attempt. Its key is a function of what it does: asking twice is asking once."""
    where, of = site or attempt.site, (attempt.run_id, attempt.n, attempt.number)
    return named_effect(world, f"{kind}:{attempt.submit_key}{suffix}", of, kind, now=now, payload=payload, site=where)


def named_effect(
    world: World, key: str, of: tuple[str, int, int], kind: str, *, now: int, payload: str, site: str
) -> EffectRow:
    """An effect under a key of its own. `of`: run, stage and attempt. One that this worker can perform itself is
    claimed by it from the first."""
    mine = bool(world.claimant) and (site == NOWHERE or world.sites[site].inline)
    run_id, n, number = of
    return EffectRow(
        key=key,
        run_id=run_id,
        n=n,
        attempt=number,
        kind=kind,
        site=site,
        payload=payload,
        state="pending",
        created_at=now,
        due_at=now,
        tries=1 if mine else 0,
        note="",
        claim=world.claimant if mine else "",
        claim_until=now + round(world.claim_seconds * 1e6) if mine else None,
        done_at=None,
        outcome="",
    )
