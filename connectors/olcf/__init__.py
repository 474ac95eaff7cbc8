"""OLCF by S3M, and any Slurm behind a slurmrestd: submit, watch and cancel over Slurm's REST API, v0.0.36 to v0.0.44.

In the site document: `root` (absolute, on a file system that compute nodes see), `credentials: {token: file:PATH}`,
`account`, and the options of `connectors.olcf.options.RestOptions`. Neither service moves files: `files` says how the
site's are reached. See docs/howto/connect-olcf.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from connectors.base import SiteFiles
from connectors.http import Http, NoAuth
from connectors.olcf.api import SlurmRest
from connectors.olcf.auth import auth_of
from connectors.olcf.files import files_of
from connectors.olcf.options import RestOptions
from connectors.olcf.site import RestSite
from connectors.registry import Clock, SiteConfig

__all__ = ["RestOptions", "RestSite", "make"]


def make(
    config: SiteConfig,
    clock: Clock,
    *,
    files: SiteFiles | None = None,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
    elapsed: Callable[[], float] = time.monotonic,
) -> RestSite:
    """The site of this entry; asks nobody yet. `files` instead of what the options name; `transport`, `sleep` and
    `elapsed` stand in for network and time. Raises ValueError for an entry that cannot be."""
    if not config.root.startswith("/"):
        raise ValueError(f"site {config.name}: `root` is {config.root!r}; give an absolute path at the machine")
    api = "slurmrestd" if config.connector == "slurmrest" else "s3m"
    options = RestOptions.read(config.name, config.options, api=api)
    base = options.url
    if base.startswith("unix:"):
        transport = transport or httpx.HTTPTransport(uds=base.removeprefix("unix:"))
        base = "http://localhost"
    http, public = (
        Http(
            base,
            site=config.name,
            auth=auth,
            transport=transport,
            deadline=options.deadline,
            sleep=sleep,
            elapsed=elapsed,
        )
        for auth in (auth_of(config, options), NoAuth())
    )
    return RestSite(
        config,
        options=options,
        api=SlurmRest(http, public, options),
        files=files or files_of(config, options, clock),
        clock=clock,
    )
