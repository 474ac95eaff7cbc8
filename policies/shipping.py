"""Whether a copy of a good checkpoint leaves for another facility now, for which site, whether the stage's inputs
follow it there, and which old copies go. Pure.

When a facility goes dark, its disks usually go with it: what is to be read elsewhere then must be there before.

Outcomes of `ship`: `ship` (site is set), `wait` (ask again at `until`), `keep` (this one is not sent, for a reason that
lasts). Of `send_inputs`: `send` or `keep`. Of `prune`: `prune` (the copies beside it are removed) or `keep`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import exp

from policies.intervals import URGENT, amount, span, young
from policies.links import LinkEstimate
from policies.model import CheckpointFacts, CheckpointRule, Decision, Reason, SiteFacts
from policies.placement import passing_refusal
from policies.tunable import tunable

ASK_AGAIN = 600_000_000
"""Microseconds until it is asked again whether a site can be sent to, when none could be."""


SURE_AFTER = 5
"""Transfers over a link after which no copy is sent that would take too long by what they tell."""

LINK_SECOND = 0.02
"""What a second of a link's time is worth, against one that a stage waits: files that are sent ahead go when nobody
else needs the way, and most of them are never read."""
AWAY = 4 * 3600.0
"""Seconds for which a facility that is lost is taken to stay away, and with it the inputs that lie nowhere else."""
MOST_AHEAD = 10**12
"""Bytes of inputs beyond which nothing is sent ahead: disks of other facilities are not filled on a guess."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AheadNumbers:
    """What sending ahead is worth."""

    link_second: float = tunable(LINK_SECOND, least=0.0, most=10.0)
    """Of a second of a link's time, against one that a stage waits: files that are sent ahead are mostly never read."""
    away: float = tunable(AWAY, least=0.0, most=30 * 86_400.0)
    """Seconds for which a facility that is lost is taken to stay away, and with it the inputs that lie nowhere else."""
    most_ahead: int = tunable(MOST_AHEAD, least=0, most=10**18)
    """Bytes of inputs beyond which nothing is sent ahead."""


USUAL = AheadNumbers()


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A site that might take the stage over."""

    site: SiteFacts
    link: LinkEstimate
    """How long this checkpoint would take to get there."""
    refused: Reason | None = None
    """Why it never will: by the stage's rules, or by what the site is."""
    failed: bool = False
    """The copy that was sent there last did not arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest checkpoint that was found good where the stage runs."""

    seq: int
    bytes: int
    good_at: int
    """When it was found good."""
    every: float | None = None
    """Seconds between two checkpoints so far; None: this is the first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """The newest checkpoint of which a copy can be read at another facility."""

    seq: int
    site: str
    good_at: int
    """When the checkpoint was found good where it was written: what was done since would be lost."""
    arrived_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What else there is to go by."""

    now: int
    urgent: bool = False
    seconds_left: float | None = None
    """Until the job's time limit; None: there is none."""
    goes_on: bool = False
    """Is the time limit only the end of a segment?"""
    elapsed: float = 0.0
    """Seconds since the job started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What the stage would have to wait for, were it started at the other site."""

    bytes: int | None
    """None: nobody knows."""
    seconds: float = 0.0
    """How long bringing them there will take, by what the links have taught."""
    fade: bool = False
    """Do any of them lie at the facility that would be lost?"""


def ship(
    rule: CheckpointRule,
    *,
    at: SiteFacts,
    newest: Newest,
    elsewhere: Elsewhere | None,
    targets: Sequence[Target],
    moment: Moment,
) -> Decision:
    """Judge the newest good checkpoint. `targets`: best first. No copy of the stage's is under way."""
    reasons: list[Reason] = []
    if rule.ship == "never":
        return _said("keep", reasons, Reason("ship", "keep", "the document says ship: never"), newest)
    target = _target(at, targets, reasons, now=moment.now)
    if target is None:
        return _nowhere(at, targets, reasons, newest, now=moment.now)
    reasons.append(
        Reason("next_candidate", "chosen", f"{target.site.name} would take over from {at.name}", target.site.name)
    )
    left = moment.seconds_left
    if left is not None and left < target.link.p50 and not moment.goes_on:
        fact = f"its job ends within {span(max(0.0, left))}, and a copy would take {span(target.link.p50)}"
        return _said("keep", reasons, Reason("seconds_left", "keep", fact, target.site.name), newest)
    decision = _when(rule, at, newest, elsewhere, target, moment, reasons)
    too_short = _kept_too_shortly(rule, newest, target, now=moment.now)
    if decision.outcome == "ship" and too_short is not None:
        return _said("wait", reasons, too_short, newest, until=moment.now + ASK_AGAIN, facts=dict(decision.facts))
    return decision


