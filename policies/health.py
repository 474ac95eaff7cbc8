"""How a site is, per capability: from rows of evidence to a state with its reasons. Pure.

Every rule gives its verdict, and the most penalising one wins; the others stay as reasons. What a site publishes can
worsen a state or confirm it, and clears nothing that was measured. An operator's override beats them all, and ends.
States, rules and where their values come from: docs/explanation/judgement.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from policies.evidence import DEGRADED, Budgets, Course, Fact, course, in_order
from policies.intervals import span
from policies.model import Reason

CAPABILITIES = ("submit", "status", "files", "transfer", "compute", "credentials")


class State(Enum):
    """How a capability is. In the order of penalty: the later one wins."""

    UP = "up"
    """Measured lately, often enough, and well."""
    UNKNOWN = "unknown"
    """Too few good measurements to say: neither bad nor good."""
    DEGRADED = "degraded"
    """It works, but not always, or its site says so. Used when nothing better is left."""
    PROBING = "probing"
    """It was down, or up and down: one stage at a time may try it."""
    DRAINING = "draining"
    """Nothing new starts there; what is there goes on."""
    MAINTENANCE = "maintenance"
    """Its site has announced this."""
    DOWN = "down"
    """It fails, by measurements of our own."""

    @property
    def penalty(self) -> int:
        return _PENALTY[self]


_PENALTY = {state: rank for rank, state in enumerate(State)}

WINDOW = 6 * 3600.0
"""Seconds for which evidence counts (PanDA judges by six hours)."""
ENOUGH = 3
"""Good measurements without which nobody knows that something is up."""
PHI = 8.0
"""Akka's and Cassandra's threshold: one false suspicion in 10^8."""
RATIO_WINDOW, RATIO_SAMPLES = 1200.0, 10
"""Seconds, and minutes of them in which something was measured, from which on a ratio is judged."""
RATIO_DOWN, RATIO_DEGRADED = 0.5, 0.9
"""Part of them that went well (DIRAC bans below 0.5, degrades below 0.9, from ten samples on)."""
FALLS, FALL_PENALTY, HALF_LIFE, REUSE = 3, 1000.0, 900.0, 750.0
"""Route flap damping (RFC 2439, with the values that routers ship): each fall costs a penalty that halves in so many
seconds; after more than two close together nothing is trusted before the sum is below `REUSE`."""
FEED_FRESH = 3600.0
"""Seconds for which a published word counts."""
DRAIN_AHEAD = 3600.0
"""Seconds before an announced maintenance from which on nothing new starts."""
ENDING = 24 * 3600.0
"""Seconds before its end from which a credential is warned of."""

_AGAIN = {State.UP: 1200.0, State.UNKNOWN: 600.0, State.DEGRADED: 300.0}
_AGAIN_ELSE = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What an operator says, against all evidence, until it ends."""

    state: State
    by: str
    reason: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a site beside its evidence."""

    site: str
    budgets: Budgets = field(default_factory=Budgets)
    silent_since: int | None = None
    """The first look in vain since the last answer; None: it answers, or was never asked."""
    probes: int = 0
    """Looks in vain since then."""
    detail: str = ""
    drained: str = ""
    """Why an operator drained it; empty: nobody did."""
    quarantined: bool = False
    override: Override | None = None
    hole: Hole | None = None
    """It fails fast whatever is sent there (`policies.blackhole`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """Jobs that end fast and badly, all of them."""

    words: str
    newest: int
    tries_at: int
    """When one more may be sent there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One rule's word on one capability."""

    state: State
    rule: str
    fact: str
    at: int | None = None
    """The newest evidence that it rests on."""
    source: str = ""
    until: int | None = None
    """When it changes by itself; None: with the next evidence."""
    then: str = ""
    """What happens at `until`."""


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
    """When its next announced maintenance begins; None: none is announced."""

    @property
    def worst(self) -> Judgement:
        """The capability that is worst off."""
        return max(self.capabilities.values(), key=lambda judgement: judgement.state.penalty)

    def placing(self) -> Judgement:
        """The worst of what a stage cannot start without. Transfers and credentials are not among it: who needs no
        data needs no transfer, and a credential is a person's matter, told of as such."""
        return max((self.capabilities[name] for name in _PLACING), key=lambda judgement: judgement.state.penalty)

    def asked_again(self, asked_at: int) -> int:
        """When the site itself is to be asked how it is, after it was at `asked_at` (DIRAC's cadence: the less is
        known, and the worse it is, the sooner)."""
        return asked_at + round(_AGAIN.get(self.worst.state, _AGAIN_ELSE) * 1e6)


_PLACING = ("submit", "status", "files", "compute")


def judge(standing: Standing, facts: Iterable[Fact], *, now: int) -> Health:
    """Judge one site by its rows of evidence, in whatever order they come. Rows of the future, and of other
    capabilities than ours, are left out."""
    grouped: dict[str, list[Fact]] = defaultdict(list)
    for fact in in_order(facts, since=now - round(WINDOW * 1e6), until=now):
        grouped[fact[2]].append(fact)
    told = {name: course(name, grouped[name], standing.budgets) for name in CAPABILITIES}
    return Health(
        site=standing.site,
        capabilities={name: _judge(standing, name, told, now) for name in CAPABILITIES},
        window_at=_window(told.values(), now),
    )


def _judge(standing: Standing, capability: str, told: Mapping[str, Course], now: int) -> Judgement:
    verdicts = [*_measured(standing, capability, told, now), *_published(told[capability], now)]
    verdicts += _by_people(standing, capability)
    if capability == "compute" and standing.hole is not None:
        verdicts.append(_hole(standing.hole, now))
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


# -- measured ----------------------------------------------------------------------------------------------


def _measured(standing: Standing, capability: str, told: Mapping[str, Course], now: int) -> Iterator[Verdict]:
    own = told[capability]
    if capability == "credentials":
        yield from _credentials(own, told["status"], now)
        return
    yield _known(own)
    yield from _failing(standing, capability, own, now)
    yield from _outage(own, now)
    if own.refusal is not None:
        fact = f"it answers, and refuses: {own.refusal[5]}"
        at, source = own.refusal[1], own.refusal[6]
        yield Verdict(state=State.DEGRADED, rule="refuses", fact=fact, at=at, source=source)
    yield from _ratio(own, now)
    yield from _flapping(own, now)
    if capability == "status" and standing.silent_since is not None:
        yield _silence(standing, now)


def _known(own: Course) -> Verdict:
    at, source = (own.last_good[1], own.last_good[6]) if own.last_good else (None, "")
    if (good := own.good(ENOUGH)) < ENOUGH:
        fact = f"too few good measurements: {good} of {ENOUGH}"
        return Verdict(state=State.UNKNOWN, rule="samples", fact=fact, at=at, source=source)
    words = own.last_good[5] if own.last_good and own.last_good[5] else "works"
    return Verdict(state=State.UP, rule="samples", fact=words, at=at, source=source)


def _failing(standing: Standing, capability: str, own: Course, now: int) -> Iterator[Verdict]:
    """Failures in a row that the measurements end with."""
    if own.first_bad is None or own.last_bad is None:
        return
    budgets, since, newest = standing.budgets, own.first_bad[1], own.last_bad[1]
    words = f"failed {own.run} times in a row, for {span((now - since) / 1e6)}: {own.last_bad[5] or 'no reason given'}"
    spent_at = since + round(budgets.seconds * 1e6)
    tries_at = newest + round(budgets.hold * 1e6)
    source = own.last_bad[6]
    if spent(since, own.run, budgets, now):
        # a site that does not answer is looked at all the same; what only use measures must be tried again
        looked_at = capability == "status"
        if not looked_at and now >= tries_at:
            yield Verdict(state=State.PROBING, rule="half_open", fact=words, at=newest, source=source)
            return
        until, then = (None, "") if looked_at else (tries_at, "one stage at a time may try it")
        yield Verdict(state=State.DOWN, rule="budgets", fact=words, at=newest, source=source, until=until, then=then)
        return
    phi = own.phi(now)
    if phi is not None and phi < PHI:
        return  # one miss in a rhythm that has seen such gaps
    shown = "" if phi is None else f"; phi {phi:.0f}"
    left = f"down after {budgets.probes} failures and {budgets.seconds:g} s"
    yield Verdict(
        state=State.DEGRADED,
        rule="misses" if phi is None else "phi",
        fact=f"{words}{shown}",
        at=newest,
        source=source,
        until=spent_at if spent_at > now else None,
        then=left,
    )


def _silence(standing: Standing, now: int) -> Verdict:
    """As the site's own row has it, which no row of evidence that is missing can change."""
    since = standing.silent_since if standing.silent_since is not None else now
    words = f"could not be asked for {span((now - since) / 1e6)}, {standing.probes} looks"
    fact = f"{words}: {standing.detail}" if standing.detail else words
    if spent(since, standing.probes, standing.budgets, now):
        return Verdict(state=State.DOWN, rule="unreachable", fact=fact, at=now, source="look")
    until = since + round(standing.budgets.seconds * 1e6)
    then = f"unreachable after {standing.budgets.probes} looks and {standing.budgets.seconds:g} s"
    return Verdict(
        state=State.DEGRADED,
        rule="silent",
        fact=fact,
        at=now,
        source="look",
        until=until if until > now else None,
        then=then,
    )


def spent(since: int | None, probes: int, budgets: Budgets, now: int) -> bool:
    """Are both budgets of a silence spent, looks and seconds? Then it counts as unreachable."""
    return since is not None and probes >= budgets.probes and now - since >= round(budgets.seconds * 1e6)


def _outage(own: Course, now: int) -> Iterator[Verdict]:
    """What came back after an outage has to prove itself, and to hold."""
    if not own.out or not own.back or own.over(now):
        return
    good, budgets = own.last_good, own.budgets
    until = own.back_at + round(budgets.hold * 1e6)
    missing = "" if own.real else ", none of them real use"
    fact = f"was down; since then {own.back} good ones in a row of {budgets.returns}{missing}"
    yield Verdict(
        state=State.PROBING,
        rule="hold",
        fact=fact,
        at=good[1] if good else None,
        source=good[6] if good else "",
        until=until if until > now else None,
        then="up, if nothing fails before",
    )


def _ratio(own: Course, now: int) -> Iterator[Verdict]:
    good, bad = own.minutes(now - round(RATIO_WINDOW * 1e6))
    if bad == 0 or good + bad < RATIO_SAMPLES or own.last_bad is None:
        return
    part = good / (good + bad)
    if part >= RATIO_DEGRADED:
        return
    fact = f"{part:.0%} of the last {good + bad} minutes in which it was used went well: {own.last_bad[5]}"
    # whose newest measurement went well may be on its way back: one stage at a time finds that out
    low = State.DOWN if own.run else State.PROBING
    state = low if part < RATIO_DOWN else State.DEGRADED
    yield Verdict(state=state, rule="ratio", fact=fact, at=own.last_bad[1], source=own.last_bad[6])


def _flapping(own: Course, now: int) -> Iterator[Verdict]:
    penalty = sum(FALL_PENALTY * 0.5 ** ((now - at) / 1e6 / HALF_LIFE) for at in own.falls)
    if len(own.falls) < FALLS or penalty < REUSE or own.last_bad is None:
        return
    fact = f"fell {len(own.falls)} times; penalty {penalty:.0f}, trusted again below {REUSE:.0f}"
    yield Verdict(
        state=State.PROBING,
        rule="flaps",
        fact=fact,
        at=own.falls[-1],
        source=own.last_bad[6],
        until=now + _decays(penalty),
        then="trusted again, if nothing fails before",
    )


def _decays(penalty: float) -> int:
    """Microseconds until a penalty has fallen to where it is trusted again."""
    halvings = 0.0
    while penalty > REUSE:
        penalty, halvings = penalty / 2, halvings + 1
    return round(halvings * HALF_LIFE * 1e6)


def _credentials(own: Course, status: Course, now: int) -> Iterator[Verdict]:
    """A refusal is a fact at once, and who is let in again has disproved it. It is no outage of anything else."""
    good = max((fact for fact in (own.last_good, status.last_good) if fact), key=lambda fact: fact[1], default=None)
    if own.last_bad is not None and (good is None or good[1] <= own.last_bad[1]):
        words = own.last_bad[5] or "refused"
        yield Verdict(state=State.DOWN, rule="refused", fact=words, at=own.last_bad[1], source=own.last_bad[6])
    ends = own.last_good[9] if own.last_good else None
    if ends is not None and own.last_good is not None:
        at, source = own.last_good[1], own.last_good[6]
        if ends <= now:
            yield Verdict(state=State.DOWN, rule="expired", fact="it has ended", at=at, source=source)
        elif ends - now <= ENDING * 1e6:
            fact = f"it ends in {span((ends - now) / 1e6)}"
            yield Verdict(
                state=State.DEGRADED, rule="ending", fact=fact, at=at, source=source, until=ends, then="refused"
            )
    if good is None:
        yield Verdict(state=State.UNKNOWN, rule="samples", fact="not tried yet")
    else:
        yield Verdict(state=State.UP, rule="samples", fact="we are let in", at=good[1], source=good[6])


def _hole(hole: Hole, now: int) -> Verdict:
    if now >= hole.tries_at:
        return Verdict(state=State.PROBING, rule="black_hole", fact=hole.words, at=hole.newest, source="job")
    then = "one stage at a time may try it"
    return Verdict(
        state=State.DOWN,
        rule="black_hole",
        fact=hole.words,
        at=hole.newest,
        source="job",
        until=hole.tries_at,
        then=then,
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
    for _, at, _, ok, _, detail, source, _, _, until in own.windows:
        words = f"announced: {detail or 'maintenance'}"
        if not ok and (until is None or until > now):
            yield Verdict(
                state=State.MAINTENANCE, rule="window", fact=words, at=at, source=source, until=until, then="over"
            )
        elif ok and until is not None and until > now and until - now <= DRAIN_AHEAD * 1e6:
            fact = f"{words}, in {span((until - now) / 1e6)}"
            yield Verdict(
                state=State.DRAINING,
                rule="window",
                fact=fact,
                at=at,
                source=source,
                until=until,
                then="maintenance begins",
            )
        elif ok and until is not None and until <= now:
            yield Verdict(state=State.MAINTENANCE, rule="window", fact=words, at=at, source=source)


def _window(told: Iterable[Course], now: int) -> int | None:
    begins = (fact[9] for own in told for fact in own.windows if fact[3] and fact[9] is not None and fact[9] > now)
    return min(begins, default=None)


def _by_people(standing: Standing, capability: str) -> Iterator[Verdict]:
    if capability != "submit":
        return
    if standing.drained:
        fact = f"drained: {standing.drained}"
        yield Verdict(state=State.DRAINING, rule="drained", fact=fact, source="operator")
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


__all__ = [
    "CAPABILITIES",
    "Budgets",
    "Fact",
    "Health",
    "Hole",
    "Judgement",
    "Override",
    "Standing",
    "State",
    "judge",
    "spent",
]
