"""Where a stage starts: hard constraints first, each refusal named, then an order among what is left.

Outcomes: `place` (site is set), `copy` (no site: it only moves data), `wait` (no room, or nobody answers; ask again at
`until`), `impossible` (no site known could ever take it), `forbidden` (it may not copy to where it should).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from policies.checkpoint import readable_from
from policies.failback import Journey, kept_from_home, liking, why_there
from policies.fit import Fit, fit
from policies.forecast import Forecast, equal
from policies.intervals import span
from policies.model import CheckpointFacts, Decision, Reason, Rules, SiteFacts
from policies.residency import WAIVED, Waiver, allowed, judged, side_of

WAIT_FOR_ROOM = 1_000_000
WAIT_FOR_ANSWER = 5_000_000
WAIT_FOR_MONEY = 60_000_000
"""Microseconds until the question is asked again. A place that comes free asks it at once."""
WORTH_STARTING = 600.0
"""Seconds of work for which a stage with checkpoints is begun although a maintenance will end it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A site, and the stage's rules as they are there (`at:` merged)."""

    site: SiteFacts
    rules: Rules
    forecast: Forecast | None = None
    """When the stage would be done there; None: nobody has worked it out, and no site is sooner than another."""


def static_refusal(rules: Rules, site: SiteFacts, waived: Sequence[Waiver] = ()) -> Reason | None:
    """Why this site could never take the stage, as far as documents tell; None: it could. `waived`: the run's waivers
    that are in force now."""
    names = {site.name, site.facility, site.profile}
    if rules.sites.allow and not names.intersection(rules.sites.allow):
        return _refused("sites.allow", f"only {', '.join(rules.sites.allow)} may run it", site)
    if names.intersection(rules.sites.deny):
        return _refused("sites.deny", f"{site.name} is denied", site)
    against = allowed(rules.data, site.name, side_of(site), waived)
    if against is not None:
        return against
    if rules.duplicates == "never" and site.claim == "none":
        return _refused("duplicates", f"{site.name} has no start gate, so a second copy cannot be kept out", site)
    found = fit(rules, site)
    return found if isinstance(found, Reason) else None


def passing_refusal(site: SiteFacts) -> Reason | None:
    """Why this site does not take anything just now; None: it does."""
    if site.drained:
        return _refused("drained", f"{site.name} is drained: {site.drained}", site)
    if site.frozen:
        return _refused("freeze.submits", site.frozen, site)
    if site.quarantined:
        fact = f"{site.name} is in quarantine: its jobs since the backup that was restored are not known yet"
        return _refused("quarantine", fact, site)
    if not site.answers:
        return _refused("answers", f"{site.name} gives no answer", site)
    if site.refuses:
        return _refused("health", site.refuses, site)
    return None


def window_refusal(candidate: Candidate, now: int) -> Reason | None:
    """Why the stage is not begun there before the next announced maintenance; None: it can end before, or leave a
    checkpoint. Without a forecast nobody knows."""
    site, told = candidate.site, candidate.forecast
    if site.window_at is None or site.window_at <= now or told is None:
        return None
    left = (site.window_at - now) / 1e6
    begins = told.stage_in.p50 + told.wait.p50
    if candidate.rules.checkpoint is not None:
        needs, what = begins + min(told.work.p90, WORTH_STARTING), "start and leave a checkpoint"
    else:
        needs, what = begins + told.work.p90 + told.stage_out.p50, "end"
    if needs <= left:
        return None
    fact = f"announced maintenance of {site.name} begins in {span(left)}, and it needs {span(needs)} to {what}"
    return _refused("window", fact, site)


def held_back(candidates: Iterable[Candidate]) -> Reason | None:
    """Why nothing may start at any of these sites yet, after a backup was restored; None: it may.

    A site in quarantine may hold a copy from the lost hours. It is waited for as long as it may answer; where copies
    may not overlap, until it has.
    """
    for site, rules in ((candidate.site, candidate.rules) for candidate in candidates):
        if site.quarantined and (rules.duplicates != "allow" or not site.silent):
            fact = f"{site.name} may hold a copy from the hours that the restored backup does not know"
            return Reason("quarantine", "wait", fact, site.name)
    return None