def _kept_too_shortly(rule: CheckpointRule, newest: Newest, target: Target, *, now: int) -> Reason | None:
    """Its site removes a checkpoint when `keep` newer ones are there. A copy that is known to take longer than that
    would never arrive, and nor would any after it. A link that is hardly known is tried."""
    takes, every = target.link.p50, newest.every
    if every is None or target.link.samples < SURE_AFTER or takes <= rule.keep * every - (now - newest.good_at) / 1e6:
        return None
    stays, enough = span(rule.keep * every), int(takes / every) + 2
    fact = f"a copy takes {span(takes)}, and a checkpoint stays at its site for {stays}: write `keep: {enough}`"
    return Reason("keep", "wait", fact, target.site.name)


def _when(
    rule: CheckpointRule,
    at: SiteFacts,
    newest: Newest,
    elsewhere: Elsewhere | None,
    target: Target,
    moment: Moment,
    reasons: list[Reason],
) -> Decision:
    """The time for it: the first rule with an opinion decides."""
    tau = young(target.link.p50, at.losses_every, weight=URGENT if moment.urgent else 1.0)
    facts: dict[str, object] = {
        "interval": round(tau),
        "copy_seconds": [round(target.link.p50, 1), round(target.link.p90, 1)],
        "transfers_seen": target.link.samples,
        "losses_every": at.losses_every,
        "urgent": moment.urgent,
        "checkpoint_every": newest.every,
        "elsewhere": elsewhere.seq if elsewhere else None,
    }

    def now(reason: Reason) -> Decision:
        return _said("ship", reasons, reason, newest, site=target.site.name, facts=facts)

    if elsewhere is None:
        return now(Reason("first", "ship", f"no checkpoint can be read away from {at.facility} yet"))
    if rule.ship == "always":
        return now(Reason("ship", "ship", "the document says ship: always"))
    due, last = elsewhere.good_at + round(tau * 1e6), _last_start(at, target, moment.now)
    if last is not None and _is_last(newest, target, last, moment.now, window=at.window_at or 0):
        words = f"announced maintenance of {at.name} begins in {_until(at.window_at or 0, moment.now)}"
        return now(Reason("window", "ship", f"{words}, and it is the last one that will arrive before"))
    words = _interval_words(at, target, urgent=moment.urgent)
    if moment.now >= due:
        age = span((moment.now - elsewhere.good_at) / 1e6)
        fact = (
            f"checkpoint {elsewhere.seq} at {elsewhere.site} is {age} old, and a copy leaves every {span(tau)}: {words}"
        )
        return now(Reason("interval", "ship", fact))
    until, rule_name, what = due, "interval", f"checkpoint {elsewhere.seq} is at {elsewhere.site}"
    fact = f"{what}, and a copy leaves every {span(tau)}: {words}"
    if last is not None and moment.now < last < due:
        until, rule_name = last, "window"
        fact = f"{what}, and the next copy leaves in time before the announced maintenance of {at.name}"
    return _said("wait", reasons, Reason(rule_name, "wait", fact), newest, until=until, facts=facts)


def _interval_words(at: SiteFacts, target: Target, *, urgent: bool) -> str:
    guess = "" if target.link.samples else ", as is guessed"
    copy = f"one takes {span(target.link.p50)} to {target.site.name}{guess}"
    words = f"{copy}, and {at.name} is lost every {span(at.losses_every)}"
    return f"{words}, and the stage is urgent" if urgent else words


def _until(at: int, now: int) -> str:
    return span(max(0.0, (at - now) / 1e6))


def _last_start(at: SiteFacts, target: Target, now: int) -> int | None:
    """When a copy must leave to be sure to arrive before the next announced window; None: none is announced."""
    if at.window_at is None or at.window_at <= now:
        return None
    return at.window_at - round(target.link.p90 * 1e6)


