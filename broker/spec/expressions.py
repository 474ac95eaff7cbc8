"""`${{ }}`: what may stand in it, and how a param's value enters a text, a command or a typed field."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.shell import unsafe_places

EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
VARIABLE = r"[A-Za-z_][A-Za-z0-9_-]{0,99}"
"""Names of params and of a site's vars."""

_REFERENCE = re.compile(
    rf"\s*(?:params\.(?P<param>{VARIABLE})|(?P<launch>launch)|site\.(?P<site>name|vars\.{VARIABLE}))\s*"
)
_KNOWN = "use params.NAME; in commands also site.vars.NAME, site.name and launch"

Value = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamValue:
    """A param with its value. `duration` is in seconds, `size` in bytes."""

    type: str
    value: Value

    @property
    def text(self) -> str:
        """As it enters texts: seconds and bytes as plain numbers, true and false."""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return str(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """What expressions refer to. Handed to the models' fields as the validation's context."""

    types: Mapping[str, str]
    """Declared params to their types."""
    values: Mapping[str, ParamValue] | None = None
    """None: not known yet; texts with expressions are checked and kept as they are."""

    def text(self, text: str) -> tuple[str, bool]:
        """A text with its params filled in, and whether some are still open. Raises Wrong."""
        if "${{" not in text:
            return text, False
        _check_closed(text)
        filled = EXPRESSION.sub(self._plain, text)
        return filled, self.values is None

    def site_text(self, text: str) -> tuple[str, bool]:
        """As `text`, for what is completed at the site: `site.vars.NAME` and `site.name` stay. Raises Wrong."""
        if "${{" not in text:
            return text, False
        _check_closed(text)
        filled = EXPRESSION.sub(lambda found: self._plain(found, at_a_site=True), text)
        return filled, "${{" in filled

    def command(self, command: str) -> str:
        """A command with each param as one quoted word; `site` and `launch` stay. Raises Wrong."""
        if "${{" not in command:
            return command
        _check_closed(command)
        places = unsafe_places(command, [found.start() for found in EXPRESSION.finditer(command)])
        return EXPRESSION.sub(lambda found: self._word(found, places.get(found.start(), "")), command)

    def typed(self, value: object) -> tuple[object, bool]:
        """What a field that is no text should read in place of `value`, and whether that is still open."""
        if not isinstance(value, str) or "${{" not in value:
            return value, False
        _check_closed(value)
        whole = EXPRESSION.fullmatch(value.strip())
        reference = self._reference(whole[1]) if whole and value.count("${{") == 1 else None
        if reference is None or not reference["param"]:
            return self.text(value)
        if self.values is None:
            return value, True
        return self.values[reference["param"]].value, False

    # -- one expression ------------------------------------------------------------------------------------

    def _reference(self, inner: str) -> re.Match[str]:
        found = _REFERENCE.fullmatch(inner)
        if found is None:
            raise Wrong(f"${{{{ {quoted(inner.strip())[1:-1]} }}}} is not known", _KNOWN)
        param = found["param"]
        if param and param not in self.types:
            raise Wrong(
                f"the param {param!r} is not declared", nearest(param, self.types, what="declared under params")
            )
        return found

    def _plain(self, found: re.Match[str], *, at_a_site: bool = False) -> str:
        reference = self._reference(found[1])
        if at_a_site and reference["site"]:
            return found[0]
        if not reference["param"]:
            where = "in run, restart, software.setup and checkpoint.ask.command"
            raise Wrong(f"{found[0]} can stand only in commands", f"use it {where}")
        return found[0] if self.values is None else self.values[reference["param"]].text

    def _word(self, found: re.Match[str], place: str) -> str:
        if place == "comment":
            return found[0]
        reference = self._reference(found[1])
        if place and self._may_need_quotes(reference):
            raise Wrong(
                f"{found[0]} stands {place}, where its value would be read as shell text",
                "a value brings its own quotes: let it stand alone, as in `--scan ${{ params.scan }}`",
            )
        if not reference["param"] or self.values is None:
            return found[0]
        # a value that looks like an expression must not be taken for one when the command is completed at its site
        return shlex.quote(self.values[reference["param"]].text).replace("${{", "$''{{")

    def _may_need_quotes(self, reference: re.Match[str]) -> bool:
        """Numbers, bools and a site's name are plain words everywhere."""
        if reference["param"]:
            return self.types[reference["param"]] == "text"
        return reference["site"] != "name"


ANYTHING = Filling(types={})
"""No params declared."""


def _check_closed(text: str) -> None:
    if text.count("${{") != len(EXPRESSION.findall(text)):
        raise Wrong("a ${{ is not closed by }}", "write both braces, as in ${{ params.scan }}")
