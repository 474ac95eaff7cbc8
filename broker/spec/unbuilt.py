"""Keys of the documents' language whose feature is not built yet: refused by name, never ignored.

One table for each document. A `*` stands for any name or list position. Whoever builds a feature takes its rows out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from broker.spec.errors import KeyPath, Wrong, dotted

Test = Callable[[object], bool]
"""Is this value the unbuilt one?"""


def _always(_: object) -> bool:
    return True


def _but(*built: object) -> Test:
    """Every value but these."""
    return lambda value: value not in built


def _all(*names: str) -> dict[str, Test]:
    return dict.fromkeys(names, _always)


_POLICY = {
    "deadline.probability": _but(None),
    "failover.hedge": _but("never"),
}
_STAGE = {
    **_all("start", "kind", "ready", "gate", "redo"),
    **_all("map", "reduce", "loop", "expand", "group", "channel", "signal"),
    **{f"policy.{key}": test for key, test in _POLICY.items()},
    "inputs.*.as": lambda value: value == "checkpoint",
    "checkpoint.portable": _but({}, None),
}
_DIFFERS = ("checkpoint", "policy.failover")
"""What there is under `at` as well."""

UNBUILT: Mapping[str, Test] = {
    **_all("triggers"),
    **{f"policy.{key}": test for key, test in _POLICY.items()},
    **{f"stages.*.{key}": test for key, test in _STAGE.items()},
    **{f"stages.*.at.*.{key}": test for key, test in _STAGE.items() if key.startswith(_DIFFERS)},
    **_all("stages.*.at.*.inputs", "stages.*.at.*.outputs"),
}
UNBUILT_AT_SITES: Mapping[str, Test] = {}
UNUSED_AT_SITES: tuple[str, ...] = ()
"""Keys of the site document that are read and kept, and that nothing goes by yet. Safe to accept, for whatever would
rely on them is refused in workflow documents; told by `doctor` all the same."""


def find_unbuilt(data: object, table: Mapping[str, Test]) -> list[tuple[KeyPath, Wrong]]:
    """Every key in `data` that the table refuses, in the order of the document."""
    return [
        (path, Wrong(f"this {'key' if test is _always else 'value'} is not built yet", "leave it out", kind="unbuilt"))
        for path, test in _walk(data, (), _tree(table))
    ]


def find_unused(data: object) -> list[str]:
    """The keys in a site document that nothing goes by yet, as messages print them."""
    return [dotted(path) for path, _ in _walk(data, (), _tree(dict.fromkeys(UNUSED_AT_SITES, _always)))]


def _tree(table: Mapping[str, Test]) -> dict[str, Any]:
    """The patterns by their steps; a leaf is its test."""
    tree: dict[str, Any] = {}
    for pattern, test in table.items():
        *steps, last = pattern.split(".")
        node = tree
        for step in steps:
            node = node.setdefault(step, {})
        node[last] = test
    return tree


def _walk(value: object, path: KeyPath, tree: dict[str, Any]) -> Iterator[tuple[KeyPath, Test]]:
    """As deep as the patterns are, whatever the document's depth."""
    if isinstance(value, list):
        entries: list[tuple[str | int, object]] = list(enumerate(value))
    elif isinstance(value, dict):
        entries = list(value.items())
    else:
        return
    for step, inner in entries:
        below = tree.get("*") or (tree.get(step) if isinstance(step, str) else None)
        if isinstance(below, dict):
            yield from _walk(inner, (*path, step), below)
        elif below is not None and below(inner):
            yield (*path, step), below
