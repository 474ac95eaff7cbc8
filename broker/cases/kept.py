"""What a policy was asked, kept with its answer: so that another policy can be asked the same later.

Kept is what a case would say: every input, without what is a default. So a decision of the past is a case, too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from enum import Enum
from typing import Any

from policies.model import Decision

ASKED = "asked"
"""The key among a decision's facts."""
MOST = 8192
"""Bytes of JSON kept of one decision; of a larger one only its size is."""


def kept(decision: Decision, policy: str, given: Mapping[str, Any], *, judged: Decision | None = None) -> Decision:
    """The decision, with what its policy was asked and answered. `judged`: the policy's own answer, where something
    else (a hold, the storm brake) has had its word since."""
    own = judged or decision
    asked: dict[str, object] = {"policy": policy, "outcome": own.outcome, "site": own.site}
    if own.until is not None:
        asked["until"] = own.until
    told = {name: sparse(value) for name, value in given.items()}
    size = len(json.dumps(told, separators=(",", ":")))
    asked |= {"given": told} if size <= MOST else {"bytes": size}
    return replace(decision, facts={**decision.facts, ASKED: asked})


def sparse(value: Any) -> Any:
    """A frozen value as plain data, without the fields that have their default; `values.made` is the inverse."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        told = {each.name: getattr(value, each.name) for each in fields(value)}
        return {each.name: sparse(told[each.name]) for each in fields(value) if told[each.name] != _default(each)}
    if isinstance(value, Mapping):
        return {str(key): sparse(each) for key, each in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(sparse(each) for each in value)
    if isinstance(value, tuple | list):
        return [sparse(each) for each in value]
    return value


def _default(each: Field[Any]) -> object:
    if each.default is not MISSING:
        return each.default
    return each.default_factory() if each.default_factory is not MISSING else MISSING
