"""What a foreign document must look like: small checks that are put together into a table.

A check takes a value and its place, returns nothing, and raises ImportFault. Fields that a table does not name are let
pass, as JSON Schema does. Written by hand and not with a schema library: the messages say what to do, booleans are no
numbers, NaN is no number, and every figure has a largest value, so that arithmetic on it cannot overflow.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

from broker.formats.fault import ImportFault, kind, shown

Check = Callable[[object, str], None]

LARGEST = 2**63 - 1
LONGEST_ID = 4096


def text(*, least: int = 1, choices: frozenset[str] | None = None) -> Check:
    """A text of at least that many characters, one of `choices` where given."""

    def check(value: object, place: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, place, "a text")
        if len(value) < least:
            raise ImportFault(place, "the text is empty", "write something or leave the field out")
        if choices is not None and value not in choices:
            raise ImportFault(place, f"{shown(value)} is not known", f"write one of {', '.join(sorted(choices))}")

    return check


def identifier(allowed: str) -> Check:
    """A text made of ASCII letters, digits and the characters in `allowed` alone."""
    pattern = re.compile(f"[0-9A-Za-z{re.escape(allowed)}]+")

    def check(value: object, place: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(value, place, "a text")
        if len(value) > LONGEST_ID:
            raise ImportFault(place, f"the id has {len(value)} characters", f"use at most {LONGEST_ID}")
        if not pattern.fullmatch(value):
            cure = f"use letters, digits and {' '.join(allowed)} only, at least one"
            raise ImportFault(place, f"{shown(value)} is not an id", cure)

    return check


def number(*, least: float | None = None, most: float = LARGEST) -> Check:
    """A finite number within bounds."""

    def check(value: object, place: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(value, place, "a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise ImportFault(place, f"{value} is not a finite number", "write a finite one or leave the field out")
        low = -most if least is None else least
        if not low <= value <= most:
            raise ImportFault(place, f"{shown(value)} is out of bounds", f"write a number from {low} to {most}")

    return check


def whole(*, least: int) -> Check:
    """A whole number; 5.0 counts as one, as in JSON Schema."""
    bounds = number(least=least)

    def check(value: object, place: str) -> None:
        bounds(value, place)
        if isinstance(value, float) and not value.is_integer():
            raise ImportFault(place, f"{value} is not a whole number", "write it without a fraction")

    return check


def listing(of: Check, *, least: int = 0) -> Check:
    """A list whose members all pass `of`."""

    def check(value: object, place: str) -> None:
        if not isinstance(value, list):
            raise _wrong_type(value, place, "a list")
        if len(value) < least:
            raise ImportFault(place, f"the list has {len(value)} entries", f"at least {least} must be there")
        for index, member in enumerate(value):
            of(member, f"{place}/{index}")

    return check


def record(*, required: Mapping[str, Check], optional: Mapping[str, Check]) -> Check:
    """An object with those fields. Null is a value of the wrong type, not an absent field."""

    def check(value: object, place: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(value, place, "an object")
        for name, of in required.items():
            if name not in value:
                raise ImportFault(place, f"the field {name!r} is missing", "add it")
            of(value[name], f"{place}/{name}")
        for name, of in optional.items():
            if name in value:
                of(value[name], f"{place}/{name}")

    return check


def _wrong_type(value: object, place: str, wanted: str) -> ImportFault:
    return ImportFault(place, f"this is {kind(value)}, not {wanted}", f"write {wanted} here")
