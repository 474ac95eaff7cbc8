"""Rows and documents to the policies' inputs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from broker.spec import rules_for
from broker.store.base import CheckpointRow, Installation, SiteRow, StageRow
from connectors.model import Resources
from connectors.registry import SiteConfig
from policies.model import (
    CheckpointFacts,
    CheckpointRule,
    ContinueRule,
    FailoverRule,
    RetryRule,
    Rules,
    SiteFacts,
    SiteRule,
    Tries,
)

USABLE_CHECKPOINTS = ("verified", "shipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSetup:
    """What does not change about a site while a broker runs."""

    config: SiteConfig
    inline: bool = True
    """May its calls be made inside a run's drain?"""
    claim: str = "atomic_fs"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the engine knows beside the rows."""

    installation: Installation
    sites: Mapping[str, SiteSetup]
    claimant: str = ""
    """Effects for inline sites are written as claimed by this worker already; empty: none are."""
    claim_seconds: float = 60.0
    queue_seconds: float = 86_400.0
    """How long a job may wait at a site before its start gate refuses to start it."""


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
    resources, segment, checkpoint = data["resources"], data.get("continue"), data.get("checkpoint")
    return Rules(
        sites=SiteRule(allow=tuple(sites["allow"]), prefer=tuple(sites["prefer"]), deny=tuple(sites["deny"])),
        failover=FailoverRule(
            act=failover["act"], after=failover["after"], max=failover["max"], old_copy=failover["old_copy"]
        ),
        retry=RetryRule(
            site_fault=retry["site_fault"],
            app_fault=retry["app_fault"],
            exit_codes={int(code): action for code, action in retry["exit_codes"].items()},
        ),
        continuation=_continuation(segment) if segment else None,
        checkpoint=CheckpointRule(ship=checkpoint["ship"], keep=checkpoint["keep"]) if checkpoint else None,
        resources=Resources(
            nodes=resources["nodes"],
            cores=resources["cores"],
            gpus=resources["gpus"],
            memory=resources["memory"],
            walltime=resources["walltime"],
        ),
        duplicates=data["duplicates"],
        required=data["required"],
    )


def _continuation(data: Mapping[str, Any]) -> ContinueRule:
    codes = (word.split() for word in data["on"] if word.startswith("exit "))
    return ContinueRule(
        time_limit="time_limit" in data["on"],
        exit_codes=frozenset(int(code) for _, code in codes),
        max=data["max"],
        no_progress=data["no_progress"],
    )


def site_facts(setup: SiteSetup, row: SiteRow | None, *, load: int, share: int, now: int) -> SiteFacts:
    """One site as it stands."""
    config = setup.config
    since = row.cannot_ask_since if row else None
    spent = since is not None and row is not None and row.probes >= config.unreachable_probes
    return SiteFacts(
        name=config.name,
        facility=config.facility or config.name,
        profile=config.profile,
        slots=config.slots,
        load=load,
        share=share,
        cores=config.cores,
        gpus=config.gpus,
        memory=config.memory,
        nodes=config.nodes,
        max_walltime=config.max_walltime,
        claim=setup.claim,
        drained=(row.mode_reason or "no reason given") if row and row.mode == "drained" else "",
        quarantined=bool(row and row.quarantined),
        cannot_ask_since=since,
        probes=row.probes if row else 0,
        silent=spent and since is not None and now - since >= round(config.unreachable_seconds * 1e6),
        detail=row.detail if row else "",
    )


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
