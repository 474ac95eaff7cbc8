"""Where data may be: asked when a stage is placed, when a document brings files to a place, and again by whoever
moves them, just before."""

from __future__ import annotations

from dataclasses import dataclass

from policies.model import DataRule, Reason, SiteFacts

BROKER = ""
"""The broker's own store, as transfers call it: documents' files come from there."""
EXPORT_CONTROL = "export_control"


@dataclass(frozen=True, slots=True, kw_only=True)
class SideFacts:
    """A side of a transfer: a site, or a place."""

    names: frozenset[str]
    """What documents may call it by: of a site also its facility and its profile."""
    clearance: frozenset[str] = frozenset()


def side_of(site: SiteFacts) -> SideFacts:
    """A site as a side."""
    return SideFacts(names=frozenset({site.name, site.facility, site.profile} - {""}), clearance=site.clearance)


def allowed(rule: DataRule | None, side: str, facts: SideFacts | None) -> Reason | None:
    """Why data under this rule may not be brought to that side; None: it may.

    `facts`: None for a side that nobody knows (any more), where nothing under a rule may go.
    """
    if rule is None or side == BROKER or not (rule.export_control or rule.stay):
        return None
    name = side.rstrip(":")
    if facts is None:
        return Reason("data", "refused", f"{name} is not in the site document, and the data is under a rule", name)
    if rule.export_control and EXPORT_CONTROL not in facts.clearance:
        fact = f"the data is under export control, and {name} has no clearance for it"
        return Reason("data.export_control", "refused", fact, name)
    if rule.stay and not facts.names.intersection(rule.stay):
        fact = f"the data stays at {', '.join(rule.stay)}, and {name} is none of them"
        return Reason("data.stay", "refused", fact, name)
    return None
