"""The credentials that sites refer to: there or not, readable by whom, and until when. Asks no site."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from connectors.errors import CredentialError
from connectors.registry import SiteConfig
from connectors.secrets import secret_from

_LARGEST_CLAIMS = 1 << 14
_LATEST = 1 << 34
"""Seconds since 1970; a later end of a token is no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One entry of a site's `credentials`."""

    site: str
    name: str
    reference: str
    """`env:NAME` or `file:PATH`; what is neither is not shown."""
    ok: bool
    mode: str = ""
    """Of a file that is there: octal digits."""
    expires_at: int | None = None
    """Microseconds, where the secret itself says so (a JSON web token does)."""
    detail: str = ""
    help: str = ""


def references(config: SiteConfig, *, env: Mapping[str, str] = os.environ) -> Sequence[Reference]:
    """Every reference of a site, looked up: what we are known by there, and the secrets that its jobs are told."""
    found = [looked_up(config.name, name, reference, env=env) for name, reference in config.credentials.items()]
    return found + [_secret(config.name, name, reference, env) for name, reference in config.secrets.items()]


def file_of(reference: str) -> Path | None:
    """The file that a reference names; None: it names none."""
    kind, _, rest = reference.partition(":")
    return Path(os.path.expanduser(rest)) if kind == "file" and rest else None


def looked_up(site: str, name: str, reference: str, *, env: Mapping[str, str] = os.environ) -> Reference:
    """One of them."""
    mode = _mode(reference)
    shown = reference if reference.partition(":")[0] in ("env", "file") else "(neither env:NAME nor file:PATH)"
    try:
        secret = secret_from(reference, site=site, env=env)
    except CredentialError as error:
        kind = reference.partition(":")[0]
        help = f"crossfade login {site}" if kind == "file" else "export it before `crossfade serve`"  # noqa: A001
        return Reference(site=site, name=name, reference=shown, ok=False, mode=mode, detail=str(error), help=help)
    if not secret:
        help = f"crossfade login {site}"  # noqa: A001 - the word of our errors
        return Reference(site=site, name=name, reference=shown, ok=False, mode=mode, detail="it is empty", help=help)
    ends = expiry_of(secret.reveal())
    return Reference(site=site, name=name, reference=shown, ok=True, mode=mode, expires_at=ends)


def _secret(site: str, name: str, reference: str, env: Mapping[str, str]) -> Reference:
    """No login brings it: whoever owns the site puts it there."""
    found = looked_up(site, f"secrets.{name}", reference, env=env)
    helps = "write it into that file, mode 600" if reference.startswith("file:") else found.help
    return found if found.ok else replace(found, help=helps)


def _mode(reference: str) -> str:
    path = file_of(reference)
    try:
        return f"{stat.S_IMODE(path.stat().st_mode):04o}" if path else ""
    except OSError:
        return ""


def expiry_of(secret: str) -> int | None:
    """When a JSON web token ends by its own words (µs), unverified; None: it is none, or does not say."""
    parts = secret.split(".")
    if len(parts) != 3 or len(parts[1]) > _LARGEST_CLAIMS:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        ends = claims["exp"]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        return None
    if isinstance(ends, bool) or not isinstance(ends, int | float) or not 0 < ends < _LATEST:
        return None
    return round(ends * 1e6)
