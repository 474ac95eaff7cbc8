"""What an AWS Batch site's entry may say beyond what all sites have, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from connectors.errors import RequestRefused
from connectors.registry import SiteConfig

_NAME = re.compile(r"[A-Za-z0-9][\w:/.-]{0,250}")
_TEXT = {
    "queue": _NAME,
    "definition": _NAME,
    "region": re.compile(r"[a-z0-9-]{1,40}"),
    "endpoint": re.compile(r"https?://[\w.:\[\]-]+/?"),
    "pod_endpoint": re.compile(r"https?://[\w.:\[\]-]+/?"),
    "batch_endpoint": re.compile(r"https?://[\w.:\[\]-]+/?"),
    "files": re.compile(r"bucket"),
}
_LEAST = {"stuck_after": 1.0, "margin": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """Durations are seconds."""

    queue: str = ""
    """The job queue, where a stage names none."""
    queues: Sequence[str] = ()
    """Others that stages may name; those of the site's lanes are known by themselves. Jobs are looked for in all."""
    definition: str = ""
    """The job definition of stages without an image. It gives its container the bucket's key pair as the secrets
    CROSSFADE_ACCESS_KEY and CROSSFADE_SECRET_KEY, and has an image with what our scripts need."""
    definitions: Mapping[str, str] = field(default_factory=dict)
    """Image to job definition: AWS Batch takes images from definitions alone."""
    stuck_after: float = 3_600.0
    """How long a job may be RUNNABLE before that counts as for ever."""
    margin: float = 600.0
    """On top of a walltime: to fetch the files and to bring the results."""
    files: str = "bucket"
    endpoint: str = ""
    pod_endpoint: str = ""
    batch_endpoint: str = ""
    """Of AWS Batch itself; empty: AWS's."""
    region: str = "us-east-1"


def options_of(config: SiteConfig) -> BatchOptions:
    """Raises RequestRefused, naming the option and what it may be."""
    known = {item.name for item in fields(BatchOptions)}
    for name, value in config.options.items():
        if name not in known:
            raise _wrong(config, name, value, f"one of {', '.join(sorted(known))}")
        if name in _TEXT:
            if not isinstance(value, str) or not (value == "" or _TEXT[name].fullmatch(value)):
                raise _wrong(config, name, value, "a name or address of the usual form")
        elif name in _LEAST:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not _LEAST[name] <= value < 1e9:
                raise _wrong(config, name, value, f"a number of seconds, at least {_LEAST[name]:g}")
        elif not isinstance(value, Mapping) or not all(
            isinstance(word, str) for pair in value.items() for word in pair
        ):
            raise _wrong(config, name, value, "images and the job definitions for them")
    if not config.options.get("queue"):
        raise _wrong(config, "queue", "", "the name of a job queue")
    options = BatchOptions(**dict(config.options))  # type: ignore[arg-type]  # checked above
    named = [words["queue"] for words in (*config.lanes.values(), config.submit) if "queue" in words]
    return replace(options, queues=tuple(dict.fromkeys([options.queue, *options.queues, *named])))


def _wrong(config: SiteConfig, name: str, value: object, wanted: str) -> RequestRefused:
    what = f"site {config.name}: option {name} is {str(value)[:80]!r}; give {wanted}"
    return RequestRefused(what, site=config.name)