def taken_up(*, site: str, key: str) -> Decision:
    """The stage's next attempt was begun in the hours that are lost, and its job was found: go on with that one."""
    fact = f"its job {key} was found at {site} after a backup was restored: it is taken up, not started again"
    return Decision("placement", "place", (Reason("found", "chosen", fact, site),), site=site)


def copies(*, to: Sequence[str]) -> Decision:
    """A stage that only moves data is at no site. `to`: PLACE:path of all that it brings."""
    names = ", ".join(to[:3]) + (f" and {len(to) - 3} more" if len(to) > 3 else "")
    return Decision(
        "placement", "copy", (Reason("copy", "chosen", f"it only moves data, to {names}: no site is asked"),)
    )


def skipped(why: str) -> Decision:
    """The document does not want the stage run with the params that were given."""
    return Decision("when", "skip", (Reason("when", "skip", why),))


def no_place(against: Sequence[Reason]) -> Decision:
    """A stage that only moves data may not bring it where the document says."""
    return Decision("placement", "forbidden", tuple(against))


def place(
    candidates: Sequence[Candidate],
    *,
    now: int,
    want: str = "",
    avoid: Sequence[str] = (),
    checkpoints: Sequence[CheckpointFacts] = (),
    near: str = "",
    static: Mapping[str, Reason | None] | None = None,
    waived: Sequence[Waiver] = (),
    unpaid: Mapping[str, Reason] | None = None,
    journey: Journey | None = None,
) -> Decision:
    """Choose a site.

    `want`: an operator's wish, which beats every preference but no constraint. `avoid`: where it failed before;
    taken again only when nothing else is left. `near`: the site where the files are that it would rather be beside.
    `static`: refusals by site if the caller has them already. `waived`: the run's waivers that are in force now.
    `unpaid`: sites of which nobody can pay for the stage there, and why (`policies.budget`).
    `journey`: of a run of which a stage was carried elsewhere.
    """
    reasons: list[Reason] = []
    possible: list[Candidate] = []
    for candidate in candidates:
        site = candidate.site
        never = static[site.name] if static is not None else static_refusal(candidate.rules, site, waived)
        if never is not None:
            reasons.append(never)
        else:
            possible.append(candidate)
    if not possible:
        return Decision("placement", "impossible", (*reasons, Reason("candidates", "refused", "no site can take it")))
    held = held_back(possible)
    if held is not None:
        reasons.append(held)
        return Decision("placement", "wait", tuple(reasons), until=now + WAIT_FOR_ANSWER, facts={"for": "answer"})
    open_ = []
    for candidate in possible:
        refusal = passing_refusal(candidate.site) or window_refusal(candidate, now)
        if refusal is None:
            open_.append(candidate)
        else:
            reasons.append(refusal)
    if not open_:
        reasons.append(Reason("candidates", "wait", "no site that could take it answers and is open"))
        return Decision("placement", "wait", tuple(reasons), until=now + WAIT_FOR_ANSWER, facts={"for": "answer"})
    paid = [candidate for candidate in open_ if candidate.site.name not in (unpaid or {})]
    reasons.extend(reason for name, reason in (unpaid or {}).items() if any(c.site.name == name for c in open_))
    if not paid:
        reasons.append(Reason("candidates", "wait", "no site that could take it now can be paid for"))
        return Decision("placement", "wait", tuple(reasons), until=now + WAIT_FOR_MONEY, facts={"for": "money"})
    open_ = paid
    if want not in {c.site.name for c in open_}:  # a person may send it home
        open_ = list(kept_from_home(open_, journey, reasons))
    exceptions = {c.site.name: words for c in open_ if (words := _waived_at(c, waived))}
    ranked = _rank(
        open_,
        reasons,
        now=now,
        want=want,
        avoid=avoid,
        checkpoints=checkpoints,
        near=near,
        last=exceptions.keys(),
        journey=journey,
    )
    return replace(ranked, reasons=(*ranked.reasons, *exceptions.get(ranked.site, ())))


