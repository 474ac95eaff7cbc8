"""The files of a place on a Globus collection: looked at, read, written and removed over HTTPS and Globus Transfer."""

from __future__ import annotations

from connectors.files.collection import CollectionFiles
from connectors.globus_api.api import GlobusApi
from connectors.globus_api.ends import NoEnd, end_of
from connectors.registry import PlaceSetup

READABLE = 1 << 30
"""Bytes of a file that is read through to learn its digest: no call tells one, and a copy is believed for no less."""


def make_place(setup: PlaceSetup) -> CollectionFiles:
    """From an entry of the site document; asks nobody yet. Raises ValueError for an entry that makes no sense."""
    config = setup.config
    try:
        end = end_of(config.side, configs={}, places={config.name: config})
    except NoEnd as error:
        raise ValueError(f"place {config.name}: {error}") from error
    return CollectionFiles(GlobusApi(setup.globus), end, readable=READABLE)
