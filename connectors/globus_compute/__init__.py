"""Globus Compute: jobs as shell functions at an endpoint, a facility's multi-user one or a user's own.

An optional extra (`pip install 'crossfade[globus-compute]'`): of the SDK it takes how functions and arguments are
written down; the calls are our own. What came back is never unpickled. Stand-in only: no real endpoint has run this.
See docs/howto/connect-globus-compute.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from connectors.base import SiteFiles
from connectors.files.mounted import MountedFiles
from connectors.files.shell import ShellFiles
from connectors.globus_compute.options import ComputeOptions
from connectors.globus_compute.service import SCOPE, ComputeService
from connectors.globus_compute.site import ComputeEndpointSite
from connectors.http import Http
from connectors.registry import Clock, SiteConfig
from connectors.tokens import globus_auth

__all__ = ["ComputeEndpointSite", "ComputeOptions", "make"]


def make(
    config: SiteConfig,
    clock: Clock,
    *,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
    elapsed: Callable[[], float] = time.monotonic,
) -> ComputeEndpointSite:
    """The site of this entry; asks nobody yet. Raises ValueError, CredentialError (no credentials are named)."""
    if not config.root.startswith("/"):
        raise ValueError(f"site {config.name}: `root` is {config.root!r}; give an absolute path at the endpoint")
    options = ComputeOptions.read(config.name, config.options)

    def http(base: str) -> Http:
        return Http(
            base, site=config.name, transport=transport, deadline=options.deadline, sleep=sleep, elapsed=elapsed
        )

    way = http(options.base)
    way.auth = globus_auth(config.credentials, scope=SCOPE, clock=clock, http=http, site=config.name)
    service = ComputeService(way, sleep=sleep, elapsed=elapsed)
    return ComputeEndpointSite(
        config, options=options, service=service, files=_files(config, options, service), clock=clock
    )


def _files(config: SiteConfig, options: ComputeOptions, service: ComputeService) -> SiteFiles:
    if options.files == "mounted":
        return MountedFiles(site=config.name, mount=Path(options.mount))

    def run(script: str, stdin: bytes) -> bytes:
        return service.run(options.files_endpoint, script, stdin, within=options.deadline)

    return ShellFiles(run, site=config.name, root=config.root, umask=config.umask or "077")
