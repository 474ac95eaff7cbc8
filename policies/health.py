"""How a site is, per capability: from rows of evidence to a state with its reasons. Pure.

Every rule gives its verdict, and the most penalising one wins; the others stay as reasons. What a site publishes can
worsen a state or confirm it, and clears nothing that was measured. An operator's override beats them all, and ends.
States, rules and where their values come from: docs/explanation/judgement.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from policies.evidence import DEGRADED, OURS, Course, Fact, course, excused, in_order
from policies.intervals import span
from policies.measured import measured
from policies.model import Reason
from policies.verdicts import CAPABILITIES, Override, Standing, State, Verdict, Window

WINDOW = 6 * 3600.0
"""Seconds for which evidence counts (PanDA judges by six hours)."""
FEED_FRESH = 3600.0
"""Seconds for which a published word counts."""
DRAIN_AHEAD = 3600.0
"""Seconds before an announced maintenance from which on nothing new starts."""
_AGAIN = {State.UP: 1200.0, State.UNKNOWN: 600.0, State.DEGRADED: 300.0}
_AGAIN_ELSE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How one capability of a site is, and why."""

    capability: str
    state: State
    rule: str
    """The rule that won."""
    reasons: tuple[Reason, ...]
    """Every rule's verdict, the most penalising first."""
    at: int | None
    source: str
    until: int | None
    then: str
    """See `Verdict`."""

    @property
    def fact(self) -> str:
        """The winner's, as a sentence."""
        return self.reasons[0].fact


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one site is."""

    site: str
    capabilities: Mapping[str, Judgement]
    window_at: int | None
    """When the next maintenance begins that the site announces; None: it announces none."""
    windows: tuple[Window, ...] = ()
    """All that is announced, by the site (for each capability) and by operators."""

    @property
    def worst(self) -> Judgement:
        """The capability that is worst off."""
        return max(self.capabilities.values(), key=lambda judgement: judgement.state.penalty)

    def placing(self) -> Judgement:
        """The worst of what a stage cannot start without. Transfers and credentials are not among it: who needs no
        data needs no transfer, and a credential is a person's matter, told of as such."""
        return max((self.capabilities[name] for name in PLACING), key=lambda judgement: judgement.state.penalty)

    def asked_again(self, asked_at: int) -> int:
        """When the site itself is to be asked how it is, after it was at `asked_at` (DIRAC's cadence: the less is
        known, and the worse it is, the sooner)."""
        return asked_at + round(_AGAIN.get(self.worst.state, _AGAIN_ELSE) * 1e6)


def machine_down(health: Health) -> str:
    """What says that the site's machine itself is down, not its interface alone; empty: nothing."""
    compute = health.capabilities["compute"]
    if compute.state in (State.DOWN, State.MAINTENANCE):
        return compute.fact
    return next((reason.fact for reason in compute.reasons if reason.rule == "feed"), "")


def seen_to_work(health: Health) -> Mapping[str, int]:
    """When its files, and transfers with it, were last measured to work (µs). An interface may be silent meanwhile."""
    own = {name: health.capabilities[name] for name in ("files", "transfer")}
    return {name: judged.at for name, judged in own.items() if judged.state is State.UP and judged.at is not None}


PLACING = ("submit", "status", "files", "compute")
"""What no stage can start without."""


def judge(standing: Standing, facts: Iterable[Fact], *, now: int) -> Health:
    """Judge one site by its rows of evidence, in whatever order they come. Rows of the future, and of other
    capabilities than ours, are left out."""
    listed: dict[str, list[Fact]] = defaultdict(list)
    for fact in in_order(facts, since=now - round(WINDOW * 1e6), until=now):
        listed[fact[2]].append(fact)
    grouped: Mapping[str, Sequence[Fact]] = listed
    if ours := [fact[1] for fact in listed["status"] if fact[7] == OURS]:
        grouped = {name: excused(rows, ours) for name, rows in grouped.items()}
    told = {name: course(name, grouped.get(name, ()), standing.budgets) for name in CAPABILITIES}
    windows = [window for own in told.values() for window in _windows_of(own)]
    return Health(
        site=standing.site,
        capabilities={name: _judge(standing, name, told, now) for name in CAPABILITIES},
        window_at=min((w.begins for w in windows if w.begins is not None and w.begins > now), default=None),
        windows=(*windows, *standing.windows),
    )


