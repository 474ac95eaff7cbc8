"""Jobs of seconds that try a site for good: rendered, submitted, wrapped and ended as those of any stage.

Each also tries to claim one and the same place, as the start gate of an attempt does: one of them must win.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from broker.engine.start import start
from broker.facts import SiteSetup, World, rules_at
from broker.jobs import Job, job_spec
from broker.rows import stage_row
from broker.spec import compile_workflow, document_from, load_workflow
from broker.store.base import Installation
from broker.watch.records import SPOOL
from connectors.base import Site
from connectors.errors import NotThere, SiteError
from connectors.model import Accepted, Doubtful, Finding, JobSpec, JobState, JobStatus, Refused, SubmitAnswer, Ticket
from connectors.registry import SiteConfig

JOBS = 3
BLIPS = 3
"""Looks in a row that may go unanswered."""
WALLTIME = "5m"
ANSWER = "claimed"
"""What each job writes: who holds the claim, as it sees it. The link's target must be no folder's name."""
_RACE = """\
ln -s {name} ../../claim 2>/dev/null || :
holder=$(readlink ../../claim) || holder={nobody}
printf '%s\\n' "$holder" >claimed
"""
NOBODY = "nobody"
_HOLDER = re.compile(rf"canary\d+\.job|{NOBODY}")
_SHOWN = 300
"""Characters of a log that a finding repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for the jobs' end, and how."""

    seconds: float
    sleep: Callable[[float], None]
    elapsed: Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """What became of the jobs. `claim` None: nothing can be said of it."""

    job: Finding
    claim: Finding | None


def canary_specs(
    config: SiteConfig, site: Site, installation: Installation, *, mark: str, now: int, jobs: int = JOBS
) -> list[JobSpec]:
    """The jobs. They share a folder of their own below the site's `runs`. Raises LookupError, ValueError where the site
    takes no such job."""
    world = World(
        installation=installation,
        sites={config.name: SiteSetup(config=config, inline=site.inline, claim=site.claim)},
    )
    names = [f"canary{n}" for n in range(jobs)]
    stages = {
        name: {
            "run": _RACE.format(name=f"{name}.job", nobody=NOBODY),
            "resources": {"walltime": WALLTIME},
            "outputs": [{"path": ANSWER}],
            "duplicates": "never",
        }
        for name in names
    }
    raw = document_from({"crossfade": 1, "name": "site-check", "stages": stages}, name="the canary")
    compiled = compile_workflow(load_workflow(raw, base=None), params={}, base=None, probe_budget=0.0)
    return [_spec(world, config, s.path, s.rules, s.body, s.digest, mark, now) for s in compiled.stages]


def _spec(
    world: World, config: SiteConfig, path: str, rules: str, body: str, digest: str, mark: str, now: int
) -> JobSpec:
    # the digest is also of the mark: a key is used once
    own = hashlib.sha256(f"{digest} {mark}".encode()).hexdigest()
    row = stage_row(folder_of(mark), 0, path, rules, body, own, 0, now)
    walltime = rules_at(rules, config.name, config.profile).resources.walltime
    begun = start(world, row, site=config.name, why="first", restore=None, walltime=walltime, now=now)
    return job_spec(world, Job(stage=row, attempt=begun.attempt))


def folder_of(mark: str) -> str:
    """The run that the jobs would belong to."""
    return f"check-{mark}"


def fly(site: Site, specs: Sequence[JobSpec], *, poll: float, patience: Patience) -> Canary:
    """Submit them, wait for their end, compare what they wrote, and clean up. Raises SiteError."""
    begun = patience.elapsed()
    try:
        refused = [words for answer in site.submit(specs).values() if (words := _refusal(answer))]
        if refused:
            return Canary(job=_failed(f"not accepted: {refused[0]}"), claim=None)
        ended = _wait(site, [spec.key for spec in specs], poll, patience, begun)
        return _judged(site, specs, ended, patience.elapsed() - begun)
    finally:
        with suppress(SiteError):
            site.cancel([spec.key for spec in specs])  # what has ended stays as it is
            _clean_up(site, specs)


def _refusal(answer: SubmitAnswer) -> str:
    match answer:
        case Accepted() | Ticket():
            return ""
        case Refused(reason=reason) | Doubtful(reason=reason):
            return reason


