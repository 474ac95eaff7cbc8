"""A circle among parents, if there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Names each of which waits for the next, and the last for the first; empty: there is none.

    Takes away stages that wait for nothing until none is left; what remains leads into a circle. No recursion: a
    chain may be as long as the document.
    """
    waits = {name: len(set(above)) for name, above in parents.items()}
    children: dict[str, list[str]] = {name: [] for name in parents}
    for name, above in parents.items():
        for parent in set(above):
            children[parent].append(name)
    free = [name for name, count in waits.items() if not count]
    while free:
        name = free.pop()
        del waits[name]
        for child in children[name]:
            waits[child] -= 1
            if not waits[child]:
                free.append(child)
    return _circle(parents, waits)


def _circle(parents: Mapping[str, Sequence[str]], left: Mapping[str, int]) -> list[str]:
    seen: dict[str, int] = {}
    name = next(iter(left), None)
    while name is not None and name not in seen:
        seen[name] = len(seen)
        name = next(parent for parent in parents[name] if parent in left)
    return list(seen)[seen[name] :] if name is not None else []
