"""What is wrong with a document, where, and what to do about it.

DocumentError
└── UnreadableDocument   not even YAML or JSON within the limits: there is nothing to look into
MissingSiteVariable      a command asks for a variable that a site does not have (found when it is rendered)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a document down to a value."""

MOST_SHOWN = 50
"""Problems printed of one document: a slip repeated in 10 000 stages is still one screen."""


MOST_COMPARED = 500
"""Names that a wrong one is compared with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong. All texts are safe to print: foreign text in them went through `quoted`."""

    where: str
    """The dotted path, such as `stages.recon.resources.walltime`; empty: the document as a whole."""
    message: str
    cure: str = ""
    kind: str = "invalid"
    """unreadable, unknown_key, missing, invalid, unbuilt, structure, file or param."""
    line: int | None = None
    """Starts at 1."""
    column: int | None = None
    """Starts at 1."""

    def told(self, name: str) -> str:
        """`tomo.yaml:12:7 stages.recon.run: what is wrong; what to do`, on one line."""
        place = name if self.line is None else f"{name}:{self.line}:{self.column}"
        return f"{place} {self.where}{': ' if self.where else ''}{self.message}{'; ' if self.cure else ''}{self.cure}"


class DocumentError(ValueError):
    """A document, or what was given with it, cannot be used. Nothing was stored, nothing was started."""

    def __init__(self, name: str, problems: Iterable[Problem]) -> None:
        self.name = name
        self.problems: Sequence[Problem] = tuple(problems)
        super().__init__(name, self.problems)

    def __str__(self) -> str:
        """One line per problem, in the order of the document."""
        lines = [problem.told(self.name) for problem in self.problems[:MOST_SHOWN]]
        left = len(self.problems) - MOST_SHOWN
        return "\n".join([*lines, f"{self.name}: and {left} more"] if left > 0 else lines)


class UnreadableDocument(DocumentError):
    """The text is no YAML or JSON that we read."""


class MissingSiteVariable(LookupError):
    """A command names a variable that its site does not have."""

    def __init__(self, site: str, variable: str) -> None:
        super().__init__(f"site {site} has no variable {variable!r}; add it under sites.{site}.vars")
        self.site = site
        self.variable = variable


class Wrong(ValueError):
    """Raised by a value's reader; the one who knows the place makes a Problem of it."""

    def __init__(self, message: str, cure: str | Callable[[], str] = "", *, kind: str = "invalid") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self._cure = cure

    @property
    def cure(self) -> str:
        """Looking for the nearest name takes time: it is done when it is asked for, which is not for every fault."""
        return self._cure if isinstance(self._cure, str) else self._cure()


def quoted(value: object, *, most: int = 60) -> str:
    """A foreign value for a message: on one line, without control characters, at most `most` characters of it."""
    if isinstance(value, str):
        return ascii(value if len(value) <= most else value[: most - 3] + "...")
    if isinstance(value, bool | float | int):
        return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return {type(None): "nothing", list: "a list", dict: "a map"}.get(type(value), type(value).__name__)


def dotted(path: KeyPath) -> str:
    """A path as messages print it: `stages.recon.inputs[0].from`."""
    parts: list[str] = []
    for step in path:
        if isinstance(step, int):
            parts.append(f"[{step}]")
        else:
            parts.append(f".{_plain(step)}" if parts else _plain(step))
    return "".join(parts)


def _plain(name: str) -> str:
    """A name without quotes, unless it is odd."""
    return name if name.isascii() and name.isprintable() and len(name) <= 100 else quoted(name)


def nearest(word: str, known: Iterable[str], *, what: str = "known") -> str:
    """A cure: the name most like `word`, or the names there are."""
    names = sorted(known)
    close = difflib.get_close_matches(word[:100], _candidates(word, names), n=1)
    if close:
        return f"did you mean `{_plain(close[0])}`?"
    listed = ", ".join(_plain(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
    return f"{what}: {listed}" if names else ""


def _candidates(word: str, names: Sequence[str]) -> Sequence[str]:
    """Comparing is slow: among thousands, only names that begin alike and are about as long."""
    if len(names) <= MOST_COMPARED:
        return names
    alike = (name for name in names if name[:1] == word[:1] and abs(len(name) - len(word)) <= 2)
    return list(islice(alike, MOST_COMPARED))
