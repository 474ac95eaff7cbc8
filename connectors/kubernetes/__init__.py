"""The connector for Kubernetes clusters, with a bucket for files. See `connectors.kubernetes.site`."""

from __future__ import annotations

from connectors.files.bucket import bucket_files
from connectors.http import Http
from connectors.kubernetes.access import access_of
from connectors.kubernetes.options import KubernetesOptions, options_of
from connectors.kubernetes.site import KubernetesSite
from connectors.registry import Clock, SiteConfig

__all__ = ["KubernetesOptions", "KubernetesSite", "make"]


def make(config: SiteConfig, clock: Clock) -> KubernetesSite:
    """From a site's entry. Raises RequestRefused and CredentialError, saying what is missing."""
    options = options_of(config)
    access = access_of(config, options)
    return KubernetesSite(
        name=config.name,
        http=Http(access.server, site=config.name, auth=access.auth, transport=access.transport),
        files=bucket_files(config, clock),
        options=options,
        clock=clock,
        owner=config.installation,
        heartbeat=config.heartbeat,
        until=access.until,
    )
