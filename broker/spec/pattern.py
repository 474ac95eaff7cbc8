"""Patterns of params: Python's regular expressions, without those that a hostile value could make run for ever."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from functools import lru_cache

from broker.spec.errors import Wrong, quoted

MOST_PATTERN = 512
MOST_UNBOUNDED = 4
"""Parts like `.*`: more of them in a row make a mismatch cost the value's length to that power."""
MOST_WAYS = 10_000_000
"""In which a pattern may be laid over a value, each of which a mismatch may cost: about a second."""

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|[*+]|\{[0-9]*,\}|\{[0-9,]*\}|\||.", re.DOTALL)
_LIMITS = re.compile(r"\{([0-9]*)(,?)([0-9]*)\}")
_SIGNS = {"*": (0, math.inf), "+": (1, math.inf), "?": (0, 1.0)}


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, to be used with `fullmatch`. Raises Wrong."""
    if len(pattern) > MOST_PATTERN:
        raise Wrong(f"a pattern may have {MOST_PATTERN} characters", "shorten it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of `[[a]`: said to nobody who could do anything about it
            found = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        why = quoted(str(error))[1:-1]
        raise Wrong(f"{quoted(pattern)} is not a regular expression: {why}", "mend it") from error
    _check_bounded(pattern)
    return found


def matches(pattern: str, value: str) -> bool:
    """Does the whole value match? Raises Wrong, also where finding out could take very long."""
    found = compiled(pattern)
    if _ways(pattern, len(value)) > MOST_WAYS:
        message = f"{quoted(pattern)} can be laid over a value of {len(value)} characters in too many ways"
        raise Wrong(message, "set smaller limits, as in {1,9}, or repeat fewer things within each other")
    return found.fullmatch(value) is not None


def _check_bounded(pattern: str) -> None:
    """Refuse an endless repetition of something that itself repeats or chooses, as in `(a+)+` or `(a|ab)*`."""
    restless = [False]
    """Of each open group: does it repeat without end or choose?"""
    closed = False
    unbounded = 0
    for piece in _TOKEN.findall(pattern):
        endless = piece in {"*", "+"} or piece.endswith(",}")
        if endless and closed:
            cure = "repeat something simple, such as [a-z]+, or set a limit as in {1,9}"
            raise Wrong(f"{quoted(pattern)} repeats a group that itself repeats or chooses", cure)
        unbounded += endless
        closed = piece == ")" and restless[-1]
        if piece == "(":
            restless.append(False)
        elif piece == ")":
            inner = restless.pop() if len(restless) > 1 else False
            restless[-1] = restless[-1] or inner
        elif endless or piece == "|":
            restless[-1] = True
    if unbounded > MOST_UNBOUNDED:
        raise Wrong(f"{quoted(pattern)} has more than {MOST_UNBOUNDED} endless repetitions", "set limits as in {1,9}")


@dataclass(slots=True)
class _Group:
    """An open group: in how many ways its finished branches, the open branch, and the piece last read can match."""

    done: float = 0.0
    branch: float = 1.0
    last: float = 1.0

    @property
    def ways(self) -> float:
        return self.done + self.branch * self.last


def _ways(pattern: str, length: int) -> float:
    """In how many ways, at most, the pattern can be laid over that many characters."""
    groups = [_Group()]
    before = ""
    for piece in _TOKEN.findall(pattern):
        here = groups[-1]
        bounds = None if before == "(" else _bounds(piece)  # (?: is no repetition
        if bounds is not None:
            if _bounds(before) is None:  # else a second sign, as in `a+?`: greed, not number
                here.last = _repeated(here.last, *bounds, length)
        elif piece == ")" and len(groups) > 1:
            groups.pop()
            groups[-1].last = here.ways
        else:
            here.branch *= here.last
            here.last = 1.0
            if piece == "|":
                here.done, here.branch = here.done + here.branch, 1.0
            elif piece == "(":
                groups.append(_Group())
        before = piece
    return math.prod(group.ways for group in groups)


def _bounds(piece: str) -> tuple[int, float] | None:
    """Of a sign of repetition: how often at least and at most."""
    if piece in _SIGNS:
        return _SIGNS[piece]
    found = _LIMITS.fullmatch(piece)
    if found is None:
        return None
    least, comma, most = found.groups()
    lower = int(least or 0)
    return lower, (float(most) if most else math.inf) if comma else lower


def _repeated(ways: float, least: int, most: float, length: int) -> float:
    """Of something that matches in so many ways. No more repetitions than there are characters."""
    upper = int(min(most, length))
    lower = min(least, upper)
    if ways <= 1:
        return upper - lower + 1
    if upper * math.log10(ways) > 18:
        return math.inf
    return sum(ways**count for count in range(lower, upper + 1))
