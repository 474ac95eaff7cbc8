"""Unquoted scalars of YAML, by the 1.2 core schema: what is a number, a bool or nothing; all else is text.

Beyond the schema, a decimal integer with a leading zero stays text: `00564` is a run number, and its zeros matter.
"""

from __future__ import annotations

import re

from broker.spec.errors import Wrong

WORDS: dict[str, bool | float | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
MOST_DIGITS = 18
"""Of an integer: what fits a signed 64-bit column, whatever the digits."""

_MAY_BE_A_NUMBER = frozenset("+-.0123456789")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_OCTAL = re.compile(r"0o[0-7]+")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def resolve(text: str) -> str | int | float | bool | None:
    """The value of an unquoted scalar. Raises Wrong for numbers that no key of ours can hold."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in _MAY_BE_A_NUMBER:
        return text
    if _DECIMAL.fullmatch(text):
        return integer(text)
    if _HEXADECIMAL.fullmatch(text) or _OCTAL.fullmatch(text):
        _check_digits(text)
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return number(text)
    if _NOT_FINITE.fullmatch(text):
        raise Wrong(f"{text} is not a number that can be used", "write a finite number, or put the text in quotes")
    return text


def integer(text: str) -> int:
    """Decimal digits with a sign or none; raises Wrong when there are too many."""
    _check_digits(text)
    return int(text)


def number(text: str) -> float:
    """A decimal fraction; raises Wrong when it is beyond what a float holds."""
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Wrong("the number is too large", "write a smaller one, or put it in quotes if it is text")
    return value


def _check_digits(text: str) -> None:
    if len(text) > MOST_DIGITS:
        cure = "write a smaller one, or put it in quotes if it is text"
        raise Wrong(f"a whole number may have {MOST_DIGITS} digits, this has {len(text)}", cure)
