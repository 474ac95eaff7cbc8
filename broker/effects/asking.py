"""Asking a payload that runs for a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from broker.effects.outcome import Result, done
from broker.jobs import Job
from broker.store.base import EffectRow
from connectors.base import Site

REQUEST = ".crossfade/request"
"""Where the wrapper looks for requests, below the attempt's directory; it takes each one away (docs: the harness)."""
CHECKPOINT = b"checkpoint\n"


def ask(site: Site, batch: Sequence[tuple[EffectRow, Job]]) -> Result:
    """Leave a request for each. Repeatable: a payload that is asked twice saves itself twice. Raises SiteError."""
    result = Result()
    for effect, job in batch:
        site.write(f"{job.attempt.directory}/{REQUEST}", CHECKPOINT)
        result.done.append(done(effect, {"asked": True}))
    return result
