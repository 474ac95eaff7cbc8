"""Plain data to the inputs of a policy, as their own declarations ask for them.

Nothing here knows a field's name but the few in `USUAL` and `SHORT`: a field that a policy's input gains can be written
in a case at once, and has its default in all others.
"""

from __future__ import annotations

import types
from collections import abc
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.quantities import duration, size
from policies.evidence import Fact
from policies.model import CheckpointFacts, SiteFacts

NOON = 1_767_268_800_000_000
"""`now` (µs UTC) where a case says nothing: 2026-01-01 12:00."""

USUAL: Mapping[type, Callable[[Mapping[str, Any]], Mapping[str, Any]]] = {
    SiteFacts: lambda told: {
        "facility": told.get("name", ""),
        "slots": 8,
        "load": 0,
        "share": max(0, told.get("slots", 8) - told.get("load", 0)),
    },
    CheckpointFacts: lambda told: {"attempt": 1, "generation": 1, "path": f"g1/{told.get('seq')}", "bytes": 0},
}
"""What a case need not say of these, though they have no default."""
SHORT: Mapping[type, str] = {SiteFacts: "name"}
"""A single word stands for this field, and for nothing else said."""
FACT = ("site", "at", "capability", "ok", "took", "detail", "source", "word", "whom", "until")
"""Names of the parts of a row of evidence."""
_FACT = {"took": 0, "detail": "", "source": "", "word": "", "whom": "", "until": None}
_MANY = (abc.Sequence, abc.Collection, abc.Iterable, list)
_SETS = (frozenset, set, abc.Set)
_Kind = Any
"""A type, or a form of `typing`."""


class Misfit(ValueError):
    """Something in a case is not what the policy takes."""

    def __init__(self, path: KeyPath, wrong: Wrong) -> None:
        super().__init__(str(wrong))
        self.path, self.wrong = path, wrong