def _waived_at(candidate: Candidate, waived: Sequence[Waiver]) -> Sequence[Reason]:
    """Rules that forbid a site to the data, and that are waived; each names who agreed to that."""
    found = judged(candidate.rules.data, candidate.site.name, side_of(candidate.site), waived) if waived else ()
    return [reason for reason in found if reason.verdict == WAIVED]


def _rank(
    candidates: Sequence[Candidate],
    reasons: list[Reason],
    *,
    now: int,
    want: str,
    avoid: Sequence[str],
    checkpoints: Sequence[CheckpointFacts],
    near: str,
    last: Collection[str],
    journey: Journey | None,
) -> Decision:
    """`last`: sites that are allowed by way of exception, and taken where no other one has room."""
    pool = _wanted(candidates, want, reasons) or _not_failed_at(candidates, avoid, reasons)
    roomy = [c for c in pool if c.site.share > 0]
    if not roomy:
        reasons.extend(Reason("room", "wait", _full(c.site), c.site.name) for c in pool)
        return Decision("placement", "wait", tuple(reasons), until=now + WAIT_FOR_ROOM, facts={"for": "room"})
    best = _best(roomy, checkpoints, near=near, last=last, journey=journey)
    reasons.extend(_merits(best, checkpoints))
    reasons.extend(why_there(best, journey))
    reasons.extend(_sums(best, roomy))
    if near and best.site.name == near:
        reasons.append(Reason("near", "for", f"the files that it is to be near are at {near}", near))
    elif near:
        reasons.append(Reason("near", "against", f"{near}, where its files are, cannot take it now", near))
    reasons.extend(
        Reason("order", "against", f"{c.site.name} comes after {best.site.name}: {_merit_words(c)}", c.site.name)
        for c in roomy
        if c is not best
    )
    return Decision("placement", "place", tuple(reasons), site=best.site.name, facts=_table(roomy))


def _wanted(candidates: Sequence[Candidate], want: str, reasons: list[Reason]) -> Sequence[Candidate]:
    """The site that an operator asked for, also if it failed there before: he knows that."""
    pool = [c for c in candidates if c.site.name == want]
    if pool:
        reasons.append(Reason("wanted", "for", f"an operator asked for {want}", want))
    return pool


def _not_failed_at(candidates: Sequence[Candidate], avoid: Sequence[str], reasons: list[Reason]) -> Sequence[Candidate]:
    fresh = [c for c in candidates if c.site.name not in avoid]
    if not fresh:
        return candidates
    reasons.extend(
        Reason("failed_there", "refused", f"it failed at {c.site.name} before, others are left", c.site.name)
        for c in candidates
        if c.site.name in avoid
    )
    return fresh


def _full(site: SiteFacts) -> str:
    taken = f"{site.load} of {site.slots} places at {site.name} are taken"
    return taken if site.load >= site.slots else f"{taken}, and other runs wait for the rest"


def preference(candidate: Candidate) -> tuple[int, str]:
    """How far down the document's `prefer` a site stands; smaller is better, ties by name."""
    rank = _liked(candidate)
    return len(candidate.rules.sites.prefer) if rank is None else rank, candidate.site.name


def _liked(candidate: Candidate) -> int | None:
    """Its place in `prefer`, from 0 on; None: it is not named there."""
    site = candidate.site
    names = (site.name, site.facility, site.profile)
    return next((i for i, name in enumerate(candidate.rules.sites.prefer) if name in names), None)


