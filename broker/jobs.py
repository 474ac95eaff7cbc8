"""From rows to what goes to a site: the job of an attempt, and the files that are brought for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from broker.facts import NATIVE, SiteSetup, World, asked_every, body_refusal, raised, rules_at, site_facts
from broker.spec import (
    body_for,
    container_line,
    input_matches,
    launcher_line,
    launches,
    render_command,
    render_words,
    repeated,
    rules_for,
    secrets_of,
)
from broker.store.base import AttemptRow, ProductRow, StageRow
from connectors.harness import (
    ENTRY,
    SECRET_PREFIX,
    HarnessCheckpoint,
    HarnessPlan,
    HarnessRestore,
    Input,
    Link,
    Output,
    render,
)
from connectors.model import JobSpec, Origin, Resources, Transfer, TransferItem
from connectors.registry import PlaceConfig, SiteConfig
from policies.fit import Fit, fit
from policies.model import Reason

BLOBS = ""
"""The mover's name for the broker's own store of documents' files."""
RESTORE = ".crossfade/restore"
NOTHING: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An attempt with the rows that say what it runs; all of it immutable once decided."""

    stage: StageRow
    attempt: AttemptRow
    contact: str = ""
    products: Mapping[str, ProductRow] = field(default_factory=dict)
    """Of the stages that it takes inputs from, by path, where somebody has looked them up."""


class NoLongerFits(LookupError):
    """The site document has changed since the stage was placed: the site could not take its job any more."""


@lru_cache(maxsize=4096)
def _rules(text: str, site: str, profile: str) -> dict[str, Any]:
    return dict(rules_for(json.loads(text), site, profile))


def job_spec(world: World, job: Job) -> JobSpec:
    """The job that the attempt's site is asked for. Pure. Raises MissingSiteVariable, NoLongerFits, UnsafePlan."""
    stage, attempt = job.stage, job.attempt
    setup = world.sites[attempt.site]
    config = setup.config
    body = body_for(json.loads(stage.body), attempt.site, config.profile)
    rules = _rules(stage.rules, attempt.site, config.profile)
    found = _fit(setup, stage)
    against = body_refusal(body, config)
    secrets = secrets_of(body)
    if against is not None and against.rule != "vars":
        raise NoLongerFits(against.fact)
    plan = _plan(world, job, setup, body, rules, found.resources)
    comment = f"crossfade {attempt.submit_key} {stage.run_id}/{stage.path}@{attempt.number}"
    return JobSpec(
        key=attempt.submit_key,
        digest=attempt.digest,
        directory=attempt.directory,
        entry=ENTRY,
        files=render(plan),
        resources=_as_counted_there(found.resources, config),
        submit=_words(config, found, body),
        image=(body.get("image") or "").removeprefix("docker://") if config.container == NATIVE else "",
        warn_before=_warning(plan.checkpoint, config),
        comment=f"{comment} {job.contact}".rstrip(),
        requeue=rules["duplicates"] != "never",
        secrets={f"{SECRET_PREFIX}{name}": kept for name, kept in secrets.items()},
    )


def _fit(setup: SiteSetup, stage: StageRow) -> Fit:
    facts = site_facts(setup, None, load=0, share=0, now=0)
    found = fit(raised(rules_at(stage.rules, facts.name, facts.profile), stage.memory_raises), facts)
    if isinstance(found, Reason):
        raise NoLongerFits(found.fact)
    return found


def _as_counted_there(resources: Resources, config: SiteConfig) -> Resources:
    """A scheduler that counts hardware threads is asked for as many as there are in the cores."""
    return replace(resources, cores=resources.cores * config.threads_per_core, exclusive=config.exclusive)


_SAME_WORD = {"partition": "queue", "queue": "partition", "project": "account", "account": "project"}


def _words(config: SiteConfig, found: Fit, body: Mapping[str, Any]) -> dict[str, str]:
    """What the scheduler is told, each word by the nearest who says it: the machine, the account, the lane, the
    stage. Two words for one thing are one."""
    words: dict[str, str] = {}
    account = {"account": config.account} if config.account else {}
    gpu = config.submit_gpu if found.resources.gpus else {}
    figures = _figures(found.resources, config)
    machine = {word: launcher_line(value, figures) for word, value in {**config.submit, **gpu}.items()}
    for more in (machine, account, config.lanes.get(found.lane, {}), body["submit"]):
        for word, value in more.items():
            words.pop(_SAME_WORD.get(word, ""), None)
            words[word] = value
    return words


