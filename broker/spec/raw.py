"""A document as plain data, and where in its text each part stands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.spec.errors import MOST_SHOWN, DocumentError, KeyPath, Problem, UnreadableDocument, Wrong, dotted
from broker.spec.jsonio import check_tree, looks_like_json, read_json
from broker.spec.yamlio import MOST_BYTES, Place, Places, read_yaml

_ODD_BREAK = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawDocument:
    """`data` is never changed by anyone: parts of it may be shared by aliases."""

    name: str
    """As messages call it: the file's name, or what stands for one."""
    data: Mapping[str, Any]
    text: str | None = field(default=None, repr=False)
    """None: made from data, so there are no lines to tell."""

    def locate(self, path: KeyPath) -> Place | None:
        """Line and column, from 1, where the entry at `path` begins, or the nearest part around it."""
        return self.locate_all([path])[0]

    def locate_all(self, paths: Sequence[KeyPath]) -> list[Place | None]:
        """`locate` for several: the text is read once more, this time with an eye on lines."""
        if self.text is None:
            return [None] * len(paths)
        places: Places = {}
        try:
            data = read_yaml(self.text, name=self.name, places=places)
        except UnreadableDocument:  # JSON with a spelling that YAML does not share
            return [None if path else (1, 1) for path in paths]
        return [_place(data, places, path) for path in paths]

    def refuse(self, found: Sequence[tuple[KeyPath, Wrong]]) -> DocumentError:
        """The error for these faults, in the order of the document, each with its place."""
        places = self.locate_all([path for path, _ in found])
        ordered = sorted(zip(places, found, strict=True), key=lambda placed: placed[0] or (0, 0))
        problems = []
        for i, (place, (path, wrong)) in enumerate(ordered):
            line, column = place or (None, None)
            cure = wrong.cure if i < MOST_SHOWN else ""
            problems.append(
                Problem(where=dotted(path), message=wrong.message, cure=cure, kind=wrong.kind, line=line, column=column)
            )
        return DocumentError(self.name, problems)


def read_document(path: Path) -> RawDocument:
    """The document in this file. Raises DocumentError, also when the file cannot be read."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(path.name, f"cannot be read: {reason}", "check its path and permissions") from error
    return parse_document(_decoded(content, path.name), name=path.name)


def parse_document(text: str, *, name: str) -> RawDocument:
    """The document in this text: JSON if its name or first character says so, YAML otherwise. Raises DocumentError."""
    if len(text) > MOST_BYTES:
        raise _refused(name, f"is larger than {MOST_BYTES >> 20} MB", "split it")
    text = text.removeprefix("\ufeff")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _refused(name, "is not text that UTF-8 can hold", "save it as UTF-8") from error
    if looks_like_json(text, name):
        data = read_json(text, name=name)
    else:
        _refuse_odd_breaks(text, name)
        data = read_yaml(text, name=name)
    return RawDocument(name=name, data=_top(data, name), text=text)


def _refuse_odd_breaks(text: str, name: str) -> None:
    """Libyaml takes these three for ends of lines, as YAML 1.1 did, and would change the text that holds them."""
    for number, line in enumerate(text.split("\n"), 1):
        found = _ODD_BREAK.search(line)
        if found:
            what = f"holds the line separator U+{ord(found[0]):04X} (line {number})"
            raise _refused(name, what, "use a plain line break, or write it as an escape in double quotes")


def document_from(data: Mapping[str, Any], *, name: str) -> RawDocument:
    """A document that was never text, such as an imported one. Raises DocumentError."""
    try:
        check_tree(data)
    except Wrong as wrong:
        raise _refused(name, wrong.message, wrong.cure) from wrong
    return RawDocument(name=name, data=_top(data, name))


def _top(data: object, name: str) -> Mapping[str, Any]:
    if isinstance(data, dict):
        return data
    kind = "a list" if isinstance(data, list) else "a single value"
    raise _refused(name, f"is {kind}", "write keys at the top, beginning with `crossfade: 1`")


def _decoded(content: bytes, name: str) -> str:
    if len(content) > MOST_BYTES:
        raise _refused(name, f"is larger than {MOST_BYTES >> 20} MB", "split it")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise _refused(name, "is not UTF-8 text", "save it as UTF-8", line=line, column=column) from error


def _refused(name: str, message: str, cure: str, *, line: int = 1, column: int = 1) -> UnreadableDocument:
    text = f"the document {message}"
    return UnreadableDocument(
        name, [Problem(where="", message=text, cure=cure, kind="unreadable", line=line, column=column)]
    )


def _place(data: object, places: Places, path: KeyPath) -> Place | None:
    found: Place | None = (1, 1)
    for step in path:
        entries = places.get(id(data), {})
        if step not in entries:
            return found
        found = entries[step]
        data = data[step]  # type: ignore[index]  # it has entries, so it is a map or a list
    return found
