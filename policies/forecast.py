"""When a stage would be done at one site: the sum by which candidates are compared, with each term's source. Pure.

    E[finish] = (stage-in + wait + work left, as quick as the site is + stage-out) x risk

Each term has a median and a 90th percentile in seconds. The sum's median is taken to be the sum of the medians, and its
90th percentile to lie as far above as the root of the squared distances: the terms are taken to be independent.
Ranked is by the expectation: each term's mean by Swanson's rule (30 % of p10, 40 % of p50, 30 % of p90; Hurst, Brown
and Swanson 2000), with the p10 of a lognormal, since a queue that is short as a rule and a day long now and then is no
short queue. The risk is what losing the site costs: a piece of work that begins anew whenever the site is lost, losses
coming as they may, takes (e^x - 1) / x times its own length, x being that length by the time between two (Daly 2006).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import erf, expm1, isfinite, log, sqrt

from policies.intervals import span

P90 = 1.2816
"""Standard deviations above the median below which nine of ten are."""
LONGEST = 3.2e8
"""Seconds, ten years: no term is longer."""
_MOST_LOSSES = 3.0
"""Of the site within one piece of work: beyond that it is only told that the site is hopeless."""


@dataclass(frozen=True, slots=True)
class Term:
    """One part of the sum, in seconds."""

    p50: float
    p90: float
    """Nine of ten are quicker. Never less than `p50`."""
    source: str = ""
    """Where it is known from, in words."""
    samples: int = 0
    """What it was learned from; 0: nothing was."""

    def __post_init__(self) -> None:
        p50 = min(LONGEST, max(0.0, self.p50)) if isfinite(self.p50) else LONGEST
        p90 = min(LONGEST, max(p50, self.p90)) if isfinite(self.p90) else LONGEST
        object.__setattr__(self, "p50", p50)
        object.__setattr__(self, "p90", p90)

    @property
    def mean(self) -> float:
        """By Swanson's rule. Grows with either percentile."""
        p10 = self.p50 * self.p50 / self.p90 if self.p90 else 0.0
        return 0.3 * p10 + 0.4 * self.p50 + 0.3 * self.p90

    @property
    def variance(self) -> float:
        """Seconds squared."""
        return ((self.p90 - self.p50) / P90) ** 2

    def times(self, factor: float) -> Term:
        """The same at another speed."""
        return replace(self, p50=self.p50 * factor, p90=self.p90 * factor)

    def less(self, seconds: float) -> Term:
        """What is left of it after so much; how far it varies shrinks as it does."""
        if self.p50 <= 0 or seconds <= 0:
            return self
        return self.times(max(0.0, 1 - seconds / self.p50))