def _is_last(newest: Newest, target: Target, last: int, now: int, *, window: int) -> bool:
    """Is this the newest checkpoint that can still arrive in time?"""
    if now >= last:
        return now + round(target.link.p50 * 1e6) <= window
    return newest.every is not None and max(now, newest.good_at + round(newest.every * 1e6)) > last


def _target(at: SiteFacts, targets: Sequence[Target], reasons: list[Reason], *, now: int) -> Target | None:
    """The first that can be sent to; one that the last copy did not reach, or will not reach before the announced
    maintenance, only when there is no other."""
    able = []
    for target in targets:
        refusal = _refusal(at, target)
        if refusal is None:
            able.append(target)
        else:
            reasons.append(refusal)
    return min(able, key=lambda target: (target.failed, not _in_time(at, target, now)), default=None)


def _in_time(at: SiteFacts, target: Target, now: int) -> bool:
    return at.window_at is None or at.window_at <= now or now + round(target.link.p50 * 1e6) <= at.window_at


def _refusal(at: SiteFacts, target: Target) -> Reason | None:
    site = target.site
    if site.facility == at.facility:
        return Reason("facility", "refused", f"{site.name} fades together with {at.name}", site.name)
    return target.refused or passing_refusal(site)


def _nowhere(at: SiteFacts, targets: Sequence[Target], reasons: list[Reason], newest: Newest, *, now: int) -> Decision:
    """No site can be sent to: for a while, or as long as the documents stand."""
    if all(target.refused is not None or target.site.facility == at.facility for target in targets):
        return _said("keep", reasons, Reason("candidates", "keep", "no other facility could take over"), newest)
    words = "no site of another facility that could take over can be reached now"
    return _said("wait", reasons, Reason("candidates", "wait", words), newest, until=now + ASK_AGAIN)


def _said(
    outcome: str,
    reasons: Sequence[Reason],
    last: Reason,
    newest: Newest,
    *,
    site: str = "",
    until: int | None = None,
    facts: dict[str, object] | None = None,
) -> Decision:
    told = {"seq": newest.seq, "bytes": newest.bytes, **(facts or {})}
    return Decision("ship", outcome, (*reasons, last), site=site, until=until, facts=told)


# -- inputs ahead --------------------------------------------------------------------------------------------------


def send_inputs(
    rule: CheckpointRule,
    *,
    at: SiteFacts,
    to: str,
    inputs: Inputs,
    moment: Moment,
    numbers: AheadNumbers = USUAL,
) -> Decision:
    """Do the stage's inputs go where its checkpoint is sent, so that a failover need not wait for them?

    They do when the wait that is saved, by how likely it is, is worth more than the link's time:

        P(lost while it runs) * (bringing them + AWAY if they fade with the site) > LINK_SECOND * bringing them

    with P = 1 - exp(-remaining / time between two losses), losses being independent of each other, as they are for
    Young and Daly; P = 1 where announced maintenance begins before the stage is sure to have ended. For urgent work a
    second saved counts `URGENT` times, as for the interval between copies.
    """
    remaining = _remaining(moment)
    chance, why = _chance(at, remaining, moment.now)
    facts: dict[str, object] = {
        "bytes": inputs.bytes,
        "seconds": round(inputs.seconds, 1),
        "remaining": round(remaining),
        "chance": round(chance, 4),
        "fade": inputs.fade,
        "urgent": moment.urgent,
    }

    def said(outcome: str, *reasons: Reason) -> Decision:
        return Decision("inputs", outcome, reasons, site=to, facts=facts)

    against = _never_ahead(rule, at, inputs, moment, remaining, numbers.most_ahead)
    if against is not None:
        return said("keep", Reason(against.rule, "keep", against.fact, to))
    saved = (inputs.seconds + (numbers.away if inputs.fade else 0.0)) * (URGENT if moment.urgent else 1.0)
    worth, price = chance * saved, numbers.link_second * inputs.seconds
    facts |= {"worth": round(worth, 2), "price": round(price, 2)}
    size = f"{amount(inputs.bytes or 0)} take {span(inputs.seconds)} to {to}"
    lies = f", and are lost together with {at.facility}" if inputs.fade else ""
    likely = Reason("chance", "for" if worth > price else "keep", why, at.name)
    if worth > price:
        return said("send", likely, Reason("pays", "send", f"{size}{lies}: a failover need not wait for that", to))
    return said("keep", likely, Reason("pays", "keep", f"{size}{lies}: more than it is likely to save", to))