def _warning(checkpoint: HarnessCheckpoint | None, config: SiteConfig) -> int:
    """The scheduler's own signal beside the wrapper's clock: it comes at a preemption and a shortened walltime too."""
    asked = checkpoint is not None and checkpoint.ask_kind is not None
    return checkpoint.before_end if checkpoint is not None and asked and "signal" in config.capabilities else 0


# -- the command -------------------------------------------------------------------------------------------------


def launch_line(
    body: Mapping[str, Any], resources: Resources, config: SiteConfig, *, folders: Iterable[str] = ()
) -> str:
    """What `${{ launch }}` stands for: the site's launcher, or the document's own, then what runs the container.
    `folders`: those of the site's that the stage reads where they lie.

    Raises MissingSiteVariable.
    """
    figures = _figures(resources, config)
    own = body.get("launch")
    if own:
        launcher = render_command(
            launcher_line(own, figures), site_name=config.name, site_vars=config.vars, launcher=""
        )
    else:
        gpu = config.launcher_gpu if resources.gpus else ""
        many = config.launcher_ranks if figures["ranks"] > 1 else ""
        launcher = launcher_line(f"{many or config.launcher} {gpu}", figures)
    image = body.get("image")
    if not image or config.container == NATIVE:
        return launcher
    own = render_words(body.get("options") or (), site_name=config.name, site_vars=config.vars)
    binds = repeated(config.container_bind, "path", folders)
    variables = repeated(config.container_env, "name", body.get("env") or ())
    options = [*binds, *variables, *own]
    return f"{launcher} {container_line(config.container, image=image, options=options)}".strip()


def _figures(resources: Resources, config: SiteConfig) -> dict[str, int]:
    """Without ranks asked for, one process on each node has all that is asked for there."""
    ranks = resources.ranks or resources.nodes
    each = resources.ranks_per_node or 1
    cores = max(1, resources.cores // each)
    return {
        "nodes": resources.nodes,
        "ranks": ranks,
        "ranks_per_node": each,
        "cores_per_rank": cores,
        "cpus_per_rank": cores * config.threads_per_core,
        "gpus_per_rank": resources.gpus // each,
        "gpus_per_node": resources.gpus,
    }


def _plan(
    world: World,
    job: Job,
    setup: SiteSetup,
    body: Mapping[str, Any],
    rules: Mapping[str, Any],
    resources: Resources,
) -> HarnessPlan:
    attempt, config = job.attempt, setup.config
    restore = json.loads(attempt.restore) if attempt.restore else None
    secrets = secrets_of(body)

    links = [
        _link(world, given, config.name)
        for given in body["inputs"]
        if in_place(world, given, config.name) and given["name"] not in brought_all_the_same(attempt)
    ]
    folders = sorted(
        {place.mounted[config.name] for place in world.places.values() if _reads(place, links, config.name)}
    )
    launcher = launch_line(body, resources, config, folders=folders) if launches(body) else ""

    def rendered(text: str) -> str:
        return render_command(text, site_name=config.name, site_vars=config.vars, launcher=launcher)

    command = rendered(body["run"])
    restart = rendered(body["restart"]) if body["restart"] else command
    walltime = resources.walltime
    return HarnessPlan(
        key=attempt.submit_key,
        digest=attempt.digest,
        directory_depth=attempt.directory.count("/") + 1,
        command=restart if restore else command,
        restart=restart,
        setup=rendered(body["setup"]),
        env={name: value for name, value in body["env"].items() if name not in secrets},
        secrets=sorted(secrets),
        inputs=brought(world, job),
        links=links,
        outputs=[Output(path=out["path"], required=out["required"]) for out in body["outputs"]],
        checkpoint=_checkpoint(rules["checkpoint"], rendered, _best(world, job)) if rules["checkpoint"] else None,
        restore=HarnessRestore(seq=restore["seq"]) if restore else None,
        start_before=attempt.created_at + round(world.queue_seconds * 1e6),
        stop_before=attempt.stop_before,
        walltime=None if walltime is None else max(1, round(walltime)),
        heartbeat_seconds=config.heartbeat,
        fence_seconds=max(config.fence, 2 * config.heartbeat),
        duplicates=rules["duplicates"],
        native_id_var=config.job_id_variable or None,
        restart_var=config.restarts_variable or None,
    )


def _best(world: World, job: Job) -> int | None:
    """The interval that the document leaves to us, in seconds; None: it does not, or says no way to ask."""
    config = world.sites[job.attempt.site].config
    decision = asked_every(rules_at(job.stage.rules, config.name, config.profile), config, job.attempt.restore)
    return None if decision is None else int(str(decision.facts["every"]))


def in_place(world: World, given: Mapping[str, Any], site: str) -> tuple[str, str, str] | None:
    """Where an input from places is read at this site without being moved: the first of them that is mounted there,
    as (side, path, absolute path there). None: it has to be brought."""
    for side, path in given.get("places", ()):
        place = world.places.get(side.rstrip(":"))
        if place is not None and site in place.mounted:
            return side, path, f"{place.mounted[site].rstrip('/')}/{path.rstrip('/')}"
    return None


def brought_all_the_same(attempt: AttemptRow) -> Collection[str]:
    """Inputs that were brought from elsewhere, since they were not where the site mounts their place."""
    found: Collection[str] = json.loads(attempt.staged).get("brought", ()) if attempt.staged else ()
    return found


def _link(world: World, given: Mapping[str, Any], site: str) -> Link:
    found = in_place(world, given, site)
    assert found is not None  # noqa: S101 - the caller looked
    return Link(name=given["name"].rstrip("/"), target=found[2], match=given["match"], wait=round(given.get("wait", 0)))


def _reads(place: PlaceConfig, links: Sequence[Link], site: str) -> bool:
    """Does one of the links lead into that place, as the site mounts it?"""
    top = place.mounted.get(site)
    return top is not None and any(link.target.startswith(f"{top.rstrip('/')}/") for link in links)


def _checkpoint(rule: Mapping[str, Any], rendered: Any, best: int | None) -> HarnessCheckpoint:
    """`best`: seconds between two, for `every: auto`."""
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
        every=best if every == "auto" else None if every is None else round(every),
        restore_style=rule["restore"],
        keep=rule["keep"],
    )


