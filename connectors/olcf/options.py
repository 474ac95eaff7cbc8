"""What only this connector knows: the `options` of a site's entry, and what they are where a profile says nothing.

Two kinds of service speak Slurm's REST API: OLCF's S3M (`api: s3m`, the default under the name `olcf`) and any
slurmrestd (`api: slurmrestd`, the default under `slurmrest`). What differs between them is data, here and in profiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

S3M = "https://s3m.olcf.ornl.gov"
PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestOptions:
    """Each option by its name in the document; where a default depends on the `api`, it is told for both."""

    api: str = "s3m"
    """`s3m` or `slurmrestd`."""
    url: str = S3M
    """Address of the service; for a slurmrestd on this machine also `unix:/absolute/path` of its socket."""
    version: str = "v0.0.43"
    """Of the API, as the service offers it (a slurmrestd: v0.0.38 by default)."""
    resource: str = ""
    """The machine, as S3M calls it: defiant, odo, wombat, quokka."""
    prefix: str = ""
    """Path before `/jobs`; `{version}` and `{resource}` stand for those. S3M: `/slurm/open/{version}/{resource}`,
    slurmrestd: `/slurm/{version}`."""
    accounting: str = ""
    """Path before the accounting's `/jobs`; `none`: there is none. slurmrestd: `/slurmdb/{version}`, S3M: none."""
    auth: str = ""
    """How the token is sent: `raw` (S3M: as it is, in `Authorization`), `slurm` (slurmrestd: X-SLURM-USER-TOKEN),
    `bearer`, or `none` (a socket of this machine)."""
    user: str = ""
    """Whose jobs ours are; sent as X-SLURM-USER-NAME with `auth: slurm`. Empty: not looked at, not sent."""
    body: str = "auto"
    """Shape of a submission: `job`, `jobs`, or `auto` (from v0.0.44 on `jobs`)."""
    status: str = ""
    """Path of the published status; `none`: there is none. S3M: `/olcf/v1alpha/status`, slurmrestd: none."""
    introspect: str = ""
    """Path that tells about the token; `none`: there is none. S3M: `/olcf/v1/token/ctls/introspect`."""
    stale: float = 1_800.0
    """Seconds after which a published status counts for nothing (S3M renews its own every 15 minutes)."""
    min_job_age: float = 300.0
    """Seconds for which the machine's Slurm tells of a job that has ended; the site's `poll` must be shorter."""
    environment: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    """What jobs find in their environment beside Slurm's own; never empty, Slurm refuses that."""
    claim: str = "atomic_fs"
    """How the start gate claims in the root's file system."""
    files: str = "mounted"
    """How the site's small files are reached: `mounted` (with `mount`), `command` (with `shell`), or `collection` (the
    site's Globus collection)."""
    deadline: float = 30.0
    """Seconds for one call."""
    more: Mapping[str, object] = field(default_factory=dict)
    """What is said to the way that `files` names: `mount` and `identity`, or `shell`."""

    @property
    def number(self) -> int:
        """The version's last part: 43."""
        return int(self.version.rpartition(".")[2])

    @property
    def plain(self) -> bool:
        """Are numbers plain, and is the environment a mapping? So it was up to Slurm 22.05."""
        return self.number < 39

    @property
    def many(self) -> bool:
        """Does a submission hold a list of jobs?"""
        return self.body == "jobs" or (self.body == "auto" and self.number >= 44)

    def path(self, tail: str) -> str:
        """Address of something of the machine's Slurm, below the service's."""
        return self._filled(self.prefix).rstrip("/") + "/" + tail

    @property
    def accounting_path(self) -> str:
        """Empty: there is no accounting to be asked."""
        return "" if self.accounting == "none" else self._filled(self.accounting).rstrip("/") + "/jobs"

    @property
    def status_path(self) -> str:
        return "" if self.status == "none" else self.status

    @property
    def introspect_path(self) -> str:
        return "" if self.introspect == "none" else self.introspect

    def _filled(self, template: str) -> str:
        return template.replace("{version}", self.version).replace("{resource}", self.resource)

    @classmethod
    def read(cls, site: str, options: Mapping[str, object], *, api: str = "s3m") -> RestOptions:
        """`api`: what holds where the options do not say. Raises ValueError, naming the option."""
        api = _one_of("s3m", "slurmrestd")(f"site {site}: option api", options.get("api", api))
        values: dict[str, Any] = {"api": api, **_DEFAULTS[api]}
        files = str(options.get("files", "mounted"))
        more: dict[str, object] = {}
        for name, value in options.items():
            if name in _KINDS:
                values[name] = _KINDS[name](f"site {site}: option {name}", value)
            elif name in _MORE.get(files, ()):
                more[name] = value
            else:
                known = ", ".join(sorted({*_KINDS, *_MORE.get(files, ())}))
                raise ValueError(f"site {site}: this connector has no option {name!r} (it has {known})")
        made = cls(**values, more=more)
        if "{resource}" in made.prefix and not made.resource:
            raise ValueError(f"site {site}: option resource is missing; give the machine's name, such as defiant")
        if made.auth == "slurm" and not made.user:
            raise ValueError(f"site {site}: option user is missing; `auth: slurm` sends it beside the token")
        return made