def _remaining(moment: Moment) -> float:
    """Seconds for which the stage will run yet. Of one whose end nobody knows as many are taken to be left as are
    over: it is met, on average, half done."""
    if moment.seconds_left is None:
        return moment.elapsed
    left = max(0.0, moment.seconds_left)
    return max(left, moment.elapsed) if moment.goes_on else left


def _chance(at: SiteFacts, remaining: float, now: int) -> tuple[float, str]:
    """How likely it is that the stage has to leave its site before its end, and why."""
    if at.window_at is not None and now < at.window_at <= now + round(remaining * 1e6):
        words = f"announced maintenance of {at.name} begins in {_until(at.window_at, now)}, maybe before the stage ends"
        return 1.0, words
    chance = 1.0 - exp(-remaining / at.losses_every) if at.losses_every > 0 else 1.0
    words = f"{at.name} is lost every {span(at.losses_every)}, and the stage may run for {span(remaining)} yet"
    return chance, f"{words} ({100 * chance:.2g} %)"


def _never_ahead(
    rule: CheckpointRule, at: SiteFacts, inputs: Inputs, moment: Moment, remaining: float, most: int
) -> Reason | None:
    """What speaks against it whatever it would save."""
    if rule.ship == "never":
        return Reason("ship", "keep", "the document says ship: never")
    if inputs.bytes is None:
        return Reason("size", "keep", "nobody knows how large the inputs are")
    if inputs.bytes > most:
        fact = f"the inputs have {amount(inputs.bytes)}: more than {amount(most)} are not sent on a guess"
        return Reason("size", "keep", fact)
    if inputs.seconds >= remaining:
        fact = f"the inputs take {span(inputs.seconds)}, and the stage ends within {span(remaining)}"
        return Reason("seconds_left", "keep", fact)
    if inputs.fade and not _there_before_window(at, inputs, moment.now):
        left = _until(at.window_at or 0, moment.now)
        fact = f"the inputs take {span(inputs.seconds)}, and {at.name} goes away in {left}"
        return Reason("window", "keep", fact)
    return None


def _there_before_window(at: SiteFacts, inputs: Inputs, now: int) -> bool:
    return at.window_at is None or at.window_at <= now or now + round(inputs.seconds * 1e6) <= at.window_at


# -- old copies ----------------------------------------------------------------------------------------------------


def prune(
    copies: Sequence[CheckpointFacts],
    *,
    site: str,
    known: Sequence[CheckpointFacts],
    keep: int,
    restoring: Collection[tuple[int, int, int, str]],
) -> tuple[Sequence[CheckpointFacts], Decision]:
    """Which of the copies that were brought to a site are removed: all but the newest `keep`.

    `known`: every good copy of the stage's, wherever it is. `restoring`: (attempt, generation, seq, site) of copies
    that an attempt is starting from.
    """
    order = sorted(copies, key=_age, reverse=True)
    newest = max((_age(copy) for copy in known), default=None)
    kept = [Reason("keep", "for", f"checkpoint {c.seq} is among the newest {keep} there", site) for c in order[:keep]]
    old: list[CheckpointFacts] = []
    for copy in order[max(1, keep) :]:
        if (copy.attempt, copy.generation, copy.seq, copy.site) in restoring:
            kept.append(Reason("restoring", "against", f"an attempt starts from checkpoint {copy.seq} at {site}", site))
        elif _age(copy) == newest:
            kept.append(Reason("newest", "against", f"no newer checkpoint than {copy.seq} is known anywhere", site))
        else:
            old.append(copy)
    if not old:
        return (), Decision("prune", "keep", tuple(kept), site=site)
    seqs = ", ".join(str(copy.seq) for copy in old)
    freed = amount(sum(copy.bytes for copy in old))
    gone = Reason(
        "keep", "prune", f"{seqs}: {len(order) - len(old)} newer ones stay there, and {freed} are freed", site
    )
    facts = {"seqs": [copy.seq for copy in old], "keep": keep}
    return old, Decision("prune", "prune", (*kept, gone), site=site, facts=facts)


def _age(copy: CheckpointFacts) -> tuple[int, int, int]:
    return copy.seq, copy.attempt, copy.generation
