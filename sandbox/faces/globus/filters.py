"""Filters and orders of listings, as the Transfer API writes them: `status:ACTIVE/label:~run*`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch, fnmatchcase

from sandbox.faces.globus.replies import Denied, Document
from sandbox.globus.collections import Entry

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


def parts(texts: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Field and values of each part; all of them must hold. Raises Denied."""
    found = []
    for text in texts:
        for part in text.split("/"):
            name, colon, values = part.partition(":")
            if not colon:
                raise _bad(part)
            found.append((name, values.split(",")))
    return found


def task_fits(document: Document, wanted: Sequence[tuple[str, list[str]]]) -> bool:
    """Does a task's document pass? Raises Denied."""
    for name, values in wanted:
        if name in ("request_time", "completion_time"):
            if not _between(str(document[name] or ""), values):
                return False
        elif name == "label":
            if not _label_fits(document["label"] or "", values):
                return False
        elif name in ("status", "task_id", "type", "source_endpoint_id", "destination_endpoint_id", "owner_id"):
            if document[name] not in values:
                return False
        else:
            raise _bad(name)
    return True


def _label_fits(label: str, values: Sequence[str]) -> bool:
    """`=x` and `x`: exactly; `~x`: a pattern; `!x` and `!~x`: not so. One of the former, and none of the latter."""
    wanted = [value for value in values if not value.startswith("!")]
    unwanted = [value[1:] for value in values if value.startswith("!")]
    return (not wanted or any(_says(label, one) for one in wanted)) and not any(_says(label, one) for one in unwanted)


def _says(text: str, value: str) -> bool:
    if value.startswith("~"):
        return fnmatch(text.lower(), value[1:].lower())
    return text == value.removeprefix("=")


def _between(text: str, values: Sequence[str]) -> bool:
    first, last = [*values, ""][:2]
    at = _time(text)
    return at is not None and (not first or at >= _needed(first)) and (not last or at <= _needed(last))


def _needed(text: str) -> datetime:
    found = _time(text)
    if found is None:
        raise _bad(text)
    return found


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


# -- folders -------------------------------------------------------------------------------------------------


def entry_fits(entry: Entry, wanted: Sequence[tuple[str, list[str]]]) -> bool:
    """Does an entry of a folder pass? Raises Denied."""
    for name, values in wanted:
        if name == "name":
            fits = any(_name_fits(entry.name, value) for value in values)
        elif name == "type":
            fits = any((entry.type == value.lstrip("!")) != value.startswith("!") for value in values)
        elif name == "size":
            fits = all(_size_fits(entry.size, value) for value in values)
        elif name == "last_modified":
            fits = _between(datetime.fromtimestamp(int(entry.modified_at), UTC).isoformat(), values)
        else:
            raise _bad(name)
        if not fits:
            return False
    return True


def _name_fits(name: str, value: str) -> bool:
    negated = value.startswith("!")
    value = value.removeprefix("!")
    if value.startswith("~"):
        return fnmatchcase(name, value[1:]) != negated
    return (name == value.removeprefix("=")) != negated


def _size_fits(size: int, value: str) -> bool:
    sign = next((sign for sign in _COMPARE if value.startswith(sign)), "=")
    text = value.removeprefix(sign)
    if not text.isdecimal():
        raise _bad(value)
    return _COMPARE[sign](size, int(text))


def ordered(documents: list[Document], orderby: str, known: Sequence[str]) -> list[Document]:
    """By `name ASC,size DESC`. Raises Denied."""
    for part in reversed([part.strip() for part in orderby.split(",") if part.strip()]):
        name, _, direction = part.partition(" ")
        if name not in known or direction.strip().upper() not in ("", "ASC", "DESC"):
            raise _bad(part)
        documents.sort(
            key=lambda one: (one[name] is not None, one[name] if one[name] is not None else ""),
            reverse=direction.strip().upper() == "DESC",
        )
    return documents


def _bad(text: str) -> Denied:
    return Denied("ClientError.BadRequest", f"no such filter or order: {text[:200]}", 400)
