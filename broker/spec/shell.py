"""Where in a shell command a quoted value may stand.

A value is put into a command as one quoted word. That is safe where the shell reads plain words. Inside quotes, a
here-document, backticks, arithmetic or after a backslash the word's own quotes lose their meaning, and the value would
be read as shell text. This file finds such places. It follows the shell as far as that is simple; where it cannot be
sure, every later place counts as unsafe: a refusal costs its writer a line, a wrong guess would cost a site.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_HEREDOC = re.compile(r"<<(-?)[ \t]*(?:'([^'\n]+)'|\"([^\"\n\\]+)\"|\\?([A-Za-z0-9_.-]+))(?=[\s;|&<>)]|$)")
_BEFORE_A_COMMENT = frozenset(" \t\n;&|()")
_UNSURE = "after shell text whose quotes cannot be followed"


def unsafe_places(command: str, starts: Collection[int]) -> dict[int, str]:
    """Of the positions `starts`, those where a quoted value would not be safe, each with what it stands in.

    `comment` is told apart: what stands there is never read, and is best left as it is.
    """
    return _Scanner(command, starts).scan()


class _Scanner:
    def __init__(self, text: str, starts: Collection[int]) -> None:
        self._text = text
        self._starts = frozenset(starts)
        self._found: dict[int, str] = {}
        self._frames: list[str] = []
        """What is open, innermost last: `"`, `(` of a substitution, `p` of a plain parenthesis."""
        self._bodies: list[re.Pattern[str]] = []
        """The last lines of the here-documents that begin after this line."""

    def scan(self) -> dict[int, str]:
        at = 0
        while at < len(self._text):
            inside = bool(self._frames) and self._frames[-1] == '"'
            if at in self._starts:
                self._note(at, inside)
            after = self._double(at) if inside else self._plain(at)
            if after is None:
                self._note_rest(at, len(self._text), _UNSURE)
                break
            at = after
        return self._found

    def _note(self, at: int, inside: bool) -> None:
        if inside:
            self._found[at] = "inside double quotes"
        elif at and self._text[at - 1] == "$":
            self._found[at] = "after a $"

    def _note_rest(self, start: int, end: int, place: str) -> None:
        for at in self._starts:
            if start <= at < end:
                self._found.setdefault(at, place)

    # -- one step; None: lost ------------------------------------------------------------------------------

    def _plain(self, at: int) -> int | None:
        text, char = self._text, self._text[at]
        match char:
            case "\\":
                self._note_rest(at + 1, at + 2, "after a backslash")
                return None if text.startswith("\n#", at + 1) else at + 2
            case "'":
                if text[at - 1 : at] == "$":
                    return None  # $'...' of bash has escapes of its own
                return self._skip_to("'", at + 1, "inside single quotes")
            case '"':
                self._frames.append('"')
            case "`":
                return self._skip_to("`", at + 1, "inside backticks")
            case "#" if at == 0 or text[at - 1] in _BEFORE_A_COMMENT:
                return self._skip_to("\n", at + 1, "comment", ends=False)
            case "$":
                return self._dollar(at)
            case "(":
                if text.startswith("((", at):
                    return None  # arithmetic in some shells, two subshells in others
                self._frames.append("p")
            case ")":
                return self._close(at)
            case "<" if text.startswith("<<", at):
                return self._heredoc(at)
            case "\n" if self._bodies:
                return self._skip_bodies(at + 1)
        return at + 1

    def _double(self, at: int) -> int | None:
        match self._text[at]:
            case "\\":
                self._note_rest(at + 1, at + 2, "inside double quotes")
                return at + 2
            case '"':
                self._frames.pop()
            case "`":
                return None
            case "$":
                return self._dollar(at)
        return at + 1

    def _dollar(self, at: int) -> int | None:
        text = self._text
        if at in self._starts:
            return at + 1
        if text.startswith("$((", at):
            end = text.find("))", at)
            if end < 0 or any(mark in text[at + 3 : end] for mark in "\"'`\\("):
                return None
            self._note_rest(at, end, "inside arithmetic")
            return end + 2
        if text.startswith("${", at):
            end = text.find("}", at)
            if end < 0 or any(mark in text[at + 2 : end] for mark in "\"'`\\$"):
                return None
            return end + 1
        if text.startswith("$(", at):
            if re.search(r"\bcase\b", text[at:]):
                return None  # its patterns have parentheses of their own
            self._frames.append("(")
            return at + 2
        return at + 1

    def _close(self, at: int) -> int:
        if self._frames and self._frames[-1] != '"':
            self._frames.pop()
        return at + 1

    def _skip_to(self, mark: str, start: int, place: str, *, ends: bool = True) -> int | None:
        """Past the next `mark`, which belongs to what is skipped if it `ends` it. The shell knows no escapes there."""
        end = self._text.find(mark, start)
        if end < 0:
            end = len(self._text)
        if mark == "`" and "\\" in self._text[start:end]:
            return None
        self._note_rest(start, end, place)
        return end + 1 if ends else end

    def _heredoc(self, at: int) -> int | None:
        found = _HEREDOC.match(self._text, at)
        if found is None or self._text.startswith("<<<", at):
            return None
        last = re.escape(found[2] or found[3] or found[4])
        self._bodies.append(re.compile(rf"^{chr(9) + '*' if found[1] else ''}{last}$", re.MULTILINE))
        return found.end()

    def _skip_bodies(self, at: int) -> int | None:
        for last in self._bodies:
            end = last.search(self._text, at)
            if end is None:
                return None
            self._note_rest(at, end.start(), "inside a here-document")
            at = end.end()
        self._bodies.clear()
        return at
