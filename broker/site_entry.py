"""Adding a site to the site document: a few lines put into the person's own text, which stays as it is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import yaml

from broker.errors import UsageError
from broker.sites import sites_of
from broker.spec import parse_document

NEW = "# The sites where stages may run.\ncrossfade: 1\nsites:\n"
Entry = Mapping[str, str | int]
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
"""What is the same text in YAML without quotes."""


def with_site(text: str, name: str, entry: Entry) -> str:
    """The document with one site more, at the end of its `sites`. Raises UsageError where only a person can do that."""
    top = yaml.compose(text, Loader=yaml.CSafeLoader)
    pairs = top.value if isinstance(top, yaml.MappingNode) else []
    sites = next((value for key, value in pairs if key.value == "sites"), None)
    lines = text.splitlines(keepends=True)
    if sites is None:
        return f"{_ended(text)}sites:\n{_line(name, entry, 2)}"
    if isinstance(sites, yaml.ScalarNode) and not sites.value:
        at, indent = sites.start_mark.line + 1, 2
    elif not isinstance(sites, yaml.MappingNode) or sites.flow_style:
        raise UsageError("`sites` is written within braces there", help=f"add by hand: {_line(name, entry, 0).strip()}")
    elif any(key.value == name for key, _ in sites.value):
        raise UsageError(f"there is a site {name!r} already", help="`crossfade site show` shows it; edit the document")
    else:
        last_key, last = sites.value[-1]
        at, indent = _end(last, lines), last_key.start_mark.column
    before = _ended("".join(lines[:at]))
    return before + _line(name, entry, indent) + "".join(lines[at:])


def add_site(document: Path, name: str, entry: Entry, *, write: bool) -> None:
    """Put a site into the document, or make a document of it. Nothing is written that would not be read again.

    Raises UsageError, DocumentError.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = NEW
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {document}: {error}") from error
    else:
        parse_document(text, name=str(document))
    new = with_site(text, name, entry)
    sites_of(parse_document(new, name=f"{document} with {name}"), base=document.absolute().parent, where="")
    if not write:
        return
    temporary = document.with_name(f".{document.name}.{os.getpid()}")
    try:
        document.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(new, encoding="utf-8")
        temporary.replace(document)
    except OSError as error:
        raise UsageError(f"cannot write {document}: {error.strerror}", help="name another with --sites") from error
    finally:
        temporary.unlink(missing_ok=True)


def _line(name: str, entry: Entry, indent: int) -> str:
    """JSON is YAML: what a person typed is quoted whatever is in it."""
    fields = ", ".join(f"{key}: {_scalar(value)}" for key, value in entry.items())
    return f"{' ' * indent}{_scalar(name)}: {{{fields}}}\n"


def _scalar(value: str | int) -> str:
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value not in ("true", "false", "null")
    return str(value) if plain else json.dumps(value)


def _end(node: yaml.Node, lines: list[str]) -> int:
    """The line after a node. A block ends where the next token begins: give blank lines and comments back."""
    at = node.end_mark.line + (1 if node.end_mark.column else 0)
    while at > 0 and (not lines[at - 1].strip() or lines[at - 1].lstrip().startswith("#")):
        at -= 1
    return at


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
