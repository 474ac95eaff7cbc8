"""A play held against what it may cost, and against what must hold whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from broker.audit import CHECKED, Checked, check_all
from broker.drill.document import Bounds
from broker.drill.measure import Figures
from broker.drill.play import Played
from broker.drill.truth import Broken, judge
from broker.drill.values import Span
from broker.states import RunState
from policies.intervals import span

BOOKS = ("gate", "key", "double", "closed", "I23", "never", "product", "left")
"""What `truth` holds against the sites' own books."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One bound, and whether it holds."""

    name: str
    found: str
    bound: str
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of one play."""

    checks: tuple[Check, ...]
    violations: tuple[str, ...]
    """Of invariants, in words."""
    invariants: tuple[str, ...]
    """All that were asked."""

    @property
    def ok(self) -> bool:
        return not self.violations and all(check.ok for check in self.checks)


def verdict(played: Played, figures: Figures, bounds: Bounds) -> Verdict:
    """Of a play that is over, while its ground is still there."""
    return Verdict(
        checks=tuple(_checks(figures, bounds)),
        violations=tuple(violations(played)),
        invariants=(*CHECKED, *(name for name in BOOKS if name not in CHECKED)),
    )


def violations(played: Played) -> list[str]:
    """Every invariant that does not hold, in words; each once."""
    store, troubles = played.ground.store, played.troubles
    broken = Broken(dishonest=set(troubles.forgetful), ungated=set(troubles.wiped), gone=set(troubles.gone))
    over = RunState(played.ground.state(played.run_id)).final
    found = [str(violation) for violation in check_all(store, Checked())]
    return list(dict.fromkeys([*found, *judge(store, played.ground.sites, broken, over=over)]))


def _checks(figures: Figures, bounds: Bounds) -> Iterator[Check]:
    state = figures.state if RunState(figures.state).final else "WAITING"
    yield Check(name="state", found=state, bound=bounds.state, ok=state == bounds.state)
    yield _counted("double submissions", figures.double_submissions, Span(0, 0))
    if bounds.recovery is not None:
        yield _recovered(figures, bounds.recovery)
    if bounds.lost is not None:
        most = figures.shipping if bounds.lost == "shipping" else float(bounds.lost)
        yield _timed("work lost", figures.lost, most)
    if bounds.wasted is not None:
        yield _timed("node time wasted", figures.wasted, bounds.wasted)
    for name in ("moves", "restores", "alerts", "reaped", "adopted"):
        wanted: Span | None = getattr(bounds, name)
        if wanted is not None:
            yield _counted(name, getattr(figures, name), wanted)
    for path, most in bounds.within.items():
        yield _ready(path, figures.within.get(path), most)


def _recovered(figures: Figures, most: float) -> Check:
    if figures.unrecovered:
        found = f"{figures.unrecovered} stages never worked again"
        return Check(name="recovery", found=found, bound=f"at most {span(most)}", ok=False)
    if figures.recovery is None:
        return Check(name="recovery", found="no stage was hit", bound=f"at most {span(most)}", ok=True)
    return _timed("recovery", figures.recovery, most)


def _ready(path: str, took: float | None, most: float) -> Check:
    if took is None:
        return Check(name=f"{path} ready", found="no result", bound=f"within {span(most)}", ok=False)
    return Check(name=f"{path} ready", found=span(took), bound=f"within {span(most)}", ok=took <= most)


def _timed(name: str, found: float, most: float) -> Check:
    return Check(name=name, found=span(found), bound=f"at most {span(most)}", ok=found <= most)


def _counted(name: str, found: int, wanted: Span) -> Check:
    return Check(name=name, found=str(found), bound=str(wanted), ok=wanted.holds(found))
