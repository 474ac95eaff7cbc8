"""What documents say of money, as the policies take it: charges of machines, caps, budgets."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from broker.spec.budget import Bound, Budgets, Charge
from connectors.model import Reservation, Tariff
from policies.budget import MICRO
from policies.model import BudgetRule, Cap

PROJECT, USER, RUN = "project", "user", "run"
"""Kinds of caps."""


def tariff_of(profile: Charge | None, entry: Charge | None, *, whole_nodes: bool) -> Tariff | None:
    """How a site charges: its profile's words with its entry's over them, key by key; None: neither says so."""
    said: dict[str, Any] = {}
    for part in (profile, entry):
        if part is not None:
            said |= {name: getattr(part, name) for name in part.model_fields_set}
    if profile is None and entry is None:
        return None
    reserved = {
        name: Reservation(nodes=one.nodes, start=_micros(one.start), end=_micros(one.end))
        for name, one in said.pop("reservations", {}).items()
    }
    return Tariff(whole_nodes=whole_nodes, reservations=reserved, **said)


def _micros(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def caps_of(budgets: Budgets) -> Mapping[tuple[str, str], Cap]:
    """The site document's, by kind and name."""
    return {
        **{(PROJECT, name): cap_of(vars(bound)) for name, bound in budgets.projects.items()},
        **{(USER, name): cap_of(vars(bound)) for name, bound in budgets.users.items()},
    }


def cap_of(said: Mapping[str, Any] | Bound) -> Cap:
    """From numbers of hours and dollars."""
    keys = vars(said) if isinstance(said, Bound) else said
    return Cap(node_hours=_millionths(keys["node_hours"]), usd=_millionths(keys["usd"]))


def budget_rule(data: Mapping[str, Any]) -> BudgetRule:
    """From stored rules."""
    return BudgetRule(
        cap=cap_of(data),
        per_site={name: cap_of(bound) for name, bound in data["per_site"].items()},
        resilience=data["resilience"],
    )


def _millionths(number: float | None) -> int | None:
    return None if number is None else round(number * MICRO)