NOTHING = Term(0.0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """One candidate."""

    site: str
    lane: str = "normal"
    stage_in: Term = NOTHING
    wait: Term = NOTHING
    """In the site's queue, from the submission to the start."""
    work: Term = NOTHING
    """What is left of it since the newest checkpoint that can be read from there, as quick as that site is."""
    stage_out: Term = NOTHING
    speed: float = 1.0
    """Seconds that a second of the work takes there; above 1: it is slower there."""
    saved: float = 0.0
    """Seconds of work there that a checkpoint saves."""
    losses_every: float = 0.0
    """Seconds, on average, between two losses of the site; 0: it is never lost."""
    at_stake: float | None = None
    """The most seconds that one loss would undo: the work since the last copy elsewhere. None: all of it."""
    charge: float | None = None
    """What it would be charged; None: not known."""
    unit: str = ""
    """Of the charge: node_hours, usd."""

    @property
    def terms(self) -> tuple[tuple[str, Term], ...]:
        """The four, in their order, each with the name that is printed."""
        return (
            ("stage-in", self.stage_in),
            ("wait", self.wait),
            ("work", self.work),
            ("stage-out", self.stage_out),
        )

    @property
    def known(self) -> bool:
        """Is any of it more than a guess?"""
        return any(term.samples for _, term in self.terms)

    @cached_property
    def finish_p50(self) -> float:
        """Seconds from now until the stage is done there, if the site is not lost: as often sooner as later."""
        return self.stage_in.p50 + self.wait.p50 + self.work.p50 + self.stage_out.p50

    @cached_property
    def finish_p90(self) -> float:
        """Nine times of ten it is done by then."""
        return self.finish_p50 + P90 * sqrt(self.variance)

    @property
    def variance(self) -> float:
        """Of the finish, seconds squared."""
        return self.stage_in.variance + self.wait.variance + self.work.variance + self.stage_out.variance

    @property
    def risk(self) -> float:
        """The probability that the site is lost before it is done."""
        return -expm1(-self.finish_p50 / self.losses_every) if self.losses_every > 0 else 0.0

    @cached_property
    def expected(self) -> float:
        """E[finish] in seconds, the risk included: what candidates are ranked by."""
        mean = self.stage_in.mean + self.wait.mean + self.work.mean + self.stage_out.mean
        if self.losses_every <= 0 or mean <= 0:
            return mean
        piece = mean if self.at_stake is None else min(mean, max(0.0, self.at_stake))
        x = min(_MOST_LOSSES, piece / self.losses_every)
        return mean * expm1(x) / x if x > 0 else mean

    def with_work(self, work: Term, speed: float) -> Forecast:
        """The same but for the work. Spelled out, for it is done for every stage and site: `replace` takes three times
        as long."""
        return Forecast(
            site=self.site,
            lane=self.lane,
            stage_in=self.stage_in,
            wait=self.wait,
            work=work,
            stage_out=self.stage_out,
            speed=speed,
            saved=self.saved,
            losses_every=self.losses_every,
            at_stake=self.at_stake,
            charge=self.charge,
            unit=self.unit,
        )

    def chance_by(self, seconds: float) -> float:
        """The probability that it is done within so long, and the site not lost before: a lognormal finish."""
        if seconds <= 0:
            return 0.0
        kept, p50, p90 = 1 - self.risk, self.finish_p50, self.finish_p90
        if p50 <= 0 or p90 <= p50:
            return kept if seconds >= p50 else 0.0
        deviations = log(seconds / p50) / log(p90 / p50) * P90
        return kept * (1 + erf(deviations / sqrt(2))) / 2

    @cached_property
    def facts(self) -> Mapping[str, object]:
        """Every figure and source, for the Decision's facts, but what is nothing; `from_facts` is the inverse."""
        data: dict[str, object] = {
            "site": self.site,
            "lane": self.lane,
            "expected": round(self.expected, 3),
            "finish": [round(self.finish_p50, 3), round(self.finish_p90, 3)],
            "risk": round(self.risk, 6),
            "losses_every": self.losses_every,
        }
        for name in _TERMS:
            term: Term = getattr(self, name)
            if term.p90 > 0 or term.source:
                data[name] = [round(term.p50, 3), round(term.p90, 3), term.samples, term.source]
        if self.speed != 1.0:
            data["speed"] = round(self.speed, 4)
        if self.saved:
            data["saved"] = round(self.saved, 3)
        if self.at_stake is not None:
            data["at_stake"] = round(self.at_stake, 3)
        if self.charge is not None:
            data |= {"charge": self.charge, "unit": self.unit}
        return data

    @cached_property
    def words(self) -> str:
        """The sum on one line, sources left out."""
        return printed(self)

    @classmethod
    def from_facts(cls, data: Mapping[str, object]) -> Forecast:
        """What `facts` gave, as it is read back from JSON. Raises KeyError, TypeError, ValueError where it is none."""
        known = {name: data[name] for name in _PLAIN if name in data}
        terms = {name: _term(data[name]) for name in _TERMS if name in data}
        return cls(**{"site": data["site"], **known, **terms})  # type: ignore[arg-type]


_TERMS = ("stage_in", "wait", "work", "stage_out")
_PLAIN = ("site", "lane", "speed", "saved", "losses_every", "at_stake", "charge", "unit")


def _term(row: object) -> Term:
    if not isinstance(row, list | tuple):
        raise TypeError(f"no term of a forecast: {row!r}")
    p50, p90, samples, source = row
    return Term(float(p50), float(p90), str(source), int(samples))


_span = lru_cache(maxsize=4096)(span)
"""Thousands of forecasts share their terms."""


def printed(forecast: Forecast) -> str:
    """The sum on one line, sources left out."""
    parts = " + ".join(f"{name} {_span(term.p50)}" for name, term in forecast.terms if term.p90 > 0)
    spread = f" (9 of 10 within {_span(forecast.finish_p90)})" if forecast.finish_p90 > forecast.finish_p50 else ""
    losses = f", lost before that {_percent(forecast.risk)}" if forecast.risk >= _WORTH_TELLING else ""
    charge = ""
    if forecast.charge is not None:
        charge = f", {forecast.charge:.3g} {forecast.unit.replace('_', ' ')}".rstrip()
    return f"done in {_span(forecast.finish_p50)}{spread}: {parts or 'nothing to wait for'}{losses}{charge}"


def sources(forecast: Forecast) -> str:
    """Where each term is known from, on one line."""
    return "; ".join(f"{name}: {term.source}" for name, term in forecast.terms if term.source)


_WORTH_TELLING = 0.01


def _percent(part: float) -> str:
    return f"{100 * part:.2g} %"


def equal(one: float, other: float, *, band: float = 0.1, seconds: float = 60.0) -> bool:
    """Are two expected finishes as good as the same: within a tenth of the sooner one, or a minute?"""
    return abs(one - other) <= max(seconds, band * min(one, other))


__all__ = ["LONGEST", "NOTHING", "P90", "Forecast", "Term", "equal", "printed", "sources"]
