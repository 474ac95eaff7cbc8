"""The exact script and request that a site would be given for a stage, or was for an attempt. Asks no site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker import ids
from broker.clock import Clock
from broker.effects.contacts import Contacts
from broker.effects.hands import JobCache
from broker.effects.submit import completed
from broker.engine.start import effect, start
from broker.errors import NotFound, RefusedByPolicy, UsageError
from broker.facts import SiteSetup, World, is_copy, rules_at
from broker.jobs import Job, job_spec
from broker.rows import stage_row
from broker.serving import short_name
from broker.spec import CompiledRun, CompiledStage
from broker.store.base import AttemptRow, Store
from connectors.base import Scripted, Site
from connectors.errors import CredentialError, SiteError
from connectors.harness import ENTRY
from connectors.model import JobSpec, Script
from connectors.registry import SiteConfig, UnknownConnector, make_site
from connectors.secrets import scrub, secret_from

_CONSTANT = (ENTRY, ".crossfade/bin/crossfade-checkpoint")
"""Files that are the same for every job: named, not shown."""
View = dict[str, object]


def planned_script(compiled: CompiledRun, stage: str | None, config: SiteConfig, *, store: Store, clock: Clock) -> View:
    """What the site would be asked for, were the run submitted now. Its run id, and what follows from that (key,
    folder), are not those that it will have. `stage`: may be left out when there is one. Raises NotFound, UsageError.
    """
    chosen = _chosen(compiled, stage)
    named, site = _connected(config, store, clock)
    world = _world(named, site, store)
    now = clock()
    run_id = ids.run_id(now, ids.random_bits)
    row = stage_row(run_id, 0, chosen.path, chosen.rules, chosen.body, chosen.digest, 0, now)
    begun = start(world, row, site=named.name, why="first", restore=None, walltime=_walltime(chosen, named), now=now)
    job = Job(stage=row, attempt=begun.attempt, contact=compiled.contact)
    return {"stage": chosen.path, "attempt": None, **_view(_spec(world, job), named, site)}


def attempt_script(run_id: str, path: str, row: AttemptRow, config: SiteConfig, *, store: Store, clock: Clock) -> View:
    """What the attempt's site was asked for, or will be; by the site document as it is now. Raises UsageError."""
    named, site = _connected(config, store, clock)
    world = _world(named, site, store)
    job = JobCache(store).get(effect(world, row, "submit", now=row.created_at))
    if job is None:
        raise NotFound(f"{run_id}/{path} has no attempt {row.number}")
    told = completed(job, store, Contacts(store))
    return {"stage": path, "attempt": row.number, **_view(_spec(world, told), named, site)}


def _chosen(compiled: CompiledRun, stage: str | None) -> CompiledStage:
    paths = [s.path for s in compiled.stages if not is_copy(s.body)]
    if stage is None and len(paths) > 1:
        more = " ..." if len(paths) > 10 else ""
        raise UsageError("it has several stages", help=f"--stage NAME; stages are: {', '.join(paths[:10])}{more}")
    wanted = stage or next(iter(paths), None)
    found = next((s for s in compiled.stages if s.path == wanted), None)
    if found is None:
        raise NotFound(f"the document has no stage {stage!r}", help="see `crossfade validate -o json`")
    if is_copy(found.body):
        raise UsageError(f"{found.path} only moves data: no site is given a script for it", help="choose another stage")
    return found


def _walltime(stage: CompiledStage, config: SiteConfig) -> float | None:
    """As the engine gives it to a first attempt: the stage's own, at that site."""
    return rules_at(stage.rules, config.name, config.profile).resources.walltime


def _connected(config: SiteConfig, store: Store, clock: Clock) -> tuple[SiteConfig, Site]:
    """The site's connector, not connected to anything. Raises UsageError."""
    named = replace(config, installation=short_name(store.installation()))
    try:
        return named, make_site(named, clock)
    except (UnknownConnector, ValueError, SiteError) as error:
        raise UsageError(str(error), help="mend the site document; `crossfade credential ls`") from error


def _world(config: SiteConfig, site: Site, store: Store) -> World:
    setup = SiteSetup(config=config, inline=site.inline, claim=site.claim)
    return World(installation=store.installation(), sites={config.name: setup})


def _spec(world: World, job: Job) -> JobSpec:
    """Raises RefusedByPolicy where the site could not take the job."""
    try:
        return job_spec(world, job)
    except (LookupError, ValueError) as error:
        name = job.attempt.site
        raise RefusedByPolicy(f"{name} cannot take it: {error}", help=f"crossfade site show {name}") from error


def _view(spec: JobSpec, config: SiteConfig, site: Site) -> View:
    mask = _masking(config)
    script = _script(spec, site)
    return {
        "site": config.name,
        "connector": config.connector,
        "key": spec.key,
        "digest": spec.digest,
        "directory": spec.directory,
        "entry": spec.entry,
        "script": mask(script.script),
        "request": mask(script.request),
        "files": [
            {"path": f.path, "bytes": len(f.content), "mode": f"{f.mode:04o}", "text": _text(f.path, f.content, mask)}
            for f in spec.files
        ],
    }


def _script(spec: JobSpec, site: Site) -> Script:
    """Empty for a site that is given none. Raises RefusedByPolicy for a job that the connector would not submit."""
    if not isinstance(site, Scripted):
        return Script(script="", request="")
    try:
        return site.script(spec)
    except SiteError as error:
        raise RefusedByPolicy(f"{site.name} would not be asked for this job: {error}", help=error.help) from error


def _text(path: str, content: bytes, mask: Callable[[str], str]) -> str | None:
    return None if path in _CONSTANT else mask(content.decode("utf-8", "replace"))


def _masking(config: SiteConfig) -> Callable[[str], str]:
    """Takes out what the site's credentials refer to, whoever put it into a text."""
    for reference in (*config.credentials.values(), *config.secrets.values()):
        try:
            secret_from(reference, site=config.name)  # what was read is known to `scrub`
        except CredentialError:
            continue
    return scrub
