"""The benchmark's work: a seeded generator of stage graphs, and the check that a run did them.

A graph is a list, in topological order, of (stage number, tuple of the parents' numbers).
The only randomness is SHA-256 of a text, so that any language makes the same graph from the same seed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Graph = list[tuple[int, tuple[int, ...]]]

LEAST_STAGES = {"fan": 3, "chain": 1, "layered": 3, "montage": 17}
"""The smallest graph of each shape; asking for less is an error, never a graph of another size."""

SHAPES = tuple(LEAST_STAGES)


def make(shape: str, n: int, seed: int = 1) -> Graph:
    """The graph of that shape with `n` stages; montage: with the largest 4w+5 <= n.

    Only `layered` is random and looks at the seed. Raises ValueError for an unknown shape or too few stages.
    """
    if shape not in LEAST_STAGES:
        raise ValueError(f"no shape is called {shape!r}; there are {', '.join(SHAPES)}")
    if n < LEAST_STAGES[shape]:
        raise ValueError(f"{shape} needs at least {LEAST_STAGES[shape]} stages, not {n}")
    builders: dict[str, Callable[[], Graph]] = {
        "fan": lambda: _fan(n),
        "chain": lambda: _chain(n),
        "layered": lambda: _layered(n, seed),
        "montage": lambda: _montage((n - 5) // 4),
    }
    return builders[shape]()


def layers(graph: Graph) -> list[list[int]]:
    """Stage numbers by depth, for tools that can only say «a group, then a group»."""
    depth: dict[int, int] = {}
    found: list[list[int]] = []
    for number, parents in graph:
        depth[number] = 1 + max((depth[parent] for parent in parents), default=-1)
        while len(found) <= depth[number]:
            found.append([])
        found[depth[number]].append(number)
    return found


def stage(events: str | Path, number: int, sleep: float = 0.0) -> int:
    """The body of one stage: appends the line `number time`, then sleeps (seconds). About 10 microseconds."""
    descriptor = os.open(events, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, f"{number} {time.time():.6f}\n".encode())
    finally:
        os.close(descriptor)
    if sleep:
        time.sleep(sleep)
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What an events file says: `first` and `last` are the earliest and latest start (epoch seconds)."""

    missing: int
    repeated: int
    out_of_order: int
    """Edges whose parent started after its child, or never."""
    first: float
    last: float

    @property
    def valid(self) -> bool:
        """Every stage once, none before its parents."""
        return not (self.missing or self.repeated or self.out_of_order)


def check(graph: Graph, events: str | Path) -> Tally:
    """Reads the file that `stage` wrote. Raises ValueError when it is empty or holds a foreign line."""
    place: dict[int, int] = {}
    starts: list[float] = []
    repeated = 0
    with open(events, encoding="ascii") as lines:
        for position, line in enumerate(lines):
            number, at = line.split()
            starts.append(float(at))
            repeated += int(number) in place
            place.setdefault(int(number), position)
    if not starts:
        raise ValueError(f"{events} holds no event: no stage ran")
    numbers = {number for number, _ in graph}
    if foreign := place.keys() - numbers:
        raise ValueError(f"{events} names stage {min(foreign)}, which is not in the graph")
    return Tally(
        missing=len(numbers) - len(place),
        repeated=repeated,
        out_of_order=_out_of_order(graph, place),
        first=min(starts),
        last=max(starts),
    )


def _out_of_order(graph: Graph, place: dict[int, int]) -> int:
    ran = ((place[number], parents) for number, parents in graph if number in place)
    return sum(parent not in place or place[parent] > mine for mine, parents in ran for parent in parents)


# -- the shapes --------------------------------------------------------------------------------------------


def _pick(seed: int, what: str, bound: int) -> int:
    """A number in range(bound), fixed by the seed and the text."""
    digest = hashlib.sha256(f"{seed}:{what}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % bound


def _fan(n: int) -> Graph:
    """One source, n-2 in parallel, one sink."""
    middle = tuple(range(1, n - 1))
    return [(0, ()), *((number, (0,)) for number in middle), (n - 1, middle)]


def _chain(n: int) -> Graph:
    return [(number, (number - 1,) if number else ()) for number in range(n)]


def _layered(n: int, seed: int) -> Graph:
    """Layers of random width; each stage has 1 to 3 parents in the layer before; a sink takes up all ends."""
    width = max(2, int(n**0.5))
    graph: Graph = [(0, ())]
    before = [0]
    while len(graph) < n - 1:
        size = min(1 + _pick(seed, f"w{len(graph)}", 2 * width), n - 1 - len(graph))
        first = len(graph)
        graph += [(number, _some_of(before, number, seed)) for number in range(first, first + size)]
        before = list(range(first, first + size))
    has_child = {parent for _, parents in graph for parent in parents}
    graph.append((n - 1, tuple(number for number, _ in graph if number not in has_child)))
    return graph


def _some_of(before: Sequence[int], number: int, seed: int) -> tuple[int, ...]:
    wanted = 1 + _pick(seed, f"d{number}", 3)
    return tuple(sorted({before[_pick(seed, f"p{number}.{k}", len(before))] for k in range(wanted)}))


def _montage(w: int) -> Graph:
    """As the Montage sky mosaic: project w, diff 2w, concat, model, background w, table, add, view."""
    graph: Graph = [(tile, ()) for tile in range(w)]
    for tile in range(w):
        for other in (1, 2):
            pair = tuple(sorted((tile, (tile + other) % w)))
            graph.append((w + 2 * tile + other - 1, pair))
    concat, model = 3 * w, 3 * w + 1
    table = model + 1 + w
    graph += [(concat, tuple(range(w, 3 * w))), (model, (concat,))]
    graph += [(model + 1 + tile, (tile, model)) for tile in range(w)]
    graph += [(table, tuple(range(model + 1, table))), (table + 1, (table,)), (table + 2, (table + 1,))]
    return graph
