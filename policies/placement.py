"""Where a stage starts: hard constraints first, each refusal named, then an order among what is left.

Outcomes: `place` (site is set), `copy` (no site: it only moves data), `wait` (no room, or nobody answers; ask again at
`until`), `impossible` (no site known could ever take it), `forbidden` (it may not copy to where it should).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from policies.failback import Journey, kept_from_home, liking, why_there
from policies.fit import fit
from policies.intervals import span
from policies.model import CheckpointFacts, Decision, Reason, Rules, SiteFacts
from policies.ranking import USUAL, Candidate, RankNumbers, after, best_of, merits, preference, said_order, table
from policies.residency import WAIVED, Waiver, allowed, judged, side_of

WAIT_FOR_ROOM = 1_000_000
WAIT_FOR_ANSWER = 5_000_000
WAIT_FOR_MONEY = 60_000_000
"""Microseconds until the question is asked again. A place that comes free asks it at once."""
WORTH_STARTING = 600.0
"""Seconds of work for which a stage with checkpoints is begun although a maintenance will end it."""


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
    numbers: RankNumbers = USUAL,
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
        numbers=numbers,
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
    numbers: RankNumbers,
) -> Decision:
    """`last`: sites that are allowed by way of exception, and taken where no other one has room."""
    pool = _wanted(candidates, want, reasons) or _not_failed_at(candidates, avoid, reasons)
    roomy = [c for c in pool if c.site.share > 0]
    if not roomy:
        reasons.extend(Reason("room", "wait", _full(c.site), c.site.name) for c in pool)
        return Decision("placement", "wait", tuple(reasons), until=now + WAIT_FOR_ROOM, facts={"for": "room"})
    orders = {c.site.name: said_order(c, near=near, last=last, liking=liking(c, journey)) for c in roomy}
    best = best_of(roomy, orders, checkpoints, numbers)
    reasons.extend(merits(best, checkpoints, alone=len(roomy) == 1))
    reasons.extend(why_there(best, journey))
    if near and best.site.name == near:
        reasons.append(Reason("near", "for", f"the files that it is to be near are at {near}", near))
    elif near:
        reasons.append(Reason("near", "against", f"{near}, where its files are, cannot take it now", near))
    reasons.extend(after(c, best) for c in roomy if c is not best)
    return Decision("placement", "place", tuple(reasons), site=best.site.name, facts=table(roomy, orders, checkpoints))


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


def _refused(rule: str, fact: str, site: SiteFacts) -> Reason:
    return Reason(rule, "refused", fact, site.name)


__all__ = [
    "Candidate",
    "copies",
    "held_back",
    "no_place",
    "passing_refusal",
    "place",
    "preference",
    "skipped",
    "static_refusal",
    "taken_up",
    "window_refusal",
]