def _judge(standing: Standing, capability: str, told: Mapping[str, Course], now: int) -> Judgement:
    verdicts = [*measured(standing, capability, told, now), *_published(told[capability], now)]
    verdicts += _by_people(standing, capability)
    for window in standing.windows:
        if window.capability in ("", capability):
            verdicts += _in_window(window, now, rule="maintenance")
    verdicts.sort(key=lambda verdict: -verdict.state.penalty)
    override = standing.override
    if override is not None and override.until > now:
        verdicts.insert(0, _overridden(override))
    first = verdicts[0]
    return Judgement(
        capability=capability,
        state=first.state,
        rule=first.rule,
        reasons=tuple(Reason(v.rule, v.state.value, v.fact, standing.site) for v in verdicts),
        at=first.at,
        source=first.source,
        until=first.until,
        then=first.then,
    )


# -- published, and said by people --------------------------------------------------------------------------


def _published(own: Course, now: int) -> Iterator[Verdict]:
    """By itself a feed makes nothing worse than degraded; a window that was announced is another matter."""
    feed = own.feed
    if feed is not None and now - feed[1] <= FEED_FRESH * 1e6 and (not feed[3] or feed[7] == DEGRADED):
        fact = f"its site says: {feed[5] or feed[7] or 'unavailable'}"
        until = feed[9] if feed[9] is not None and feed[9] > now else None
        yield Verdict(
            state=State.DEGRADED, rule="feed", fact=fact, at=feed[1], source=feed[6], until=until, then="over, it says"
        )
    for window in _windows_of(own):
        yield from _in_window(window, now, rule="window")


def _in_window(window: Window, now: int, *, rule: str) -> Iterator[Verdict]:
    """Maintenance while it lasts; draining in the hour before."""
    words, begins = f"announced: {window.words or 'maintenance'}", window.begins
    if window.open(now):
        yield Verdict(
            state=State.MAINTENANCE,
            rule=rule,
            fact=words,
            at=window.at,
            source=window.source,
            until=window.ends,
            then="over" if window.ends is not None else "",
        )
    elif begins is not None and 0 < begins - now <= DRAIN_AHEAD * 1e6:
        yield Verdict(
            state=State.DRAINING,
            rule=rule,
            fact=f"{words}, in {span((begins - now) / 1e6)}",
            at=window.at,
            source=window.source,
            until=begins,
            then="maintenance begins",
        )


def _windows_of(own: Course) -> Iterator[Window]:
    """What the site's own calendar says: well, it begins at `until`; not well, it is open until then."""
    for _, at, capability, ok, _, words, source, _, _, until in own.windows:
        if not ok or until is not None:
            begins, ends = (until, None) if ok else (None, until)
            yield Window(begins=begins, ends=ends, words=words, at=at, source=source, capability=capability)


def _by_people(standing: Standing, capability: str) -> Iterator[Verdict]:
    if capability != "submit":
        return
    if standing.drained:
        fact = f"drained: {standing.drained}"
        yield Verdict(state=State.DRAINING, rule="drained", fact=fact, source="operator")
    if standing.frozen:
        yield Verdict(state=State.DRAINING, rule="freeze.submits", fact=standing.frozen, source="operator")
    if standing.quarantined:
        fact = "in quarantine: its jobs since the backup that was restored are not known yet"
        yield Verdict(state=State.DRAINING, rule="quarantine", fact=fact, source="restore")


def _overridden(override: Override) -> Verdict:
    fact = f"{override.by} says so: {override.reason}"
    return Verdict(
        state=override.state,
        rule="override",
        fact=fact,
        source="operator",
        until=override.until,
        then="judged by evidence again",
    )