def inbound(
    world: World,
    job: Job,
    *,
    products: Mapping[str, ProductRow],
    skipped: Sequence[str] = (),
    chosen: Mapping[str, Sequence[str]] = NOTHING,
    missed: Collection[str] = (),
) -> list[Transfer]:
    """The transfers that bring an attempt's files to its site: one per side that they come from, and one for each
    input from places.

    `products`: of the stages that it takes inputs from, by path. `skipped`: optional parents without a product.
    `chosen`: by the input's name, the paths in a place's folder that its `match` takes. `missed`: inputs that are not
    where the site mounts their place, and are brought from one of the others.
    """
    attempt = job.attempt
    body = body_for(json.loads(job.stage.body), attempt.site, world.sites[attempt.site].config.profile)
    by_source: dict[str, list[TransferItem]] = {}
    for file in body["files"]:
        by_source.setdefault(BLOBS, []).append(_blob(file["sha256"], file, f"{attempt.directory}/{file['path']}"))
    for given in body["inputs"]:
        target = f"{attempt.directory}/{given['name']}"
        if "places" in given:
            continue
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
    brought = [
        elsewhere(world, given, attempt.site) if given["name"] in missed else given
        for given in body["inputs"]
        if "places" in given and (given["name"] in missed or not in_place(world, given, attempt.site))
    ]
    from_places = [_from_places(job, given, label, chosen.get(given["name"])) for given in brought]
    return from_places + [
        Transfer(
            key=f"{attempt.submit_key}-in-{short_name(source)}",
            source_site=source,
            destination_site=attempt.site,
            items=tuple(items),
            label=label,
        )
        for source, items in sorted(by_source.items())
    ]


def brought(world: World, job: Job) -> Sequence[Input]:
    """What was brought to the attempt's directory, as far as its size is known beforehand: the document's own files,
    and those of products. Of what lies in places only the mover learns how large it is."""
    top = f"{job.attempt.directory}/"
    skipped = sorted(fed_by(job) - job.products.keys())
    return [
        Input(item.destination.removeprefix(top), item.size)
        for transfer in inbound(world, job, products=job.products, skipped=skipped)
        for item in transfer.items
        if item.size is not None
    ]


