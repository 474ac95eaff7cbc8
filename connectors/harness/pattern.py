r"""Checkpoint patterns: a safe part of Python's regular expressions, told to `sed -E` at the site.

The document's patterns are matched by Python (validation, simulation) and by the site's POSIX tools, so only
what means the same in both is taken: literal characters, `.`, `\d`, `\w`, escaped punctuation, `[...]`, groups
(plain and `(?:...)`), `|`, and the quantifiers `* + ? {m} {m,} {m,n}`. A pattern matches a whole relative path,
and its group 1 is the checkpoint's number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_PATTERN = 512
MAX_REPEAT = 255
"""POSIX promises no more (RE_DUP_MAX)."""
MAX_GROUPS_BEFORE = 3
"""`sed` numbers nine groups; the wrapper needs five of its own."""

_SPECIAL = frozenset(".^$*+?()[]{}|\\")
_TOKEN = re.compile(
    r"""(?P<escape>\\.)|(?P<class>\[(?:\\.|[^\]\\])+\])|(?P<open>\((?:\?:)?)|(?P<close>\))
    |(?P<bar>\|)|(?P<repeat>[*+?]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})|(?P<dot>\.)|(?P<literal>[^\\\[\](){}|*+?.^$])""",
    re.VERBOSE,
)
_CLASS_ITEM = re.compile(r"\\(?P<set>[dw])|\\(?P<escaped>[^A-Za-z0-9])|(?P<range>[A-Za-z0-9]-[A-Za-z0-9])|(?P<one>.)")
_SETS = {"d": "0-9", "w": "A-Za-z0-9_"}


class UnsupportedPattern(ValueError):
    """The pattern uses something that POSIX tools at a site would not understand, or not understand alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """A pattern for `sed -E`; `number_group` is the place of the pattern's group 1 among all its parentheses."""

    ere: str
    number_group: int


def check_pattern(text: str) -> None:
    """Raise UnsupportedPattern, with a sentence for its writer, unless the harness can use the pattern."""
    translate(text)


def literal(text: str) -> str:
    """An ERE that matches this text and nothing else."""
    return "".join("\\" + letter if letter in _SPECIAL else letter for letter in text)


@lru_cache(maxsize=512)
def translate(text: str) -> Translated:
    """The same pattern as a POSIX extended regular expression; raises UnsupportedPattern."""
    _check_whole(text)
    parts: list[str] = []
    opened = number_group = at = 0
    repeatable = closed_endless = False
    endless = [False]  # per open group: does it hold a repetition without an upper bound?
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise UnsupportedPattern(f"{text!r} cannot be used from character {at + 1} on: {text[at : at + 8]!r}")
        at = token.end()
        kind, value = str(token.lastgroup), token[0]
        if kind == "repeat":
            _check_repeat(text, value, repeatable)
            _check_nesting(text, value, closed_endless)
            endless[-1] |= _unbounded(value)
        closed_endless = kind == "close" and len(endless) > 1 and endless.pop()
        endless[-1] |= closed_endless
        if kind == "open":
            endless.append(False)
            opened += 1
            if value == "(" and not number_group:
                number_group = opened
        parts.append(_told(kind, value, text))
        repeatable = kind not in {"repeat", "open", "bar"}
    try:
        re.compile(text)  # the parts are known by now, the whole may still be wrong: a lost parenthesis, [z-a]
    except (re.error, OverflowError, RecursionError) as error:
        raise UnsupportedPattern(f"{text!r} is not a regular expression: {error}") from error
    if not 1 <= number_group <= 1 + MAX_GROUPS_BEFORE:
        raise UnsupportedPattern(
            f"{text!r} needs a group that holds the checkpoint's number, such as (\\d+), near its start"
        )
    return Translated(ere="".join(parts), number_group=number_group)


def _check_whole(text: str) -> None:
    if not 0 < len(text) <= MAX_PATTERN:
        raise UnsupportedPattern(f"a pattern must have 1 to {MAX_PATTERN} characters")
    if not text.isascii() or not text.isprintable():
        raise UnsupportedPattern(f"{text!r} may hold printable ASCII characters only")
    if re.search(r"\(\)|\(\?:\)|\(\||\|\||\|\)|^\||\|$|\(\?:\|", re.sub(r"\\.", "x", text)):
        raise UnsupportedPattern(f"{text!r} has an empty alternative; use `?` instead")


def _check_repeat(text: str, value: str, repeatable: bool) -> None:
    if not repeatable:
        raise UnsupportedPattern(f"{text!r} repeats a repetition: lazy and possessive quantifiers are not supported")
    if any(int(number) > MAX_REPEAT for number in re.findall(r"[0-9]+", value)):
        raise UnsupportedPattern(f"{text!r} repeats more than {MAX_REPEAT} times")


def _unbounded(value: str) -> bool:
    return value in {"*", "+"} or value.endswith(",}")


def _check_nesting(text: str, value: str, closed_endless: bool) -> None:
    if closed_endless and (_unbounded(value) or value.startswith("{")):
        raise UnsupportedPattern(f"{text!r} repeats a group that repeats without end: matching could take for ever")


def _told(kind: str, value: str, text: str) -> str:
    match kind:
        case "escape":
            return _escape(value[1], text)
        case "class":
            return _char_class(value, text)
        case "open":
            return "("
        case _:
            return value


def _escape(letter: str, text: str) -> str:
    if letter in _SETS:
        return f"[{_SETS[letter]}]"
    if letter.isalnum():
        raise UnsupportedPattern(f"{text!r} uses \\{letter}; of Python's escapes only \\d and \\w are supported")
    return "\\" + letter if letter in _SPECIAL else letter


def _char_class(value: str, text: str) -> str:
    """The bracket in POSIX order: `]` first, `-` last, and no backslash, which POSIX takes literally."""
    body = value[1:-1]
    negated = body.startswith("^")
    body = body[1:] if negated else body
    ranges, ones = "", ""
    for item in _CLASS_ITEM.finditer(body):
        if item["set"]:
            ranges += _SETS[item["set"]]
        elif item["range"]:
            ranges += item["range"]
        else:
            ones += item["escaped"] or item["one"]
    if (
        not body
        or "\\" in ones
        or "[" in ones
        or re.search(r"--|&&|~~|\|\|", body)
        or re.search(r"\\[^dw\W]", body)
        or re.search(r"[^\\]-\\[dw]", body)
    ):
        raise UnsupportedPattern(f"{text!r} has a character class that the sites' tools would read differently")
    closing = "]" if "]" in ones else ""
    dash = "-" if "-" in ones else ""
    caret = "^" if "^" in ones else ""
    plain = "".join(sorted(set(ones) - set("]-^")))
    inside = closing + ranges + plain + caret + dash
    if not negated and inside == "^":
        return "\\^"
    if not negated and inside == "^-":
        return "[-^]"
    return f"[{'^' if negated else ''}{inside}]"
