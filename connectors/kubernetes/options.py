"""What a Kubernetes site's entry may say beyond what all sites have, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from connectors.errors import RequestRefused
from connectors.registry import SiteConfig

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_IMAGE = re.compile(r"[A-Za-z0-9][\w./:@-]{0,300}")
_TEXT = {
    "namespace": _NAME,
    "image": _IMAGE,
    "server": re.compile(r"https?://[\w.:\[\]/-]+"),
    "context": re.compile(r"[^\x00-\x1f]{1,253}"),
    "ca": re.compile(r"[^\x00-\x1f]{1,1000}"),
    "secret": _NAME,
    "service_account": _NAME,
    "queue": _NAME,
    "endpoint": re.compile(r"https?://[\w.:\[\]-]+/?"),
    "pod_endpoint": re.compile(r"https?://[\w.:\[\]-]+/?"),
    "region": re.compile(r"[a-z0-9-]{1,40}"),
    "gpu_resource": re.compile(r"[a-z0-9.-]+/[A-Za-z0-9._-]+"),
    "files": re.compile(r"bucket"),
    "identity": re.compile(r"[0-9a-f]{1,64}"),
}
_LEAST = {"ttl": 86_400.0, "stuck_after": 1.0, "grace": 1.0, "margin": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesOptions:
    """Durations are seconds."""

    namespace: str = "default"
    image: str = ""
    """Of payloads that name none. Needs sh, curl 7.87 or newer, sha256sum, awk, sed and find."""
    server: str = ""
    """The API's address, with `credentials.token`, instead of a kubeconfig."""
    ca: str = ""
    """With `server`: file of the certificates that its own is checked against."""
    context: str = ""
    """Of the kubeconfig; empty: its current one."""
    in_cluster: bool = False
    """The broker runs in a pod there, and uses that pod's service account."""
    secret: str = "crossfade-bucket"  # noqa: S105 - its name
    """The Kubernetes Secret with `access_key`, `secret_key` and, perhaps, `session_token` of the bucket."""
    service_account: str = ""
    queue: str = ""
    """Kueue's LocalQueue; its jobs are made suspended, and Kueue lets them go."""
    suspend: bool = False
    """Jobs are made suspended, then their files are brought, then they are released."""
    stuck_after: float = 900.0
    """How long a pod may be without a node, or without its image, before that counts as for ever."""
    ttl: float = 7 * 86_400.0
    """How long ended jobs stay to be asked about."""
    grace: float = 120.0
    """Between TERM and KILL: for a last checkpoint, and to bring it to the bucket."""
    margin: float = 600.0
    """On top of a walltime: to fetch the files and to bring the results."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: Sequence[Mapping[str, Any]] = ()
    image_pull_secrets: Sequence[str] = ()
    gpu_resource: str = "nvidia.com/gpu"
    files: str = "bucket"
    endpoint: str = ""
    """Of the bucket, as the broker sees it."""
    pod_endpoint: str = ""
    """Of the bucket, as pods see it; empty: the same."""
    region: str = "us-east-1"
    identity: str = ""
    """The place's mark, as `prepare` answered it."""


def options_of(config: SiteConfig) -> KubernetesOptions:
    """Raises RequestRefused, naming the option and what it may be."""
    known = {item.name for item in fields(KubernetesOptions)}
    for name, value in config.options.items():
        if name not in known:
            raise _wrong(config, name, value, f"one of {', '.join(sorted(known))}")
        if name in _TEXT:
            if not isinstance(value, str) or not (value == "" or _TEXT[name].fullmatch(value)):
                raise _wrong(config, name, value, "a name or address of the usual form")
        elif name in _LEAST:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not _LEAST[name] <= value < 1e9:
                raise _wrong(config, name, value, f"a number of seconds, at least {_LEAST[name]:g}")
        elif name in {"in_cluster", "suspend"}:
            if not isinstance(value, bool):
                raise _wrong(config, name, value, "true or false")
        elif name == "node_selector":
            if not isinstance(value, Mapping) or not all(
                isinstance(word, str) for pair in value.items() for word in pair
            ):
                raise _wrong(config, name, value, "labels of nodes and their values, as text")
        elif name == "tolerations":
            if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
                raise _wrong(config, name, value, "a list of tolerations as in a pod")
        elif not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(it, str) for it in value):
            raise _wrong(config, name, value, "a list of names")
    return KubernetesOptions(**dict(config.options))  # type: ignore[arg-type]  # checked above


def _wrong(config: SiteConfig, name: str, value: object, wanted: str) -> RequestRefused:
    what = f"site {config.name}: option {name} is {str(value)[:80]!r}; give {wanted}"
    return RequestRefused(what, site=config.name)
