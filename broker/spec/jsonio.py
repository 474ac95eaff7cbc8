"""JSON to plain data, within the same limits as YAML."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from broker.spec.errors import Problem, UnreadableDocument, Wrong, quoted
from broker.spec.scalars import integer, number
from broker.spec.yamlio import MOST_DEPTH, MOST_NODES, read_yaml


def looks_like_json(text: str, name: str) -> bool:
    """By the name, or by the first character: no workflow in YAML begins with a brace."""
    return name.lower().endswith(".json") or text.lstrip()[:1] == "{"


def read_json(text: str, *, name: str) -> Any:
    """The value in `text`. Raises UnreadableDocument."""
    try:
        data = json.loads(
            text, object_pairs_hook=_unique, parse_int=integer, parse_float=number, parse_constant=_no_constant
        )
        check_tree(data)
    except json.JSONDecodeError as error:
        message = f"this is not JSON: {error.msg}"
        raise _unreadable(
            name, message, "check commas, quotes and brackets there", error.lineno, error.colno
        ) from error
    except RecursionError as error:
        raise _unreadable(name, _too_deep(), "make it flatter") from error
    except Wrong as wrong:
        read_yaml(text, name=name)  # knows the place of the same fault, for it reads JSON too
        raise _unreadable(name, wrong.message, wrong.cure) from wrong
    return data


def check_tree(data: object) -> None:
    """Raise Wrong for plain data beyond the limits, or with text that could not be kept."""
    level: list[object] = [data]
    depth = nodes = 0
    while level:
        depth += any(isinstance(value, dict | list) for value in level)
        nodes += len(level)
        if depth > MOST_DEPTH:
            raise Wrong(_too_deep(), "make it flatter")
        if nodes > MOST_NODES:
            raise Wrong(f"the document has more than {MOST_NODES:,} values", "split it")
        below: list[object] = []
        for value in level:
            if isinstance(value, str):
                check_text(value)
            elif isinstance(value, list):
                below.extend(value)
            elif isinstance(value, dict):
                _check_keys(value)
                below.extend(value.values())
        level = below


def check_text(value: str) -> None:
    """Raise Wrong unless the text can be kept as UTF-8 without NUL."""
    if "\0" in value:
        raise Wrong("the text holds a NUL character", "remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Wrong("the text holds half of a surrogate pair", "write the whole character") from None


def _check_keys(value: dict[object, object]) -> None:
    for key in value:
        if not isinstance(key, str):
            raise Wrong(f"the key {quoted(key)} is not text", "put it in quotes")
        check_text(key)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    counted = Counter(key for key, _ in pairs)
    twice = next(key for key, count in counted.items() if count > 1)
    raise Wrong(f"the key {quoted(twice)} stands in one object twice", "keep one of the two")


def _no_constant(word: str) -> float:
    raise Wrong(f"{word} is not JSON", "write a finite number")


def _too_deep() -> str:
    return f"maps and lists stand more than {MOST_DEPTH} deep in each other"


def _unreadable(name: str, message: str, cure: str, line: int = 1, column: int = 1) -> UnreadableDocument:
    problem = Problem(where="", message=message, cure=cure, kind="unreadable", line=line, column=column)
    return UnreadableDocument(name, [problem])
