"""What only the NERSC connector knows: the `options` of its entry in the site document.

Credentials of the entry: `key`, the private key file as Iris gives it, and `client_id` where the key file does not hold
it; or `token`, an access token that somebody else renews.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

BASE = "https://api.nersc.gov/api/v1.2"
TOKEN_URL = "https://oidc.nersc.gov/c2id/token"  # noqa: S105 - an address
WATCH = ("global_homes", "global_common", "community_filesystem")


@dataclass(frozen=True, slots=True, kw_only=True)
class NerscOptions:
    """Each option by its name in the document."""

    base: str = BASE
    """Address of the Superfacility API."""
    token_url: str = TOKEN_URL
    """Where tokens are given out; also the audience of our assertions."""
    machine: str = "perlmutter"
    user: str = ""
    """Whose jobs ours are; empty: whoever the credential belongs to, asked once."""
    files: str = "command"
    """How the site's small files are reached: `command` (the API runs a script on a login node), `mounted`."""
    mount: str = ""
    """With `files: mounted`: the root as this machine sees it."""
    identity: str = ""
    """The root's id, as `prepare` answered it; empty: whatever is found first."""
    watch: tuple[str, ...] = WATCH
    """Resources whose status counts beside the machine's: file systems, `globus`."""
    lookup: str = "user"
    """How the accounting is asked: by `user`, or by `name` (less to read, where the API passes that option on)."""
    history: float = 14.0
    """Days that the accounting is asked to look back."""
    deadline: float = 30.0
    """Seconds for one call."""
    task_seconds: float = 120.0
    """Seconds that a submission or a command may take to be carried out."""
    timezone: str = "America/Los_Angeles"
    """In which the machine's Slurm tells times."""

    @classmethod
    def read(cls, site: str, options: Mapping[str, object]) -> NerscOptions:
        """Raises ValueError, naming the option."""
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name not in _KINDS:
                known = ", ".join(sorted(_KINDS))
                raise ValueError(f"site {site}: the nersc connector has no option {name!r} (it has {known})")
            values[name] = _KINDS[name](f"site {site}: option {name}", value)
        made = cls(**values)
        _zone(f"site {site}: option timezone", made.timezone)  # this machine may have no zones at all
        return made


def _address(what: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", value):
        raise ValueError(f"{what} is {value!r}; give an http or https address without user, query or fragment")
    return value.rstrip("/")


def _name(what: str, value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", value):
        raise ValueError(f"{what} is {value!r}; give a plain name")
    return value


def _user(what: str, value: object) -> str:
    return _name(what, value) if value else ""


def _names(what: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{what} is {value!r}; give a list of names")
    return tuple(_name(what, name) for name in value)


def _seconds(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3600:
        raise ValueError(f"{what} is {value!r}; give seconds, more than 0 and at most 3600")
    return float(value)


def _days(what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3650:
        raise ValueError(f"{what} is {value!r}; give days, more than 0 and at most 3650")
    return float(value)


def _zone(what: str, value: object) -> str:
    try:
        return ZoneInfo(str(value)).key
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(
            f"{what} is {value!r}; give a time zone that this machine knows (its package: tzdata)"
        ) from error


def _text(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is {value!r}; give text")
    return value


def _mount(what: str, value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueError(f"{what} is {value!r}; give the folder where the root is seen here, absolute")
    return value


def _one_of(*words: str) -> Any:
    def read(what: str, value: object) -> str:
        if value not in words:
            raise ValueError(f"{what} is {value!r}; give {' or '.join(words)}")
        return str(value)

    return read


_KINDS: Mapping[str, Any] = {
    "base": _address,
    "token_url": _address,
    "machine": _name,
    "user": _user,
    "files": _one_of("command", "mounted"),
    "mount": _mount,
    "identity": _text,
    "watch": _names,
    "lookup": _one_of("user", "name"),
    "history": _days,
    "deadline": _seconds,
    "task_seconds": _seconds,
    "timezone": _zone,
}
