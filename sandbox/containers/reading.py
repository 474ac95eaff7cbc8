"""Reading a runtime's command line: options first, then the image, then the payload's own words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class RefusedLine(Exception):
    """The real command would not take this line. Says so on stderr and ends with `code`."""

    def __init__(self, told: str, code: int) -> None:
        super().__init__(told)
        self.told, self.code = told, code


@dataclass(frozen=True, slots=True, kw_only=True)
class Syntax:
    """The options that a command knows."""

    values: Mapping[str, str]
    """Options with a value, each spelling to its name."""
    flags: Mapping[str, str]
    """Those without."""
    unknown: str
    """What is said of an option that it does not know; `{}`: the option."""
    lacks: str
    """What is said of one whose value is missing."""
    code: int


@dataclass(slots=True)
class Line:
    """What was read."""

    values: dict[str, list[str]] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    rest: Sequence[str] = ()

    def all(self, name: str) -> Sequence[str]:
        return self.values.get(name, ())

    def last(self, name: str) -> str:
        """Of an option that is given more than once the last one counts; empty: it was not given."""
        found = self.values.get(name)
        return found[-1] if found else ""


def read_line(words: Sequence[str], syntax: Syntax) -> Line:
    """Options up to the first word that is none, or to `--`. Raises RefusedLine."""
    line = Line()
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] != "-":
        if words[at] == "--":
            at += 1
            break
        name, equals, value = words[at].partition("=")
        at += 1
        if name in syntax.flags:
            line.flags.add(syntax.flags[name])
        elif name in syntax.values:
            if not equals:
                if at >= len(words):
                    raise RefusedLine(syntax.lacks.format(name), syntax.code)
                value, at = words[at], at + 1
            line.values.setdefault(syntax.values[name], []).append(value)
        else:
            raise RefusedLine(syntax.unknown.format(name), syntax.code)
    line.rest = words[at:]
    return line


_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
# without a dot or a port it is no host, but the first part of a path
_HOST = rf"(?:localhost|{_LABEL}(?:\.{_LABEL})+|{_LABEL}(?=:))(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:{_HOST}/)?{_PART}(?:/{_PART})*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}})?(?P<digest>@sha256:[0-9a-f]{{64}})?"
)


def is_reference(text: str) -> bool:
    """Is it an image's name by the grammar of registries: host/path:tag@sha256:digest?"""
    return _REFERENCE.fullmatch(text) is not None
