"""Rows and documents to the policies' inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from broker.alerts.rows import Entries
from broker.operating.rows import FREEZE_SUBMITS, NoticeRow
from broker.operating.standing import closed, frozen_words, next_window
from broker.spec import rules_for, secrets_of, site_variables
from broker.store.base import CheckpointRow, Installation, SiteRow, StageRow, WaiverRow
from broker.tariffs import budget_rule
from connectors.model import LaneLimits, Resources
from connectors.registry import PlaceConfig, SiteConfig
from policies.blackhole import NO_HOLES, Holes
from policies.brake import PER_MINUTE, BrakeNumbers
from policies.evidence import Budgets
from policies.health import Judgement
from policies.history import History
from policies.intervals import ask_every
from policies.links import Learned
from policies.measured import spent
from policies.model import (
    Cap,
    CheckpointFacts,
    CheckpointRule,
    ContinueRule,
    DataRule,
    DeadlineRule,
    Decision,
    FailoverRule,
    Ranks,
    Reason,
    RetryRule,
    Rules,
    SiteFacts,
    SiteRule,
    Tries,
)
from policies.numbers import USUAL_NUMBERS, Numbers
from policies.residency import SideFacts, Waiver, in_force, side_of
from policies.traffic import Link
from policies.verdicts import Override, State

NOWHERE = ""
"""The site of an attempt that only moves data."""
USABLE_CHECKPOINTS = ("verified", "shipped")
LOCAL = "local"
"""The connector of sites on this machine, the only ones where jobs are told secrets."""
NATIVE = "native"
"""Of a site that itself runs whole jobs in their image."""
_NO_LIMITS = LaneLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSetup:
    """What does not change about a site while a broker runs."""

    config: SiteConfig
    inline: bool = True
    """May its calls be made inside a run's drain?"""
    claim: str = "atomic_fs"


