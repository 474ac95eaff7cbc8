"""Writing into a site document that a person keeps: lines are added, nothing else is touched."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.sites import sites_of
from broker.spec import DocumentError, Problem, RawDocument, parse_document, read_document
from broker.spec.scalars import resolve

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")


def add_site(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Append a site to the document at `path`, making the document if there is none.

    The document as it would be is checked whole, and replaces the old one by a rename. Raises DocumentError; then
    nothing was written.
    """
    text = _added(path, name, entry)
    raw = parse_document(text, name=path.name)
    sites_of(raw, base=path.parent, where="")
    _replace(path, text)


def _added(path: Path, name: str, entry: Mapping[str, Any]) -> str:
    if not path.exists():
        return f"crossfade: 1\nsites:\n{_lines(name, entry, 2)}"
    raw = read_document(path)
    sites = raw.data.get("sites")
    if not isinstance(sites, dict) or not sites:
        raise _refused(raw, "there are no sites to add one to", "write the first one by hand, in block style")
    if name in sites:
        raise _refused(raw, f"there is a site {name} already", "change it by hand, or choose another name")
    text = _inserted(raw, name, entry, sites)
    expected = {**raw.data, "sites": {**sites, name: dict(entry)}}
    try:
        sound = parse_document(text, name=raw.name).data == expected
    except DocumentError:
        sound = False
    if not sound:
        raise _refused(raw, "its sites are not written one below the other", f"add {name} by hand")
    return text


def _inserted(raw: RawDocument, name: str, entry: Mapping[str, Any], sites: Mapping[str, Any]) -> str:
    """The text with the new entry behind the last line of `sites`."""
    lines = (raw.text or "").splitlines()
    top = [place for key in raw.data if (place := raw.locate((key,))) is not None]
    first = raw.locate(("sites", next(iter(sites))))
    start = raw.locate(("sites",))
    indent = first[1] - 1 if first else 2
    after = [line for line, _ in top if start and line > start[0]]
    end = min(after) - 1 if after else len(lines)
    while end and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1  # what stands above the next key belongs to it
    return "\n".join([*lines[:end], _lines(name, entry, indent).rstrip("\n"), *lines[end:]]) + "\n"


def _lines(name: str, entry: Mapping[str, Any], indent: int) -> str:
    lines = [f"{' ' * indent}{_scalar(name)}:"]
    lines += [f"{' ' * (indent + 2)}{_scalar(key)}: {_scalar(value)}" for key, value in entry.items()]
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    """As plain text where YAML reads it as the same text; otherwise as JSON, which is YAML too."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and resolve(value) == value:
        return value
    return json.dumps(value)


def _replace(path: Path, text: str) -> None:
    """Whole or not at all, with the old file's permissions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _refused(raw: RawDocument, message: str, cure: str) -> DocumentError:
    line, column = raw.locate(("sites",)) or (None, None)
    return DocumentError(raw.name, [Problem(where="sites", message=message, cure=cure, line=line, column=column)])
