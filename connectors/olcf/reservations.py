"""Reservations of the machine, as far as a person wants to know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.olcf.api import SlurmRest
from connectors.slurm.jobs import moment, number


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Times are µs; `users` and `accounts` as Slurm lists them."""

    name: str
    start: int | None
    end: int | None
    nodes: int
    users: str = ""
    accounts: str = ""
    partition: str = ""


def reservations(api: SlurmRest) -> Sequence[Reservation]:
    """All that we may see. Raises SiteError."""
    return [
        Reservation(
            name=_text(one.get("name")),
            start=moment(one.get("start_time")),
            end=moment(one.get("end_time")),
            nodes=number(one.get("node_count")) or 0,
            users=_text(one.get("users")),
            accounts=_text(one.get("accounts")),
            partition=_text(one.get("partition")),
        )
        for one in api.read("reservations").items("reservations", api.site)
        if isinstance(one, Mapping)
    ]


def _text(value: object) -> str:
    return value[:400] if isinstance(value, str) and value.isprintable() else ""
