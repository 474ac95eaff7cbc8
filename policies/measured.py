"""The rules that judge by measurements: failures in a row, outages, ratios, flaps, credentials, black holes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from policies.evidence import Budgets, Course
from policies.intervals import span
from policies.verdicts import Hole, Standing, State, Verdict

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
ENDING = 24 * 3600.0
"""Seconds before its end from which a credential is warned of."""


def measured(standing: Standing, capability: str, told: Mapping[str, Course], now: int) -> Iterator[Verdict]:
    """What was measured of a capability, by each rule that has something to say. `told`: the course of every one."""
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
    if capability == "compute" and standing.hole is not None:
        yield _hole(standing.hole, now)


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
    words = f"failing for {span((now - since) / 1e6)}, {own.run} in a row: {own.last_bad[5] or 'no reason given'}"
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
    if standing.doubt:
        return Verdict(state=State.DEGRADED, rule="self_doubt", fact=standing.doubt, at=now, source="look")
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
    fact = f"was down; good in a row since then: {own.back} of {budgets.returns}{missing}"
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