def made(kind: _Kind, given: object, path: KeyPath, *, now: int) -> Any:
    """The value of that type that the plain data tells of. Raises Misfit."""
    if kind is Any or kind is object:
        return given
    if kind == Fact:
        return _fact(given, path, now)
    origin: Any = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(kind), given, path, now)
    if origin is tuple:
        return _tuple(get_args(kind), given, path, now)
    if origin in _MANY or origin in _SETS:
        (inner,) = get_args(kind)
        found = [made(inner, item, (*path, i), now=now) for i, item in enumerate(_list(given, path))]
        return frozenset(found) if origin in _SETS else tuple(found)
    if origin in (dict, abc.Mapping):
        of_key, of_value = get_args(kind)
        told = _map(given, path)
        return {_key(of_key, key, path): made(of_value, value, (*path, key), now=now) for key, value in told.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _member(kind, given, path)
    if is_dataclass(kind):
        return _record(kind, given, path, now)
    return _scalar(kind, given, path, now)


def arguments(wanted: Mapping[str, _Kind], given: Mapping[str, Any], path: KeyPath, *, now: int) -> dict[str, Any]:
    """Each of them made that is given. Raises Misfit for one that is not wanted."""
    for name in given:
        if name not in wanted:
            raise Misfit((*path, name), Wrong("is not known here", nearest(str(name), wanted)))
    return {name: made(wanted[name], value, (*path, name), now=now) for name, value in given.items()}


def unsaid(kind: _Kind, name: str, path: KeyPath, *, now: int) -> Any:
    """What stands for something that has no default and was not given. Raises Misfit where it must be said."""
    if name == "now":
        return now
    origin: Any = get_origin(kind)
    if origin in (Union, types.UnionType) and type(None) in get_args(kind):
        return None
    if origin in _MANY or origin is tuple:
        return ()
    if origin in _SETS:
        return frozenset()
    if origin in (dict, abc.Mapping):
        return {}
    if is_dataclass(kind) and kind not in USUAL:
        return _record(kind, {}, (*path, name), now)
    if kind is bool:
        return False
    raise Misfit(path, Wrong(f"`{name}` must be said"))


@lru_cache(maxsize=256)
def hints(of: Any) -> Mapping[str, _Kind]:
    """The declared types of a class's fields or of a function's arguments, by name."""
    found = get_type_hints(of)
    found.pop("return", None)
    return found


def _record(kind: _Kind, given: object, path: KeyPath, now: int) -> Any:
    """A frozen value: what is given, else what is usual, else its own default."""
    if isinstance(given, str) and kind in SHORT:
        given = {SHORT[kind]: given}
    declared = {each.name: each for each in fields(kind) if each.init}
    kinds = {name: hints(kind)[name] for name in declared}
    told = arguments(kinds, _map(given, path), path, now=now)
    usual = USUAL[kind](told) if kind in USUAL else {}
    for name, each in declared.items():
        if name in told or each.default is not MISSING or each.default_factory is not MISSING:
            continue
        told[name] = usual[name] if name in usual else unsaid(kinds[name], name, path, now=now) if name != "at" else now
    return kind(**told)


def _fact(given: object, path: KeyPath, now: int) -> Fact:
    """A row of evidence, as a map of its parts."""
    told = _map(given, path)
    kinds = dict(zip(FACT, get_args(Fact), strict=True))
    row = {"site": "", "capability": "status", "ok": True, "at": now, **_FACT, **arguments(kinds, told, path, now=now)}
    return tuple(row[name] for name in FACT)


def _one_of(kinds: tuple[_Kind, ...], given: object, path: KeyPath, now: int) -> Any:
    if given is None and type(None) in kinds:
        return None
    refused: Misfit | None = None
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return made(kind, given, path, now=now)
        except Misfit as misfit:
            refused = refused or misfit
    raise refused or Misfit(path, Wrong("must be null"))


def _tuple(kinds: tuple[_Kind, ...], given: object, path: KeyPath, now: int) -> Any:
    items = _list(given, path)
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(made(kinds[0], item, (*path, i), now=now) for i, item in enumerate(items))
    if len(items) != len(kinds):
        raise Misfit(path, Wrong(f"must have {len(kinds)} parts, and has {len(items)}"))
    return tuple(made(kind, item, (*path, i), now=now) for i, (kind, item) in enumerate(zip(kinds, items, strict=True)))


def _key(kind: _Kind, key: object, path: KeyPath) -> Any:
    """YAML's keys are texts here, whatever they look like."""
    if kind is int and isinstance(key, str):
        try:
            return int(key)
        except ValueError:
            raise Misfit((*path, key), Wrong(f"{quoted(key)} is not a whole number")) from None
    return key


def _member(kind: type[Enum], given: object, path: KeyPath) -> Enum:
    for member in kind:
        if given == member.value or (isinstance(given, str) and given.upper() == member.name):
            return member
    raise Misfit(path, Wrong(f"{quoted(given)} is none of them", nearest(str(given), [str(m.value) for m in kind])))


def _scalar(kind: _Kind, given: object, path: KeyPath, now: int) -> Any:
    try:
        if kind is bool and isinstance(given, bool):
            return given
        if kind is str and isinstance(given, str | int | float) and not isinstance(given, bool):
            return str(given)
        if kind is float and not isinstance(given, bool) and isinstance(given, int | float | str):
            return float(duration(given)) if isinstance(given, str) else float(given)
        if kind is int and not isinstance(given, bool) and isinstance(given, int | str):
            return _whole(given, now)
    except Wrong as wrong:
        raise Misfit(path, wrong) from wrong
    words = {bool: "true or false", str: "a text", float: "seconds, such as 90s, or a number", int: "a whole number"}
    raise Misfit(path, Wrong(f"expected {words.get(kind, kind)}, found {quoted(given)}"))


def _whole(given: int | str, now: int) -> int:
    """A number; bytes (64GB); or a moment, told from `now` on (+10m, -2h)."""
    if isinstance(given, int):
        return given
    if given[:1] in ("+", "-"):
        seconds = duration(given[1:])
        return now + round(seconds * 1e6) * (1 if given[0] == "+" else -1)
    if given[-1:] == "B":
        return size(given)
    raise Wrong(f"{quoted(given)} is no whole number", "write a number, a moment (-10m, +2h) or a size (64GB)")


def _map(given: object, path: KeyPath) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise Misfit(path, Wrong(f"expected a map, found {quoted(given)}"))
    return given


def _list(given: object, path: KeyPath) -> list[Any]:
    if not isinstance(given, list):
        raise Misfit(path, Wrong(f"expected a list, found {quoted(given)}"))
    return given
