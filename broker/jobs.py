"""From rows to what goes to a site: the job of an attempt, and the files that are brought for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from broker.facts import SiteSetup, World
from broker.spec import body_for, input_matches, render_command, rules_for
from broker.store.base import AttemptRow, ProductRow, StageRow
from connectors.harness import (
    ENTRY,
    HarnessCheckpoint,
    HarnessPlan,
    HarnessRestore,
    Output,
    render,
)
from connectors.model import JobSpec, Resources, Transfer, TransferItem

BLOBS = ""
"""The mover's name for the broker's own store of documents' files."""
RESTORE = ".crossfade/restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An attempt with the rows that say what it runs; all of it immutable once decided."""

    stage: StageRow
    attempt: AttemptRow
    contact: str = ""


@lru_cache(maxsize=4096)
def _rules(text: str, site: str, profile: str) -> dict[str, Any]:
    return dict(rules_for(json.loads(text), site, profile))


def job_spec(world: World, job: Job) -> JobSpec:
    """The job that the attempt's site is asked for."""
    stage, attempt = job.stage, job.attempt
    setup = world.sites[attempt.site]
    body = body_for(json.loads(stage.body), attempt.site, setup.config.profile)
    rules = _rules(stage.rules, attempt.site, setup.config.profile)
    plan = _plan(world, job, setup, body, rules)
    comment = f"crossfade {attempt.submit_key} {stage.run_id}/{stage.path}@{attempt.number}"
    return JobSpec(
        key=attempt.submit_key,
        digest=attempt.digest,
        directory=attempt.directory,
        entry=ENTRY,
        files=render(plan),
        resources=_resources(rules["resources"], stage.memory_raises),
        submit=body["submit"],
        comment=f"{comment} {job.contact}".rstrip(),
        requeue=rules["duplicates"] != "never",
    )


def _plan(world: World, job: Job, setup: SiteSetup, body: Mapping[str, Any], rules: Mapping[str, Any]) -> HarnessPlan:
    attempt, config = job.attempt, setup.config
    restore = json.loads(attempt.restore) if attempt.restore else None

    def rendered(text: str) -> str:
        return render_command(text, site_name=config.name, site_vars=config.vars, launcher=config.launcher)

    command = rendered(body["run"])
    restart = rendered(body["restart"]) if body["restart"] else command
    walltime = rules["resources"]["walltime"]
    return HarnessPlan(
        key=attempt.submit_key,
        digest=attempt.digest,
        directory_depth=attempt.directory.count("/") + 1,
        command=restart if restore else command,
        restart=restart,
        setup=rendered(body["setup"]),
        env=body["env"],
        outputs=[Output(path=out["path"], required=out["required"]) for out in body["outputs"]],
        checkpoint=_checkpoint(rules["checkpoint"], rendered) if rules["checkpoint"] else None,
        restore=HarnessRestore(seq=restore["seq"]) if restore else None,
        start_before=attempt.created_at + round(world.queue_seconds * 1e6),
        stop_before=attempt.stop_before,
        walltime=None if walltime is None else max(1, round(walltime)),
        heartbeat_seconds=config.heartbeat,
        fence_seconds=max(config.fence, 2 * config.heartbeat),
        duplicates=rules["duplicates"],
    )


def _checkpoint(rule: Mapping[str, Any], rendered: Any) -> HarnessCheckpoint:
    ask = rule["ask"] or {}
    value = ask.get("value", "")
    every = rule["every"]
    return HarnessCheckpoint(
        path=rule["path"],
        match=rule["match"],
        complete=rule["complete"],
        ask_kind=ask.get("kind"),
        ask_value=rendered(value) if ask.get("kind") == "command" else value,
        before_end=round(ask.get("before_end") or 0),
        every=None if every in (None, "auto") else round(every),
        restore_style=rule["restore"],
        keep=rule["keep"],
    )


def _resources(asked: Mapping[str, Any], memory_raises: int) -> Resources:
    return Resources(
        nodes=asked["nodes"],
        cores=asked["cores"],
        gpus=asked["gpus"],
        memory=asked["memory"] << memory_raises,
        walltime=asked["walltime"],
    )


def inbound(
    world: World, job: Job, *, products: Mapping[str, ProductRow], skipped: Sequence[str] = ()
) -> list[Transfer]:
    """The transfers that bring an attempt's files to its site: one per side that they come from.

    `products`: of the stages that it takes inputs from, by path. `skipped`: optional parents without a product.
    """
    attempt = job.attempt
    body = body_for(json.loads(job.stage.body), attempt.site, world.sites[attempt.site].config.profile)
    by_source: dict[str, list[TransferItem]] = {}
    for file in body["files"]:
        by_source.setdefault(BLOBS, []).append(_blob(file["sha256"], file, f"{attempt.directory}/{file['path']}"))
    for given in body["inputs"]:
        target = f"{attempt.directory}/{given['name']}"
        if "blob" in given:
            by_source.setdefault(BLOBS, []).append(_blob(given["blob"], given, target))
        elif given["stage"] not in skipped:
            product = products[given["stage"]]
            by_source.setdefault(product.site, []).extend(_product_items(product, given, target))
    if attempt.restore:
        origin = json.loads(attempt.restore)
        item = TransferItem(source=f"{origin['path']}/", destination=f"{attempt.directory}/{RESTORE}/")
        by_source.setdefault(origin["site"], []).append(item)
    label = f"{job.stage.run_id}/{job.stage.path}@{attempt.number}"
    return [
        Transfer(
            key=f"{attempt.submit_key}-in-{short_name(source)}",
            source_site=source,
            destination_site=attempt.site,
            items=tuple(items),
            label=label,
        )
        for source, items in sorted(by_source.items())
    ]


def short_name(site: str) -> str:
    """A site's name as part of a transfer's key, which may hold letters and digits only."""
    return hashlib.sha256(site.encode()).hexdigest()[:8]


def _blob(digest: str, file: Mapping[str, Any], destination: str) -> TransferItem:
    return TransferItem(
        source=f"{digest[:2]}/{digest}",
        destination=destination,
        size=file["size"],
        sha256=digest,
        mode=file["mode"],
    )


def _product_items(product: ProductRow, given: Mapping[str, Any], target: str) -> list[TransferItem]:
    """The producer's files that an input names, each with the size and digest it was verified with."""
    wanted = given["from"].rstrip("/")
    items = []
    for path, size, digest in json.loads(product.manifest)["files"]:
        if path == wanted:
            inner = target.rstrip("/")
        elif path.startswith(f"{wanted}/") and input_matches(given["match"], path[len(wanted) + 1 :]):
            inner = target.rstrip("/") + path[len(wanted) :]
        else:
            continue
        items.append(TransferItem(source=f"{product.path}/{path}", destination=inner, size=size, sha256=digest))
    return items
