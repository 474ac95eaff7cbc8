"""Sites that give no answer, and what follows from that: the line that is read at 3 a.m."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from broker.facts import rules_at
from broker.health import dark_together, witnesses
from broker.operating.rows import FREEZE_MOVES
from broker.operating.standing import frozen_words
from broker.service import Service
from broker.store.base import AttemptRow, SiteRow
from connectors.registry import SiteConfig
from policies.doubt import words
from policies.leaving import acts_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A site that cannot be asked, and what follows from that."""

    site: str
    since: int
    """Microseconds UTC."""
    probes: int
    unreachable: int
    """Stages there whose state nobody can know: UNREACHABLE, not failed."""
    moves_at: int | None
    """When the first of them goes on elsewhere, if it can; None: none will by itself."""
    detail: str
    doubt: str = ""
    """Why it may be our own fault: nothing moves then."""
    frozen: str = ""
    """Who has frozen moves from there, until when and why."""

    @property
    def stop(self) -> str:
        """The command that keeps its stages where they are."""
        return "crossfade freeze on moves --for 1h --reason ..."

    def line(self, now: int) -> str:
        """What to read at 3 a.m.: since when, what it means, what happens next by itself, what stops it."""
        seconds = (now - self.since) / 1e6
        parts = [f"{self.site}: cannot ask since {clock_time(self.since)} ({self.probes} probes, {seconds:.0f} s)"]
        if self.unreachable:
            stages = "1 stage" if self.unreachable == 1 else f"{self.unreachable} stages"
            parts.append(f"{stages} UNREACHABLE, not failed")
        if self.doubt:
            stop = f"`crossfade site override {self.site} down --reason ...` if it is really down"
            parts.append(f"nothing moves: {self.doubt} ({stop})")
        elif self.frozen:
            parts.append(f"nothing moves: {self.frozen} (`crossfade freeze ls`)")
        elif self.moves_at is not None:
            moving = (
                f"moving {clock_time(self.moves_at)}" if self.moves_at > now else "moving as soon as a site can take it"
            )
            parts.append(f"{moving} unless: {self.stop}")
        return f"{'; '.join(parts)}: {self.detail}" if self.detail else "; ".join(parts)


def silences(service: Service) -> list[Silence]:
    """Every site that does not answer now."""
    configs = service.sites.configs
    rows = {row.site: row for row in service.store.sites()}
    seen = witnesses(service.store) if any(row.cannot_ask_since is not None for row in rows.values()) else {}
    together = dark_together(configs, rows, seen, service.clock())
    doubts = {name: words(*found) for name, found in together.items()}
    notices = service.store.notices.open(now=service.clock()) if any(r.cannot_ask_since for r in rows.values()) else ()
    frozen = {name: frozen_words(notices, FREEZE_MOVES, name, now=service.clock()) for name in configs}
    return [
        _silence(service, configs[name], row, doubts.get(name, ""), frozen[name])
        for name, row in rows.items()
        if row.cannot_ask_since is not None and name in configs
    ]


def _silence(service: Service, config: SiteConfig, row: SiteRow, doubt: str, frozen: str) -> Silence:
    there = [attempt for attempt in service.store.open_attempts(row.site) if not attempt.orphan]
    since = row.cannot_ask_since or 0
    moves = [at for attempt in there if (at := _moves_at(service, config, attempt, since)) is not None]
    return Silence(
        site=row.site,
        since=since,
        probes=row.probes,
        unreachable=sum(attempt.unreachable_since is not None for attempt in there),
        moves_at=None if doubt or frozen else min(moves, default=None),
        detail=row.detail,
        doubt=doubt,
        frozen=frozen,
    )


def _moves_at(service: Service, config: SiteConfig, attempt: AttemptRow, since: int) -> int | None:
    """When failover may carry that stage elsewhere: both budgets of the site are spent, and `after` is over."""
    stage = service.store.stages_at(attempt.run_id, [attempt.n])[attempt.n]
    rules = rules_at(stage.rules, config.name, config.profile)
    if rules.failover.act != "auto" or rules.duplicates != "allow" or stage.failovers >= rules.failover.max:
        return None
    return since + round(max(acts_after(rules), config.unreachable_seconds) * 1e6)


def clock_time(at: int) -> str:
    """As clocks here show it."""
    return datetime.fromtimestamp(at / 1e6, UTC).astimezone().strftime("%H:%M:%S")