def fed_by(job: Job) -> AbstractSet[str]:
    """The stages that it takes inputs from, by path."""
    return {given["stage"] for given in json.loads(job.stage.body)["inputs"] if "stage" in given}


def elsewhere(world: World, given: Mapping[str, Any], site: str) -> Mapping[str, Any]:
    """The input without the place that this site mounts."""
    here = in_place(world, given, site)
    return {**given, "places": [one for one in given["places"] if here is None or tuple(one) != here[:2]]}


def _from_places(job: Job, given: Mapping[str, Any], label: str, chosen: Sequence[str] | None) -> Transfer:
    """One input from a place, or from any of several that hold the same."""
    attempt = job.attempt
    target = f"{attempt.directory}/{given['name']}"
    (source, _), *_ = sides = given["places"]
    items = [_same_items(path, target, chosen) for _, path in sides]
    return Transfer(
        key=place_key(job, given),
        source_site=source,
        destination_site=attempt.site,
        items=items[0],
        others=tuple(Origin(site=side, items=own) for (side, _), own in zip(sides[1:], items[1:], strict=True)),
        label=label,
    )


def _same_items(path: str, target: str, chosen: Sequence[str] | None) -> tuple[TransferItem, ...]:
    if chosen is None:
        return (TransferItem(source=path, destination=target),)
    return tuple(TransferItem(source=f"{path}{inner}", destination=f"{target}{inner}") for inner in chosen)


def place_key(job: Job, given: Mapping[str, Any]) -> str:
    """The key of the transfer that brings an input from a place."""
    return f"{job.attempt.submit_key}-in-{short_name(json.dumps(given['places']))}-{short_name(given['name'])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a delivery takes from an attempt's directory."""

    site: str
    path: str
    """Relative to the site's root; a trailing / means a folder."""
    files: Sequence[tuple[str, int, str]]
    """Path below `path` (empty: the file itself), size, digest."""


def outbound(job: Job, *, products: Mapping[str, ProductRow]) -> tuple[list[Transfer], dict[int, Taken]]:
    """The transfers of a stage that only moves data, one per pair of sides; and by entry what is taken from attempts.

    Their keys are the stage's own: what one attempt has brought, the next need not bring again. `products`: of the
    stages that it delivers for, by path. Raises KeyError where there is none.
    """
    stage = job.stage
    grouped: dict[tuple[tuple[str, ...], str], list[list[TransferItem]]] = {}
    taken: dict[int, Taken] = {}
    for number, entry in enumerate(json.loads(stage.body)["copy"]):
        (to_side, to_path), source = entry["to"], entry["from"]
        if isinstance(source, dict):
            product = products[source["stage"]]
            found = _product_items(product, {"from": source["path"], "match": None}, to_path)
            sides, rows = (product.site,), [[item] for item in found]
            taken[number] = _taken(product, source["path"], found)
        else:
            sides = tuple(side for side, _ in source)
            rows = [[TransferItem(source=path, destination=to_path) for _, path in source]]
        if rows:
            grouped.setdefault((sides, to_side), []).extend(rows)
    base = hashlib.sha256(f"{stage.run_id}/{stage.path}".encode()).hexdigest()[:16]
    return [
        Transfer(
            key=f"cp-{base}-{short_name(json.dumps([sides, to_side]))}",
            source_site=sides[0],
            destination_site=to_side,
            items=tuple(row[0] for row in rows),
            others=tuple(
                Origin(site=side, items=tuple(row[k] for row in rows)) for k, side in enumerate(sides[1:], start=1)
            ),
            label=f"{stage.run_id}/{stage.path}",
        )
        for (sides, to_side), rows in sorted(grouped.items())
    ], taken


def _taken(product: ProductRow, path: str, items: Sequence[TransferItem]) -> Taken:
    top = f"{product.path}/{path}"
    files = [(item.source[len(top) :].lstrip("/"), item.size or 0, item.sha256 or "") for item in items]
    return Taken(site=product.site, path=top, files=files)


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
