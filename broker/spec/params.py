"""A run's params: what was given, checked against what the document declares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.expressions import ParamValue, Value
from broker.spec.jsonio import check_text
from broker.spec.pattern import compiled, matches
from broker.spec.quantities import duration, size
from broker.spec.scalars import integer, number
from broker.spec.workflow import Param

MOST_VALUE = 32_768
"""Characters."""

Fault = tuple[KeyPath, Wrong]

_INT = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


def declaration_faults(declared: Mapping[str, Param]) -> Iterator[Fault]:
    """What is wrong with the declarations themselves, whatever will be given."""
    for name, param in declared.items():
        try:
            if param.pattern is not None:
                compiled(param.pattern)
            if param.default is not None:
                _check_default(param)
        except Wrong as wrong:
            yield ("params", name), wrong


def _check_default(param: Param) -> None:
    if param.required:
        raise Wrong("a required param has no use for a default", "leave out one of the two")
    _from_default(param)


def param_values(declared: Mapping[str, Param], given: Mapping[str, str]) -> tuple[dict[str, ParamValue], list[Fault]]:
    """Each declared param with its value, and what is wrong with what was given. Never an older run's value."""
    faults: list[Fault] = []
    values: dict[str, ParamValue] = {}
    for name in given:
        if name not in declared:
            cure = nearest(name, declared, what="declared") or "the document declares no params"
            faults.append((("params", name), Wrong(f"there is no param {quoted(name)}", cure, kind="param")))
    for name, param in declared.items():
        try:
            values[name] = _from_text(param, given[name]) if name in given else _not_given(name, param)
        except Wrong as wrong:
            faults.append((("params", name), Wrong(wrong.message, wrong.cure, kind="param")))
    return values, faults


def _not_given(name: str, param: Param) -> ParamValue:
    if param.default is None:
        raise Wrong("a value is missing", f"give it with --param {name}=VALUE")
    return _from_default(param)


def _from_text(param: Param, given: str) -> ParamValue:
    """The value in what was typed on a command line or sent."""
    if len(given) > MOST_VALUE:
        raise Wrong(f"a value may have {MOST_VALUE} characters, this has {len(given)}", "put it into a file")
    check_text(given)
    _check_pattern(param, given)
    return ParamValue(type=param.type, value=_typed(param.type, given))


def _typed(kind: str, given: str) -> Value:
    match kind:
        case "int" if _INT.fullmatch(given):
            return integer(given)
        case "number" if _NUMBER.fullmatch(given):
            return number(given)
        case "bool" if given in {"true", "false"}:
            return given == "true"
        case "duration":
            return duration(number(given) if _NUMBER.fullmatch(given) else given)
        case "size":
            return size(integer(given) if _INT.fullmatch(given) else given)
        case "text":
            return given
    cure = "write true or false" if kind == "bool" else "write digits"
    raise Wrong(f"{quoted(given)} is not {_ARTICLE[kind]}", cure)


_ARTICLE = {"int": "a whole number", "number": "a number", "bool": "true or false"}


def _from_default(param: Param) -> ParamValue:
    """A default is written as its type: text in quotes, numbers without."""
    value = param.default
    if isinstance(value, str) and param.type in {"text", "duration", "size"}:
        return _from_text(param, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        if param.type == "bool" and isinstance(value, bool):
            return ParamValue(type="bool", value=value)
    elif param.type == "number" or (param.type == "int" and isinstance(value, int)):
        _check_pattern(param, str(value))
        return ParamValue(type=param.type, value=value)
    elif param.type in {"duration", "size"}:
        return ParamValue(type=param.type, value=duration(value) if param.type == "duration" else size(value))
    quotes = "; text belongs in quotes" if param.type == "text" else ""
    raise Wrong(f"the default {quoted(value)} is not of the type {param.type}", f"write one that is{quotes}")


def _check_pattern(param: Param, given: str) -> None:
    if param.pattern is not None and not matches(param.pattern, given):
        raise Wrong(f"{quoted(given)} does not match the pattern {quoted(param.pattern)}", "give a value that does")
