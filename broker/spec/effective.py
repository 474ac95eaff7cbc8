"""What holds at one site: a stage's stored rules and body with their `at` overrides merged, commands completed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from broker.spec.errors import MissingSiteVariable
from broker.spec.expressions import VARIABLE
from broker.spec.machine_values import SECRET

_SITE_EXPRESSION = re.compile(
    rf"\$\{{\{{\s*(?:(?P<launch>launch)|site\.(?P<name>name)|site\.vars\.(?P<var>{VARIABLE}))\s*\}}\}}"
)


def rules_for(rules: Mapping[str, Any], site: str, profile: str) -> dict[str, Any]:
    """The rules at a site: the profile's overrides, then the site's. Neither `rules` nor its parts are changed."""
    return _at(rules, site, profile)


def body_for(body: Mapping[str, Any], site: str, profile: str) -> dict[str, Any]:
    """The body at a site, as `rules_for`."""
    return _at(body, site, profile)


def _at(base: Mapping[str, Any], site: str, profile: str) -> dict[str, Any]:
    overrides = base.get("at") or {}
    merged = {key: value for key, value in base.items() if key != "at"}
    for name in dict.fromkeys((profile, site)):
        if name in overrides:
            merged = _merged(merged, overrides[name])
    return merged


def _merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    """Maps merge, everything else replaces. As deep as documents are, which is bounded."""
    result = dict(base)
    for key, value in override.items():
        former = result.get(key)
        if isinstance(former, Mapping) and isinstance(value, Mapping):
            value = _merged(former, value)
        result[key] = value
    return result


def render_command(text: str, *, site_name: str, site_vars: Mapping[str, str], launcher: str) -> str:
    """A command ready for the site's shell: values as one quoted word each, `${{ launch }}` as the site's launcher.

    `launcher` is the operator's own shell text and is taken as it is. Raises MissingSiteVariable.
    """

    def value(found: re.Match[str]) -> str:
        if found["launch"]:
            return launcher
        if found["name"]:
            return shlex.quote(site_name)
        if found["var"] not in site_vars:
            raise MissingSiteVariable(site_name, found["var"])
        return shlex.quote(site_vars[found["var"]])

    return _SITE_EXPRESSION.sub(value, text)


def render_words(texts: Sequence[str], *, site_name: str, site_vars: Mapping[str, str]) -> list[str]:
    """Texts with the site's variables in them as they are: each becomes one word, quoted by whoever puts it into a
    command. Raises MissingSiteVariable."""

    def value(found: re.Match[str]) -> str:
        if found["launch"]:
            return found[0]
        if found["name"]:
            return site_name
        if found["var"] not in site_vars:
            raise MissingSiteVariable(site_name, found["var"])
        return site_vars[found["var"]]

    return [_SITE_EXPRESSION.sub(value, text) for text in texts]


def launches(body: Mapping[str, Any]) -> bool:
    """Does the payload's command say where its launcher belongs?"""
    texts = (body["run"], body["restart"] or "")
    return any(found["launch"] for text in texts for found in _SITE_EXPRESSION.finditer(text))


def site_variables(body: Mapping[str, Any]) -> frozenset[str]:
    """The site variables that a body (as `body_for` gives it) needs: a site lacking one of them cannot run it."""
    texts = (body["run"], body["restart"] or "", body["setup"], body.get("launch") or "", *(body.get("options") or ()))
    return frozenset(found["var"] for text in texts for found in _SITE_EXPRESSION.finditer(text) if found["var"])


def secrets_of(body: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a body (as `body_for` gives it) that hold secrets, and under which name each is kept."""
    return {name: value[len(SECRET) :] for name, value in (body.get("env") or {}).items() if value.startswith(SECRET)}


def input_matches(pattern: str | None, path: str) -> bool:
    """Does an input's `match` take this file? `path` is relative to the folder that the input names; `*` and `?`
    stop at no slash, so `*.h5` takes files of every depth."""
    return pattern is None or fnmatchcase(path, pattern)
