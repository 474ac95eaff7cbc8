"""The mover over Globus: for data of any size between sites and places that have a collection.

    submit   one transfer becomes one task, under a submission id that is kept before it is used
    status   one question for all tasks; what has landed is verified, then published by rename
    cancel   True only when the task is seen to have ended

See docs/howto/move-data-with-globus.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.errors import SiteError
from connectors.files.collection import CollectionFiles
from connectors.globus.mover import GlobusMover
from connectors.globus.task import Options
from connectors.globus_api.api import GlobusApi
from connectors.globus_api.ends import End
from connectors.globus_api.identity import NO_CLIENT
from connectors.registry import MoverSetup

__all__ = ["GlobusMover", "Options", "make_mover"]

READABLE = 256 << 20
"""Bytes of a file that is read to learn its digest, when Globus has forgotten the task that brought it."""


def make_mover(setup: MoverSetup) -> GlobusMover:
    """Asks nobody yet; without a login its transfers are held, and say so."""
    api = GlobusApi(setup.globus)

    def digests(end: End, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        try:
            return CollectionFiles(api, end, readable=READABLE).digests(paths)
        except SiteError:
            return {}

    config = setup.globus
    options = Options(patience=config.patience, deadline=config.deadline, encrypt=config.encrypt)
    return GlobusMover(
        api,
        configs=setup.configs,
        places=setup.places,
        notes=setup.notes,
        clock=setup.clock,
        options=options,
        digests=digests,
        active=config.active,
        unable="" if config.client_id else NO_CLIENT,
    )