_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "s3m": {
        "url": S3M,
        "version": "v0.0.43",
        "prefix": "/slurm/open/{version}/{resource}",
        "accounting": "none",
        "auth": "raw",
        "status": "/olcf/v1alpha/status",
        "introspect": "/olcf/v1/token/ctls/introspect",
    },
    "slurmrestd": {
        "url": "http://127.0.0.1:6820",
        "version": "v0.0.38",
        "prefix": "/slurm/{version}",
        "accounting": "/slurmdb/{version}",
        "auth": "slurm",
        "status": "none",
        "introspect": "none",
    },
}

_MORE: Mapping[str, tuple[str, ...]] = {
    "mounted": ("mount", "identity"),
    "command": ("shell",),
    "collection": ("identity",),
}
"""Options of the ways to reach files."""


def _text(pattern: str, wanted: str) -> Callable[[str, object], str]:
    def read(what: str, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise ValueError(f"{what} is {value!r}; give {wanted}")
        return value

    return read


def _one_of(*words: str) -> Callable[[str, object], str]:
    return _text("|".join(words), " or ".join(words))


def _address(what: str, value: object) -> str:
    read = _text(
        r"https?://[^\s/@?#]+(/[^\s?#]*)?|unix:/[^\s?#]+",
        "an http or https address without user, query or fragment, or unix:/path",
    )
    return read(what, value).rstrip("/")


def _seconds(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 31 * 86_400:
        raise ValueError(f"{what} is {value!r}; give seconds, more than 0 and at most a month")
    return float(value)


def _environment(what: str, value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"{what} is {value!r}; give names and values, at least PATH")
    found = {}
    for name, text in value.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError(f"{what}: {name!r} is no name of a variable")
        if not isinstance(text, str) or not text.isprintable():
            raise ValueError(
                f"{what}: {name} is {text!r}; give one line of text, in quotes where it looks like a number"
            )
        found[name] = text
    return found


_PATH = _text(r"none|(/[A-Za-z0-9._{}-]+)+", "a path such as /slurm/{version}, or none")
_KINDS: Mapping[str, Callable[[str, object], Any]] = {
    "api": _one_of("s3m", "slurmrestd"),
    "url": _address,
    "version": _text(r"v0\.0\.(3[6-9]|[4-9]\d)", "a version of the API such as v0.0.43"),
    "resource": _text(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", "a plain name"),
    "prefix": _text(r"(/[A-Za-z0-9._{}-]+)+", "a path such as /slurm/{version}"),
    "accounting": _PATH,
    "auth": _one_of("raw", "slurm", "bearer", "none"),
    "user": _text(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", "a user's name"),
    "body": _one_of("auto", "job", "jobs"),
    "status": _PATH,
    "introspect": _PATH,
    "stale": _seconds,
    "min_job_age": _seconds,
    "environment": _environment,
    "claim": _one_of("atomic_fs", "none"),
    "files": _one_of("mounted", "command", "collection"),
    "deadline": _seconds,
}