def site_setup(config: SiteConfig) -> SiteSetup:
    """As far as the site document tells, before anything is connected."""
    return SiteSetup(config=config, claim=config.claim or "atomic_fs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How a site is judged to be, as placing stages needs it."""

    judgement: Judgement
    """The worst of what no stage can start without."""
    holes: Holes = NO_HOLES
    compute_down: str = ""
    """What says that the machine itself is down; empty: nothing."""
    heard_at: Mapping[str, int] = field(default_factory=dict)
    """When its files, and transfers with it, were last seen to work, by capability (µs)."""
    most: int | None = None
    """While it has to prove itself: the attempts that may be there, with one more on trial. None: no bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the engine knows beside the rows."""

    installation: Installation
    sites: Mapping[str, SiteSetup]
    claimant: str = ""
    """Effects for inline sites are written as claimed by this worker already; empty: none are."""
    claim_seconds: float = 60.0
    links: dict[Link, Learned] = field(default_factory=dict)
    """What past transfers have taught of each way, kept up by whoever takes the movers' turns."""
    windows: dict[str, int] = field(default_factory=dict)
    """When the next announced maintenance of a site begins, kept up by whoever reads the notices."""
    queue_seconds: float = 86_400.0
    """How long a job may wait at a site before its start gate refuses to start it."""
    places: Mapping[str, PlaceConfig] = field(default_factory=dict)
    """Named storage, by name."""
    health: dict[str, Judged] = field(default_factory=dict)
    """How the sites are judged to be, kept up by whoever looks at them (`broker.health`). Without a judgement what a
    site's own row says is all there is."""
    caps: Mapping[tuple[str, str], Cap] = field(default_factory=dict)
    """What projects and people may spend, by kind and name, as the site document has it."""
    outages: dict[str, Sequence[float]] = field(default_factory=dict)
    """What the sites' former outages lasted, seconds, kept up by `broker.outages`."""
    failovers_per_minute: int = PER_MINUTE
    """Stages that may be carried elsewhere within a minute; 0: any number."""
    numbers: Numbers = USUAL_NUMBERS
    """What this installation decides by, where it has numbers of its own."""
    history: History = field(default_factory=History)
    """What is known of queues and of work, kept up by whoever reads the rows (`broker.past`)."""
    witnesses: dict[str, int] = field(default_factory=dict)
    """Services that are no sites and give no answer, and since when: what is dark together with them may be us."""
    notify: Entries = ()
    """Who is told of what happens to whichever run."""


@lru_cache(maxsize=8192)
def rules_at(text: str, site: str, profile: str) -> Rules:
    """The stage's rules (JSON) as they are at that site; both empty: in general."""
    return _rules(rules_for(json.loads(text), site, profile))


@lru_cache(maxsize=8192)
def rules_of(text: str) -> Rules:
    """The stage's rules (JSON), in general."""
    return _rules(json.loads(text))


def _rules(data: Mapping[str, Any]) -> Rules:
    sites, failover, retry = data["sites"], data["failover"], data["retry"]
    segment, checkpoint = data.get("continue"), data.get("checkpoint")
    return Rules(
        sites=SiteRule(allow=tuple(sites["allow"]), prefer=tuple(sites["prefer"]), deny=tuple(sites["deny"])),
        failover=FailoverRule(
            act=failover["act"],
            after=failover["after"],
            max=failover["max"],
            old_copy=failover["old_copy"],
            failback=failover.get("failback", "next_stage"),
        ),
        retry=RetryRule(
            site_fault=retry["site_fault"],
            app_fault=retry["app_fault"],
            exit_codes={int(code): action for code, action in retry["exit_codes"].items()},
        ),
        continuation=_continuation(segment) if segment else None,
        checkpoint=_checkpoint(checkpoint) if checkpoint else None,
        resources=_resources(data["resources"]),
        ranks=_ranks(data["resources"]),
        lane=tuple(data.get("lane", ())),
        duplicates=data["duplicates"],
        required=data["required"],
        data=_data(data["data"]) if "data" in data else None,
        budget=budget_rule(data["budget"]) if "budget" in data else None,
        own_budget=budget_rule(data["own_budget"]) if "own_budget" in data else None,
        near=data.get("near"),
        deadline=_deadline(data["deadline"]) if "deadline" in data else None,
        skip=data.get("skip", ""),
    )


def _deadline(rule: Mapping[str, Any]) -> DeadlineRule:
    return DeadlineRule(within=rule["within"], since=rule["from"], on_miss=rule["on_miss"])


def _data(rule: Mapping[str, Any]) -> DataRule:
    return DataRule(export_control=rule["export_control"], stay=tuple(rule["stay"]))


def _checkpoint(data: Mapping[str, Any]) -> CheckpointRule:
    asked = bool(data["ask"])
    best = asked and data["every"] == "auto"
    return CheckpointRule(ship=data["ship"], keep=data["keep"], asked=asked, asked_at_best=best)


def asked_every(rules: Rules, config: SiteConfig, restore: str) -> Decision | None:
    """How often an attempt there is asked for a checkpoint, where the document leaves that to us. `restore`: the
    attempt's, as its row has it: the interval is fixed for the attempt."""
    if rules.checkpoint is None or not rules.checkpoint.asked_at_best:
        return None
    size = json.loads(restore).get("bytes") if restore else None
    return ask_every(site=config.name, between_losses=config.losses_every, bytes=size or None, urgent=is_urgent(rules))


def is_urgent(rules: Rules) -> bool:
    """Does the document want the urgent lane before all others?"""
    return rules.lane[:1] == ("urgent",)


def _resources(data: Mapping[str, Any]) -> Resources:
    return Resources(
        nodes=data["nodes"] or 1,
        cores=data["cores"],
        gpus=data["gpus"],
        memory=data["memory"],
        walltime=data["walltime"],
    )


def _ranks(data: Mapping[str, Any]) -> Ranks | None:
    """Of resources that are asked for by ranks."""
    if not data.get("ranks"):
        return None
    return Ranks(
        count=data["ranks"],
        cores=data.get("cores_per_rank", 1),
        gpus=data.get("gpus_per_rank", 0),
        memory=data.get("memory_per_rank", 0),
        nodes=data["nodes"],
    )


def raised(rules: Rules, times: int) -> Rules:
    """The rules after the stage ran out of memory so often: each time it is given twice as much."""
    if not times:
        return rules
    resources = replace(rules.resources, memory=rules.resources.memory << times)
    ranks = rules.ranks and replace(rules.ranks, memory=rules.ranks.memory << times)
    return replace(rules, resources=resources, ranks=ranks)


def _continuation(data: Mapping[str, Any]) -> ContinueRule:
    codes = (word.split() for word in data["on"] if word.startswith("exit "))
    return ContinueRule(
        time_limit="time_limit" in data["on"],
        exit_codes=frozenset(int(code) for _, code in codes),
        max=data["max"],
        no_progress=data["no_progress"],
    )


def site_facts(
    setup: SiteSetup,
    row: SiteRow | None,
    *,
    load: int,
    share: int,
    now: int,
    window: int | None = None,
    judged: Judged | None = None,
    job: tuple[str, str] = ("", ""),
    doubt: str = "",
    notices: Sequence[NoticeRow] = (),
    brake: BrakeNumbers = USUAL_NUMBERS.brake,
) -> SiteFacts:
    """One site as it stands. `window`: when the next maintenance begins that it announces itself; `job`: the
    application and the person that something is to be placed for; `doubt`: why its silence may be our own fault;
    `notices`: what operators have said."""
    config = setup.config
    since = row.cannot_ask_since if row else None
    override = override_of(row, now) if row else None
    well = judged is None or override is not None
    begins, ends = next_window(notices, config.name, window, now=now)
    return SiteFacts(
        name=config.name,
        facility=config.facility or config.name,
        profile=config.profile,
        slots=config.slots,
        load=load,
        share=share if well or judged is None or judged.most is None else max(0, min(share, judged.most - load)),
        cores=config.cores,
        gpus=config.gpus,
        memory=config.memory,
        nodes=config.nodes,
        max_walltime=config.max_walltime,
        lanes=_lanes(config),
        claim=setup.claim,
        drained=drained_words(row),
        frozen=frozen_words(notices, FREEZE_SUBMITS, config.name, now=now),
        quarantined=bool(row and row.quarantined),
        losses_every=config.losses_every,
        window_at=begins,
        window_until=ends,
        cannot_ask_since=since,
        probes=row.probes if row else 0,
        silent=row is not None and spent(since, row.probes, budgets_of(config), now),
        detail=row.detail if row else "",
        doubt=doubt,
        refuses=_refuses(override, closed(notices, config.name, now=now), judged, job, now),
        unwell="" if well or judged is None else _unwell(judged.judgement),
        returning="" if well or judged is None else _returning(judged.judgement, now),
        compute_down="" if judged is None else judged.compute_down,
        heard=_heard(judged, since),
        failovers_per_minute=to_one_site(config, brake.to_one_site),
        clearance=config.clearance,
        tariff=config.tariff,
    )


def drained_words(row: SiteRow | None) -> str:
    """Why an operator has nothing new start there; empty: nobody has."""
    if row is None or row.mode == "up":
        return ""
    reason = row.mode_reason or "no reason given"
    return reason if row.mode == "drained" else f"{row.mode} by {row.mode_by}: {reason}"


HOLD = 5.0
"""A site that was down has to hold for so many times its `unreachable.seconds`: five minutes of the usual one."""
_REFUSING = (State.DRAINING, State.MAINTENANCE, State.DOWN)


def budgets_of(config: SiteConfig) -> Budgets:
    """When that site's failures count as an outage, and what ends one."""
    seconds = config.unreachable_seconds
    return Budgets(probes=config.unreachable_probes, seconds=seconds, hold=HOLD * seconds)


def override_of(row: SiteRow, now: int) -> Override | None:
    """What an operator says of the site, as long as it holds."""
    if not row.override or row.override_until is None or row.override_until <= now:
        return None
    state, until = State(row.override), row.override_until
    return Override(state=state, by=row.override_by, reason=row.override_reason, until=until)


def _refuses(override: Override | None, away: str, judged: Judged | None, job: tuple[str, str], now: int) -> str:
    """Why nothing is sent there now; what an operator says goes before what is judged. `away`: of a maintenance."""
    if override is not None:
        words = f"{override.by} says that it is {override.state.value}: {override.reason}"
        return words if override.state in _REFUSING else ""
    if away or judged is None:
        return away
    worst = judged.judgement
    if worst.state in _REFUSING:
        return f"{worst.capability} is {worst.state.value}: {worst.fact}"
    return judged.holes.takes(*job, now)


def _unwell(worst: Judgement) -> str:
    if worst.state not in (State.DEGRADED, State.PROBING):
        return ""
    return f"{worst.capability} is {worst.state.value}: {worst.fact}"


_HOLDING = ("hold", "flaps")
"""Rules by which a site has to hold for a time before it is trusted again."""


def _returning(worst: Judgement, now: int) -> str:
    holds = worst.state is State.PROBING and worst.rule in _HOLDING and worst.until is not None and worst.until > now
    return worst.fact if holds else ""


def _heard(judged: Judged | None, since: int | None) -> str:
    """What of a silent site was seen to work since it fell silent."""
    heard = {} if judged is None or since is None else judged.heard_at
    names = sorted(name for name, at in heard.items() if since is not None and at > since)
    return f"its {' and '.join(names)} worked since" if names else ""


def to_one_site(config: SiteConfig, usual: int = USUAL_NUMBERS.brake.to_one_site) -> int:
    """Stages that may be carried to a site within a minute: what its entry says, else as many as jobs may be submitted
    there, else a cautious number."""
    if config.failovers_per_minute is not None:
        return config.failovers_per_minute
    return max(1, int(config.submits_per_minute)) if config.submits_per_minute > 0 else usual


def side_facts(side: str, *, sites: Mapping[str, SiteConfig], places: Mapping[str, PlaceConfig]) -> SideFacts | None:
    """What the data policy knows of a side of a transfer; None: nobody knows it."""
    if side.endswith(":"):
        place = places.get(side[:-1])
        return SideFacts(names=frozenset({place.name}), clearance=place.clearance) if place is not None else None
    config = sites.get(side)
    return side_of(site_facts(site_setup(config), None, load=0, share=0, now=0)) if config is not None else None


def waived_now(rows: Iterable[WaiverRow], *, now: int) -> Sequence[Waiver]:
    """Of a run's waivers those that are in force."""
    return in_force(map(waiver_facts, rows), now=now)


def waiver_facts(row: WaiverRow) -> Waiver:
    """A waiver as the data policy knows it."""
    return Waiver(
        id=row.id,
        side=row.side,
        rule=row.rule,
        asked_by=row.asked_by,
        confirmed_by=row.confirmed_by if row.confirmed_at is not None else "",
        ends_at=row.ends_at,
        withdrawn=row.withdrawn_at is not None,
    )


def is_copy(body: str) -> bool:
    """Is it the stored body (JSON) of a stage that only moves data? Its keys are in order, and `copy` is the first."""
    return body.startswith('{"copy":')


def _lanes(config: SiteConfig) -> Mapping[str, LaneLimits]:
    if not config.lanes:
        return config.lane_limits
    return {lane: config.lane_limits.get(lane, _NO_LIMITS) for lane in config.lanes}


def body_refusal(body: Mapping[str, Any], config: SiteConfig) -> Reason | None:
    """Why a site could not run a stage's body (as `body_for` gives it there), whatever its figures; None: it could."""
    missing = site_variables(body) - config.vars.keys()
    if missing:
        fact = f"{config.name} has no vars.{', vars.'.join(sorted(missing))}, which the command names"
        return Reason("vars", "refused", fact, config.name)
    if (against := _secret_refusal(body, config)) is not None:
        return against
    if not body.get("image"):
        return None
    if not config.container:
        return Reason("image", "refused", f"{config.name} runs no containers", config.name)
    if config.container == NATIVE and body.get("options"):
        fact = f"{config.name} runs whole jobs in an image, and has no command line for software.options"
        return Reason("image", "refused", fact, config.name)
    return None


def brings_files(body: str) -> bool:
    """Does a stage with that stored body (JSON, written compactly) need files that are brought? Cheap, and it may say
    yes to one that only reads where it is."""
    return '"files":[]' not in body or '"inputs":[]' not in body


def _secret_refusal(body: Mapping[str, Any], config: SiteConfig) -> Reason | None:
    wanted = secrets_of(body)
    if not wanted:
        return None
    if config.connector != LOCAL:
        fact = f"{config.name} is not on this machine, and secret:{min(wanted.values())} is told nowhere else"
        return Reason("secrets", "refused", fact, config.name)
    missing = sorted(set(wanted.values()) - config.secrets.keys())
    if missing:
        fact = f"{config.name} has no secrets.{', secrets.'.join(missing)}, which `env` names"
        return Reason("secrets", "refused", fact, config.name)
    return None


def may_lack(body: str) -> bool:
    """Can a stored body (JSON) be one that some sites cannot run? Cheap, and never wrong about a no."""
    return "site.vars." in body or '"image"' in body or '"secret:' in body


def silent_at(setup: SiteSetup, row: SiteRow) -> int | None:
    """When the seconds' budget of a site that does not answer is spent; None: it answers."""
    if row.cannot_ask_since is None:
        return None
    return row.cannot_ask_since + round(setup.config.unreachable_seconds * 1e6)


def checkpoint_facts(rows: Iterable[CheckpointRow]) -> list[CheckpointFacts]:
    """The copies that may be used: verified, and of no checkpoint that is suspect or bad anywhere."""
    kept = list(rows)
    doubted = {(r.attempt, r.generation, r.seq) for r in kept if r.state in ("suspect", "bad")}
    return [
        CheckpointFacts(
            attempt=r.attempt,
            generation=r.generation,
            seq=r.seq,
            site=r.site,
            path=r.path,
            bytes=r.bytes,
            at=r.created_at,
        )
        for r in kept
        if r.state in USABLE_CHECKPOINTS and (r.attempt, r.generation, r.seq) not in doubted
    ]


def tries_of(stage: StageRow) -> Tries:
    """What the stage has used up."""
    return Tries(
        site_retries=stage.site_retries,
        app_retries=stage.app_retries,
        failovers=stage.failovers,
        continuations=stage.continuations,
        stalled=stage.stalled,
        memory_raises=stage.memory_raises,
    )


def fair_share(*, slots: int, load: int, own: int, rivals: int) -> int:
    """How many more stages a run may start at a site: the free places, but no more than its part of the site
    while other runs wait for room there."""
    free = max(0, slots - load)
    if not rivals:
        return free
    part = -(-slots // (rivals + 1))
    return max(0, min(free, part - own))


def newest_seq(rows: Sequence[CheckpointRow], attempt: int) -> int | None:
    """The newest checkpoint that this attempt itself brought."""
    return max((r.seq for r in rows if r.attempt == attempt and r.state != "bad"), default=None)
