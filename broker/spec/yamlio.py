"""YAML to plain data, within limits: libyaml's events, and one builder that never recurses.

PyYAML's own loaders are not used: their scalars are YAML 1.1 (`on` is true, `1:30` is 90), they let a second key
replace the first, and they expand aliases without a bound.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from yaml import YAMLError
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs forget what the module is for
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from broker.spec.errors import Problem, UnreadableDocument, Wrong, dotted, quoted
from broker.spec.scalars import resolve

MOST_BYTES = 16 << 20
MOST_DEPTH = 32
MOST_NODES = 1_000_000
"""Values in the document after all aliases are expanded."""

Place = tuple[int, int]
"""Line and column, both from 1."""
Places = dict[int, dict[str | int, Place]]
"""By the identity of a map or list: where each of its entries begins."""

_FLOW_CURE = (
    "an unquoted ${{ }} cannot stand inside {...} or [...]: put quotes around it or write the value in block style"
)


@dataclass(slots=True)
class _Open:
    """A map or a list that has not ended yet."""

    value: dict[str, Any] | list[Any]
    before: int
    """How many nodes there were when it began."""
    anchor: str | None
    key: str = ""
    """Of a map: the last key read."""
    keyed: bool = False
    """Of a map: is the next node that key's value?"""
    deepest: int = 1
    """Levels in it, itself counted."""


@dataclass(frozen=True, slots=True)
class _Anchored:
    value: Any
    nodes: int
    levels: int


def read_yaml(text: str, *, name: str, places: Places | None = None) -> Any:
    """The one document in `text`. Raises UnreadableDocument with line and column.

    With `places` it also tells where every entry begins: only asked for when there is an error to be placed, for it
    doubles the time.
    """
    return _Builder(text, name, places).build()


