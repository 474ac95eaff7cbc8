"""Globus as a model: Transfer over collections that are real folders, and Auth. No HTTP in here.

`sandbox.faces.globus` speaks its protocols.
"""

from sandbox.globus.auth import Client, GlobusAuth, Identity
from sandbox.globus.collections import GUEST, MAPPED, Collection
from sandbox.globus.pace import Limits, Pace
from sandbox.globus.service import GlobusService
from sandbox.globus.weather import Spell, Weather, weather_of
from sandbox.globus.worker import Worker

__all__ = [
    "GUEST",
    "MAPPED",
    "Client",
    "Collection",
    "GlobusAuth",
    "GlobusService",
    "Identity",
    "Limits",
    "Pace",
    "Spell",
    "Weather",
    "Worker",
    "weather_of",
]
