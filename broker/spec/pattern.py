"""Patterns of params: Python's regular expressions, without those that a hostile value could make run for ever."""

from __future__ import annotations

import re
from functools import lru_cache

from broker.spec.errors import Wrong, quoted

MOST_PATTERN = 512
MOST_UNBOUNDED = 4
"""Parts like `.*`: more of them in a row make a mismatch cost the value's length to that power."""

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|[*+]|\{[0-9]*,\}|\{[0-9,]*\}|\||.", re.DOTALL)


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern, to be used with `fullmatch`. Raises Wrong."""
    if len(pattern) > MOST_PATTERN:
        raise Wrong(f"a pattern may have {MOST_PATTERN} characters", "shorten it")
    try:
        found = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(f"{quoted(pattern)} is not a regular expression: {error}", "mend it") from error
    _check_bounded(pattern)
    return found


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
