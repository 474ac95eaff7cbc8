"""Removing copies of checkpoints, and inputs, that were brought to a site ahead, and nothing else there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from broker.effects.outcome import Result, done
from broker.jobs import Job
from broker.store.base import EffectRow
from connectors.base import Site

_COPY = re.compile(r"checkpoints/[a-z0-9]{1,64}/g[0-9]{1,9}/[0-9]{1,12}")
"""Where `ship` brings copies to. Whatever a row says: nothing outside of it is ever removed."""
_INPUTS = re.compile(r"inputs/[a-z0-9]{1,64}")
"""Where inputs are sent ahead to."""


def prune(site: Site, batch: Sequence[tuple[EffectRow, Job]]) -> Result:
    """Remove a copy's files. Repeatable: what is gone already is fine."""
    result = Result()
    for effect, _ in batch:
        folder = str(json.loads(effect.payload)["path"])
        if not _COPY.fullmatch(folder):
            result.done.append(done(effect, {"removed": 0, "reason": f"{folder} is no copy of a checkpoint of ours"}))
            continue
        result.done.append(done(effect, {"removed": _emptied(site, folder)}))
    return result


def remove_inputs(site: Site, folder: str) -> int:
    """Remove what was sent ahead; how many files. Repeatable. Raises SiteError."""
    return _emptied(site, folder) if _INPUTS.fullmatch(folder) else 0


def _emptied(site: Site, folder: str) -> int:
    found = [info.path for info in site.list(folder, recursive=True) if not info.is_dir]
    # the manifest goes first: what is left of a removal that broke off is no checkpoint any more
    found.sort(key=lambda path: path != f"{folder}/manifest")
    if found:
        site.remove(found)
    return len(found)
