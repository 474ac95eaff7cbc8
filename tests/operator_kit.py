"""An operator of a lab: the use cases that a person at a terminal has, over simulated sites under a virtual clock."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from broker_kit import Lab

from broker.config import Settings
from broker.service import Service
from broker.sites import sites_of
from broker.spec import parse_document


def operator(lab: Lab, name: str = "ann") -> Service:
    """What that person can do to the lab."""
    told = sites_of(
        parse_document("crossfade: 1\nsites: {x: {profile: local, root: ./x}}\n", name="s"), base=Path("/"), where=""
    )
    sites = replace(told, configs=lab.configs, places=lab.places)
    settings = Settings(home=Path("/nowhere"), user=name, person=name)
    return Service(settings=settings, store=lab.store, sites=sites, clock=lab.clock)