def _best(
    candidates: Sequence[Candidate],
    checkpoints: Sequence[CheckpointFacts],
    *,
    near: str,
    last: Collection[str],
    journey: Journey | None,
) -> Candidate:
    """First what people have said and what is well; of those the soonest; of those that are as good as that, the old
    order. So a second's difference moves nothing, and where nothing is known nothing changes."""
    if len(candidates) == 1:
        return candidates[0]
    said = {
        c.site.name: (c.site.name in last, c.site.name != near, liking(c, journey), *_said_order(c)) for c in candidates
    }
    first = min(said.values())
    pool = [c for c in candidates if said[c.site.name] == first]
    told = [c.forecast.expected for c in pool if c.forecast is not None]
    if len(told) == len(pool):
        soonest = min(told)
        pool = [c for c, expected in zip(pool, told, strict=True) if equal(soonest, expected)]
    return min(pool, key=lambda c: _tie_order(c, checkpoints))


def _said_order(candidate: Candidate) -> tuple[int, bool, int]:
    """Smaller is better: the preference, then a site that is well, then the better lane of the wish."""
    rank, _ = preference(candidate)
    wish, lane = candidate.rules.lane, _lane(candidate)
    return rank, bool(candidate.site.unwell), wish.index(lane) if lane else 0


def _tie_order(candidate: Candidate, checkpoints: Sequence[CheckpointFacts]) -> tuple[int, float, str]:
    """Smaller is better: a checkpoint that is already there, then the emptier site."""
    site = candidate.site
    newest = max((c.seq for c in readable_from(checkpoints, site.name)), default=-1)
    here = max((c.seq for c in checkpoints if c.site == site.name), default=-1)
    return 0 if here == newest else 1, site.load / max(site.slots, 1), site.name


def _lane(candidate: Candidate) -> str:
    """The lane that the stage would be in there; empty: it wished for none, or fits none."""
    found = fit(candidate.rules, candidate.site) if candidate.rules.lane else None
    return found.lane if isinstance(found, Fit) else ""


def _merits(candidate: Candidate, checkpoints: Sequence[CheckpointFacts]) -> Iterable[Reason]:
    site = candidate.site
    yield Reason("chosen", "chosen", _merit_words(candidate), site.name)
    if site.unwell:
        yield Reason("health", "against", site.unwell, site.name)
    if candidate.rules.lane:
        found = fit(candidate.rules, site)
        yield from found.notes if isinstance(found, Fit) else ()
    if any(c.site == site.name for c in checkpoints):
        yield Reason("checkpoint_there", "for", f"a checkpoint is already at {site.name}", site.name)


def _sums(best: Candidate, candidates: Sequence[Candidate]) -> Iterable[Reason]:
    """The sum of each candidate, the chosen one's first. One alone needs none where nothing is known of it."""
    for candidate in (best, *(c for c in candidates if c is not best)):
        told = candidate.forecast
        if told is not None and (len(candidates) > 1 or told.known):
            verdict = "for" if candidate is best else "against"
            yield Reason("forecast", verdict, f"{told.site}: {told.words}", told.site)


def _table(candidates: Sequence[Candidate]) -> Mapping[str, object]:
    """What the sites were compared by, in numbers: a later look can decide it anew."""
    rows = [
        {**c.forecast.facts, "load": c.site.load, "slots": c.site.slots} for c in candidates if c.forecast is not None
    ]
    return {"candidates": rows} if rows else {}


def _merit_words(candidate: Candidate) -> str:
    site, prefer = candidate.site, candidate.rules.sites.prefer
    liked = _liked(candidate)
    taste = f"preference {liked + 1} of {len(prefer)}, " if liked is not None else ("not preferred, " if prefer else "")
    lane = _lane(candidate) if len(candidate.rules.lane) > 1 else ""
    return f"{taste}{f'lane {lane}, ' if lane else ''}{site.load} of {site.slots} places taken"


def _refused(rule: str, fact: str, site: SiteFacts) -> Reason:
    return Reason(rule, "refused", fact, site.name)
