"""How far each connector is known to work: `connectors/proven.yaml`."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml


@dataclass(frozen=True, slots=True)
class Proof:
    """What a connector was proven with, and when it last was at a real facility."""

    by: str
    live: str = ""
    """A day, YYYY-MM-DD; empty: never."""
    stand_in: bool = False
    """Nothing real has been on the other side so far."""

    def __str__(self) -> str:
        if self.live:
            return f"proven live on {self.live}"
        return f"stand-in only: {self.by}" if self.stand_in else self.by


UNKNOWN = Proof(by="not known how it was proven")


def proof_of(connector: str) -> Proof:
    """Of a connector that came by itself nothing is known."""
    return proofs().get(connector, UNKNOWN)


@cache
def proofs() -> Mapping[str, Proof]:
    """Every row, by connector."""
    found = yaml.safe_load((files("connectors") / "proven.yaml").read_text(encoding="utf-8"))
    return {name: _proof(row) for name, row in found.items()}


def _proof(row: Mapping[str, object]) -> Proof:
    live = row.get("live") or ""
    day = live.isoformat() if isinstance(live, datetime.date) else str(live)
    return Proof(by=str(row["by"]), live=day, stand_in=row.get("stand_in") is True)
