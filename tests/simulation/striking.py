"""Where a scenario can be struck, once or twice, and whether its end is one that it may have."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Sequence

from simulation.crashing import Ground, Played, Rig, Scenario, Strike, in_memory

NAPS = (3, 14)
"""Rounds that a worker stands still: less, and more, than its leases last."""

Ends = Collection[tuple[str, ...]]


def by_name(scenario: Scenario) -> str:
    """For the names of tests."""
    return scenario.name.replace(" ", "-")


def undisturbed(scenario: Scenario, ground: Ground = in_memory) -> Played:
    """The scenario without a crash."""
    return Rig(scenario, ground=ground).play()


def crash_free_ends(scenario: Scenario) -> Ends:
    """How the story may end when nobody crashes, though the worker now and then stands still for a while."""
    played = undisturbed(scenario)
    points = len(played.points)
    places = range(0, points, max(1, points // 12))
    naps = {Rig(scenario, Strike(at, "nap"), naps=rounds).play().ends for at in places for rounds in NAPS}
    return naps | {played.ends}


def strikes(played: Played, *, start: int = 0, every: bool = False, healed: bool = False) -> list[Strike]:
    """What may befall from a point on. A worker's memory dies with it, so crashes between two traces are one and the
    same; `every`: all of them all the same. `healed`: leases are always broken, so that nobody waits for them."""
    found = []
    for at, call in enumerate(played.points[start:], start):
        after_a_trace = at == start or played.points[at - 1].writes
        if every or after_a_trace:
            found.append(Strike(at, "crash", "break" if healed else ("break", "wait")[at % 2]))
            if every:
                found.append(Strike(at, "crash", ("wait", "break")[at % 2]))
        if call.writes and at in played.answered:
            found.append(Strike(at, "reply"))
    return found


def pairs(scenario: Scenario, firsts: Iterable[Strike]) -> Iterator[tuple[Strike, Strike]]:
    """Everything that may befall after each of these first strikes, in what follows from it."""
    for first in firsts:
        after = Rig(scenario, first).play()
        yield from ((first, second) for second in strikes(after, start=first.at + 1))


def crashes(found: Iterable[tuple[Strike, ...]]) -> Iterator[tuple[Strike, ...]]:
    """Those in which every strike ends a worker."""
    return (blows for blows in found if all(blow.how == "crash" for blow in blows))


def some_pairs(scenario: Scenario, *, firsts: int, seconds: int) -> Iterator[tuple[Strike, Strike]]:
    """So many first strikes, drawn, and so many second ones after each: the same ones every time."""
    rng = random.Random(scenario.name)
    all_firsts = strikes(undisturbed(scenario))
    for first in rng.sample(all_firsts, min(firsts, len(all_firsts))):
        possible = [second for _, second in pairs(scenario, [first])]
        yield from ((first, second) for second in rng.sample(possible, min(seconds, len(possible))))


def wrong_ends(
    scenario: Scenario, struck: Iterable[Sequence[Strike]], wanted: Ends, ground: Ground = in_memory
) -> list[str]:
    """What was found wrong, in words, when the scenario was played with each of these."""
    wrong = []
    for blows in struck:
        after = Rig(scenario, *blows, ground=ground).play()
        if after.found or after.ends not in wanted:
            told = ", then ".join(_told(after, blow) for blow in blows)
            wrong.append(f"{told}: {after.ends} {list(after.found)}")
    return wrong


def _told(played: Played, strike: Strike) -> str:
    if strike.at >= len(played.points):
        return f"{strike.how} at point {strike.at} (never reached)"
    call = played.points[strike.at]
    return f"{strike.how} at point {strike.at} ({call.of} {call.verb}, {strike.heal})"
