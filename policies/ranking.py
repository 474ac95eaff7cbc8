"""The order among sites that can take a stage now, and what is said of it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from policies.checkpoint import readable_from
from policies.fit import Fit, fit
from policies.forecast import Forecast, equal
from policies.model import CheckpointFacts, Reason, Rules, SiteFacts
from policies.tunable import tunable


@dataclass(frozen=True, slots=True, kw_only=True)
class RankNumbers:
    """When two sums are as good as the same: then the checkpoint, the load and the name decide."""

    band: float = tunable(0.1, least=0.0, most=1.0)
    """Within so much of the sooner one, or"""
    seconds: float = tunable(60.0, least=0.0, most=86_400.0)
    """within so many seconds."""


USUAL = RankNumbers()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A site, and the stage's rules as they are there (`at:` merged)."""

    site: SiteFacts
    rules: Rules
    forecast: Forecast | None = None
    """When the stage would be done there; None: nobody has worked it out, and no site is sooner than another."""


def preference(candidate: Candidate) -> tuple[int, str]:
    """How far down the document's `prefer` a site stands; smaller is better, ties by name."""
    rank = _liked(candidate)
    return len(candidate.rules.sites.prefer) if rank is None else rank, candidate.site.name


def _liked(candidate: Candidate) -> int | None:
    """Its place in `prefer`, from 0 on; None: it is not named there."""
    site = candidate.site
    if not candidate.rules.sites.prefer:
        return None
    names = (site.name, site.facility, site.profile)
    return next((i for i, name in enumerate(candidate.rules.sites.prefer) if name in names), None)


def said_order(candidate: Candidate, *, near: str, last: Collection[str], liking: int = 0) -> tuple[int, ...]:
    """What goes before the sum; smaller is better: no exception made for it, its files near, where a moved run wants to
    be (`liking`), the preference, a site that is well, the better lane of the wish."""
    name = candidate.site.name
    rank, _ = preference(candidate)
    wish, lane = candidate.rules.lane, _lane(candidate)
    well = int(bool(candidate.site.unwell))
    return int(name in last), int(name != near), liking, rank, well, wish.index(lane) if lane else 0


def best_of(
    candidates: Sequence[Candidate],
    orders: Mapping[str, tuple[int, ...]],
    checkpoints: Sequence[CheckpointFacts],
    numbers: RankNumbers,
) -> Candidate:
    """First what people have said and what is well (`orders`, by site); of those the soonest; of those that are as good
    as that, the old order. So a second's difference moves nothing, and where nothing is known nothing changes."""
    first = min(orders.values())
    pool = [c for c in candidates if orders[c.site.name] == first]
    told = [c.forecast.expected for c in pool if c.forecast is not None]
    if len(told) == len(pool):
        soonest = min(told)
        pool = [
            c
            for c, expected in zip(pool, told, strict=True)
            if equal(soonest, expected, band=numbers.band, seconds=numbers.seconds)
        ]
    return min(pool, key=lambda c: _tie_order(c, checkpoints))


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


def merits(candidate: Candidate, checkpoints: Sequence[CheckpointFacts], *, alone: bool) -> Iterable[Reason]:
    """What speaks for the chosen site. `alone`: no other one was left; then its sum is told only if it is no guess."""
    site, told = candidate.site, candidate.forecast
    yield Reason("chosen", "chosen", _merit_words(candidate), site.name)
    if told is not None and (told.known or not alone):
        yield Reason("forecast", "for", told.words, site.name)
    if site.unwell:
        yield Reason("health", "against", site.unwell, site.name)
    if candidate.rules.lane:
        found = fit(candidate.rules, site)
        yield from found.notes if isinstance(found, Fit) else ()
    if any(c.site == site.name for c in checkpoints):
        yield Reason("checkpoint_there", "for", f"a checkpoint is already at {site.name}", site.name)


def after(candidate: Candidate, best: Candidate) -> Reason:
    """Why a site comes after the chosen one."""
    words = _merit_words(candidate)
    if candidate.forecast is not None:
        words += f"; {candidate.forecast.words}"
    return Reason(
        "order", "against", f"{candidate.site.name} comes after {best.site.name}: {words}", candidate.site.name
    )


def table(
    candidates: Sequence[Candidate], orders: Mapping[str, tuple[int, ...]], checkpoints: Sequence[CheckpointFacts]
) -> Mapping[str, object]:
    """What the sites were compared by, in numbers: a later look can decide it anew (`policies.again`)."""
    rows = [
        {
            **c.forecast.facts,
            "order": orders[c.site.name],
            "no_checkpoint": _tie_order(c, checkpoints)[0],
            "load": c.site.load,
            "slots": c.site.slots,
        }
        for c in candidates
        if c.forecast is not None
    ]
    return {"candidates": rows} if rows else {}


def _merit_words(candidate: Candidate) -> str:
    site, prefer = candidate.site, candidate.rules.sites.prefer
    liked = _liked(candidate)
    taste = f"preference {liked + 1} of {len(prefer)}, " if liked is not None else ("not preferred, " if prefer else "")
    lane = _lane(candidate) if len(candidate.rules.lane) > 1 else ""
    return f"{taste}{f'lane {lane}, ' if lane else ''}{site.load} of {site.slots} places taken"
