"""The cheap look before work is handed over: is there something about a site that a person should mend in time?

Reads credentials files and the newest evidence in the store; asks no site, refuses nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from broker.credentials import Reference, references
from broker.facts import override_of
from broker.store.base import EvidenceRow, SiteRow
from connectors.registry import SiteConfig
from policies.verdicts import CAPABILITIES

SOON = 24 * 3600.0
"""Seconds before its end from which a credential is warned of."""
LOOKED_AT = 40
"""Newest rows of evidence that are looked at, per site."""


def warnings_for(
    config: SiteConfig,
    row: SiteRow | None,
    evidence: Sequence[EvidenceRow],
    *,
    now: int,
    credentials: bool = True,
    env: Mapping[str, str] = os.environ,
) -> list[str]:
    """Sentences, each beginning with the site's name. `credentials`: are they to be found in this process at all?"""
    looked = list(_of_credentials(references(config, env=env) if credentials else (), now))
    reached = list(_of_collection(config)) if credentials else []
    # what was found wrong at this look need not be told again as it was found before
    known = [fact for fact in evidence if not (looked and fact[2] == "credentials") and not _cured(fact, row)]
    standing = [*_of_silence(config, row, now), *_of_override(row, now)]
    found = [*looked, *reached, *standing, *_of_evidence(known, asked=bool(config.credentials))]
    return [f"{config.name}: {sentence}" for sentence in found]


def _of_credentials(found: Iterable[Reference], now: int) -> Iterator[str]:
    for reference in found:
        if not reference.ok:
            yield f"credential {reference.name}: {reference.detail}; {_told(reference.help)}"
        elif reference.expires_at is not None and reference.expires_at <= now:
            ended = _clock(reference.expires_at)
            yield f"credential {reference.name} has ended at {ended}; {_told(f'crossfade login {reference.site}')}"
        elif reference.expires_at is not None and reference.expires_at - now < SOON * 1e6:
            hours = (reference.expires_at - now) / 3.6e9
            told = _told(f"crossfade login {reference.site}")
            yield f"credential {reference.name} ends in {hours:.1f} h, at {_clock(reference.expires_at)}; {told}"


def _of_collection(config: SiteConfig) -> Sequence[str]:
    if not config.collection:
        return ()
    from broker.globus import collection_warnings  # noqa: PLC0415 - brings the SDK

    return collection_warnings(config)


def _of_silence(config: SiteConfig, row: SiteRow | None, now: int) -> Iterator[str]:
    since = row.cannot_ask_since if row else None
    if row is not None and since is not None and row.probes >= config.unreachable_probes:
        yield f"cannot be asked since {_clock(since)} ({round((now - since) / 1e6)} s, {row.probes} probes)"


def _of_override(row: SiteRow | None, now: int) -> Iterator[str]:
    override = override_of(row, now) if row is not None else None
    if override is not None:
        yield f"counts as {override.state.value} until {_clock(override.until)}, says {override.by}: {override.reason}"


def _cured(fact: EvidenceRow, row: SiteRow | None) -> bool:
    """Who answers lets us in, and is there."""
    answered = row.last_ok_at if row else None
    return answered is not None and answered > fact[1] and fact[2] in ("status", "credentials")


def _of_evidence(evidence: Sequence[EvidenceRow], *, asked: bool) -> Iterator[str]:
    """Of each capability the newest counts. `asked`: is it a site that somebody should have tried by now?"""
    newest: dict[str, EvidenceRow] = {}
    for fact in sorted(evidence, key=lambda fact: fact[1]):
        if fact[2] in CAPABILITIES:
            newest[fact[2]] = fact
    for fact in newest.values():
        if not fact.ok:
            yield f"{fact.capability} did not work at {_clock(fact.at)}: {fact.detail or 'no reason was given'}"
    if asked and not evidence:
        yield "has never been tried from here: `crossfade site check` does"


def _told(command: str) -> str:
    return f"`{command}`" if command.startswith("crossfade ") else command


def _clock(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%d %H:%M UTC")