class _Builder:
    def __init__(self, text: str, name: str, places: Places | None) -> None:
        self._text = text
        self._name = name
        self._places = places
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}
        """None while the anchored node is still open."""
        self._nodes = 0
        self._documents = 0
        self._root: Any = None

    def build(self) -> Any:
        for event in self._events():
            kind = type(event)
            if kind is ScalarEvent:
                self._scalar(event)
            elif kind is MappingStartEvent:
                self._begin(event, {})
            elif kind is SequenceStartEvent:
                self._begin(event, [])
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._end()
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                self._document(event)
        if not self._documents:
            raise UnreadableDocument(
                self._name, [Problem(where="", message="the document is empty", kind="unreadable", line=1, column=1)]
            )
        return self._root

    def _events(self) -> Iterator[Any]:
        """What libyaml tells; its errors become ours."""
        try:
            parser = CParser(self._text)
            while type(event := parser.get_event()) is not StreamEndEvent:
                yield event
        except YAMLError as error:
            self._refuse_syntax(error)

    # -- events --------------------------------------------------------------------------------------------

    def _document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._refuse(event, "a second document begins here", "keep one document in a file")

    def _scalar(self, event: Any) -> None:
        self._plain_node(event)
        value = event.value
        if self._key_is_next():
            self._key(event, value)
            return
        if event.implicit[0]:  # unquoted
            try:
                value = resolve(value)
            except Wrong as wrong:
                self._refuse(event, wrong.message, wrong.cure)
        elif "\0" in value:
            self._refuse(event, "the text holds a NUL character", "remove it")
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, 1, 0)
        self._add(event, value)

    def _key(self, event: Any, key: str) -> None:
        opened = self._stack[-1]
        if event.anchor is not None:
            self._refuse(event, "a key may not carry an anchor", "write the anchor at a value")
        if key in opened.value:
            self._refuse(event, f"the key {quoted(key)} stands here a second time", "keep one of the two")
        if key == "<<" and event.implicit[0]:
            self._refuse(event, "merge keys (<<) are not part of YAML 1.2", "write the keys out")
        if "\0" in key:
            self._refuse(event, "the key holds a NUL character", "remove it")
        opened.key = sys.intern(key)
        opened.keyed = True
        self._place(event, opened.key)

    def _begin(self, event: Any, value: dict[str, Any] | list[Any]) -> None:
        if self._key_is_next():
            self._refuse(event, "a key must be text", "write a plain word before the colon")
        before = self._nodes
        self._plain_node(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._add(event, value)
        self._stack.append(_Open(value, before, event.anchor))
        if len(self._stack) > MOST_DEPTH:
            self._refuse_depth(event)
        if self._places is not None:
            self._places[id(value)] = {}

    def _end(self) -> None:
        closed = self._stack.pop()
        if closed.anchor is not None:
            self._anchors[closed.anchor] = _Anchored(closed.value, self._nodes - closed.before, closed.deepest)
        if self._stack:
            self._stack[-1].deepest = max(self._stack[-1].deepest, closed.deepest + 1)

    def _alias(self, event: Any) -> None:
        if self._key_is_next():
            self._refuse(event, "a key may not be an alias", "write the key out")
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            known = event.anchor in self._anchors
            message = "stands within what it repeats" if known else "has no anchor before it"
            self._refuse(event, f"the alias *{quoted(event.anchor)[1:-1]} {message}", "write the value out")
        self._count(event, anchored.nodes)
        if len(self._stack) + anchored.levels > MOST_DEPTH:
            self._refuse_depth(event)
        if self._stack:
            self._stack[-1].deepest = max(self._stack[-1].deepest, anchored.levels + 1)
        self._add(event, anchored.value)

    def _key_is_next(self) -> bool:
        return bool(self._stack) and not self._stack[-1].keyed and isinstance(self._stack[-1].value, dict)

    # -- parts ---------------------------------------------------------------------------------------------

    def _plain_node(self, event: Any) -> None:
        if event.tag is not None:
            self._refuse(event, f"tags such as {quoted(event.tag)} are not read", "leave the tag out")
        self._count(event, 1)

    def _count(self, event: Any, nodes: int) -> None:
        self._nodes += nodes
        if self._nodes > MOST_NODES:
            self._refuse(
                event, f"the document has more than {MOST_NODES:,} values", "split it, or repeat less by alias"
            )

    def _add(self, event: Any, value: Any) -> None:
        if not self._stack:
            self._root = value
            return
        opened = self._stack[-1]
        if isinstance(opened.value, list):
            self._place(event, len(opened.value))
            opened.value.append(value)
        else:
            opened.value[opened.key] = value
            opened.keyed = False

    def _place(self, event: Any, entry: str | int) -> None:
        if self._places is not None:
            mark = event.start_mark
            self._places[id(self._stack[-1].value)][entry] = (mark.line + 1, mark.column + 1)

    # -- refusals ------------------------------------------------------------------------------------------

    def _where(self) -> str:
        path: list[str | int] = []
        for level, opened in enumerate(self._stack, 1):
            inner = level < len(self._stack)  # what stands deeper has been added to it already
            if isinstance(opened.value, list):
                path.append(len(opened.value) - inner)
            elif inner or opened.keyed:
                path.append(opened.key)
        return dotted(tuple(path))

    def _refuse(self, event: Any, message: str, cure: str) -> NoReturn:
        mark = event.start_mark
        raise self._error(message, cure, (mark.line + 1, mark.column + 1))

    def _refuse_depth(self, event: Any) -> NoReturn:
        self._refuse(event, f"maps and lists stand more than {MOST_DEPTH} deep in each other", "make it flatter")

    def _refuse_syntax(self, error: YAMLError) -> NoReturn:
        mark = getattr(error, "problem_mark", None)
        if mark is None:
            raise self._error(*_character_fault(self._text, error)) from error
        problem = " ".join(filter(None, (getattr(error, "context", None), getattr(error, "problem", None))))
        flow = self._text[max(0, mark.index - 1) : mark.index + 2] == "${{"
        cure = _FLOW_CURE if flow else _cure(problem)
        message = "this is not YAML" if flow else f"this is not YAML: {problem}"
        raise self._error(message, cure, (mark.line + 1, mark.column + 1)) from error

    def _error(self, message: str, cure: str, place: Place) -> UnreadableDocument:
        problem = Problem(
            where=self._where(), message=message, cure=cure, kind="unreadable", line=place[0], column=place[1]
        )
        return UnreadableDocument(self._name, [problem])


def _character_fault(text: str, error: YAMLError) -> tuple[str, str, Place]:
    """Its place must be counted: libyaml's reader knows a position and no line."""
    position = getattr(error, "position", 0)
    found = text[position : position + 1]
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    return f"the character {found!a} may not stand in YAML", "remove it", (line, column)


def _cure(problem: str) -> str:
    """For the slips that libyaml's own words do not explain to a newcomer."""
    if "cannot start any token" in problem:
        return "indent with spaces, not tabs, and put text that begins with @ or ` in quotes"
    if "mapping values are not allowed" in problem:
        return "put text that holds `: ` in quotes, or write it below the key after a |"
    if "alias" in problem or "anchor" in problem:
        return "put text that begins with * or & in quotes"
    return "check indentation, quotes and brackets there"