def _wait(
    site: Site, keys: Sequence[str], poll: float, patience: Patience, begun: float
) -> dict[str, JobStatus | None]:
    """How each ended, or stands when patience is over. A site that once or twice gives no answer is asked again."""
    unanswered = 0
    while True:
        found: dict[str, JobStatus | None] = {}
        try:
            listing = site.status(keys)
        except SiteError as error:
            unanswered += 1
            if not error.transient or unanswered > BLIPS:
                raise
        else:
            unanswered = 0
            found |= dict.fromkeys(keys) if listing.complete else {}
            found |= {item.key: item for item in listing.items}
        over = found.keys() >= set(keys) and all(item is None or item.state.final for item in found.values())
        waited = patience.elapsed() - begun
        if (over and not _just_submitted(found, waited)) or (waited > patience.seconds and not unanswered):
            return {key: found.get(key) for key in keys}
        patience.sleep(min(max(poll, 0.02), 10.0))


def _just_submitted(found: dict[str, JobStatus | None], waited: float) -> bool:
    """A job that is not listed yet may only be slow to turn up."""
    return any(item is None for item in found.values()) and waited < 60.0


def _judged(site: Site, specs: Sequence[JobSpec], ended: dict[str, JobStatus | None], seconds: float) -> Canary:
    lost = [key for key, status in ended.items() if status is None]
    if lost:
        return Canary(job=_failed(f"accepted, and then the site knew nothing of job {lost[0]}"), claim=None)
    statuses = [status for status in ended.values() if status is not None]
    open_ones = [status for status in statuses if not status.state.final]
    if open_ones:
        detail = f"accepted; still {_words(open_ones[0])} after {seconds:.0f} s, and canceled"
        help = "a full queue is no fault: try again with a longer --timeout"  # noqa: A001 - the word of our findings
        return Canary(job=Finding(step="canary", ok=None, detail=detail, help=help), claim=None)
    bad = [status for status in statuses if status.state is not JobState.SUCCEEDED]
    if bad:
        said = _log_of(site, next(spec for spec in specs if spec.key == bad[0].key))
        return Canary(job=_failed(f"it ended {_words(bad[0])}{said}"), claim=None)
    ran = f"{len(specs)} jobs were accepted, ran and ended well within {seconds:.1f} s"
    return Canary(job=Finding(step="canary", ok=True, detail=ran), claim=_claim(site, specs))


def _claim(site: Site, specs: Sequence[JobSpec]) -> Finding | None:
    """All must have seen one and the same holder, which is one of them."""
    paths = [f"{spec.directory}/{ANSWER}" for spec in specs]
    seen = {content.decode("utf-8", "replace").strip() for content in site.read_many(paths).values()}
    if not any(_HOLDER.fullmatch(holder) for holder in seen):
        return None  # a simulated site runs nothing
    if len(seen) == 1 and seen != {NOBODY}:
        return Finding(step="claim", ok=True, detail=f"{len(specs)} jobs raced for it, one won")
    detail = f"{len(specs)} jobs raced for it, and saw as its holder: {', '.join(sorted(seen))}"
    return Finding(step="claim", ok=False, detail=detail, help=_NO_CLAIM)


_NO_CLAIM = "two copies of a stage could run there at once: keep the site's root on a shared POSIX file system"


def _words(status: JobStatus) -> str:
    told = " ".join(part for part in (status.native_state, status.native_reason, status.stuck_reason) if part)
    code = f", exit code {status.exit_code}" if status.exit_code else ""
    return f"{status.state.value}{code}" + (f" ({told})" if told else "")


def _log_of(site: Site, spec: JobSpec) -> str:
    """The end of what the job printed, as far as the site still shows it."""
    for name in (".crossfade/g1/stderr", ".crossfade/wrapper.log"):
        with suppress(SiteError):
            end = site.read(f"{spec.directory}/{name}", offset=-_SHOWN, limit=_SHOWN).decode("utf-8", "replace")
            if end.strip():
                return f": {' '.join(end.split())}"
    return ""


def _failed(detail: str) -> Finding:
    return Finding(step="canary", ok=False, detail=detail, help="crossfade plan FILE --script SITE shows what is sent")


def _clean_up(site: Site, specs: Sequence[JobSpec]) -> None:
    """Remove the files, as far as there is a call for it (folders stay)."""
    run = "/".join(specs[0].directory.split("/")[:2])
    keys = tuple(f"{SPOOL}/{spec.key}." for spec in specs)
    gone = [i.path for i in site.list(run, recursive=True) if not i.is_dir]
    gone += [i.path for i in site.list(SPOOL) if i.path.startswith(keys)]
    with suppress(NotThere):
        site.remove(gone)
