"""Paths that would lie on, or in, one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.spec.errors import KeyPath, Wrong, quoted

Fault = tuple[KeyPath, Wrong]


def overlaps(here: KeyPath, paths: Sequence[str]) -> Iterator[Fault]:
    """One path twice, or one inside another."""
    if len(paths) == 1:
        return
    plain = [path.rstrip("/") for path in paths]
    first = {path: i for i, path in reversed(list(enumerate(plain)))}
    for i, path in enumerate(plain):
        if first[path] != i:
            yield (*here, i), Wrong(f"{quoted(path)} stands here twice", "keep one of the two", kind="structure")
        around = next((folder for folder in folders(path) if folder in first), None)
        if around is not None:
            message = f"{quoted(path)} lies within {quoted(around)}, which stands here too"
            yield (*here, i), Wrong(message, "keep one of the two", kind="structure")


def folders(path: str) -> Iterator[str]:
    """The folders around a path, innermost first."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
