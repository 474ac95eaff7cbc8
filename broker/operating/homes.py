"""Where a stage is at home: what `move --to home` means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from broker.facts import rules_of
from broker.store.base import AttemptRow, StageRow
from connectors.registry import SiteConfig

HOME = "home"


def home_of(stage: StageRow, attempts: Iterable[AttemptRow], configs: Mapping[str, SiteConfig]) -> str:
    """The first site that the document prefers; without a preference, the one where the stage began. Empty: it has
    none yet."""
    for name in rules_of(stage.rules).sites.prefer:
        for config in configs.values():
            if name in (config.name, config.facility, config.profile):
                return config.name
    first = min((row for row in attempts if row.n == stage.n), key=lambda row: row.number, default=None)
    return first.site if first is not None and first.site in configs else ""
