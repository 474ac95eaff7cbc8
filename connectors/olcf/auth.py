"""The token, in the headers that the service wants; and when it ends, where the token itself says so."""

from __future__ import annotations

from collections.abc import Mapping

import jwt

from connectors.errors import CredentialError
from connectors.http import Auth, Fixed, NoAuth
from connectors.olcf.options import RestOptions
from connectors.registry import SiteConfig
from connectors.secrets import Secret, secret_from


def auth_of(config: SiteConfig, options: RestOptions) -> Auth:
    """Reads the token anew for each call: a person may have put a newer one there."""
    if options.auth == "none":
        return NoAuth()
    return Fixed(lambda: _headers(token_of(config), options))


def token_of(config: SiteConfig) -> Secret:
    """Raises CredentialError."""
    reference = config.credentials.get("token", "")
    if not reference:
        raise CredentialError(f"site {config.name} has no credentials: give token: env:NAME or file:PATH")
    token = secret_from(reference, site=config.name)
    # `scontrol token` prints it as an assignment
    value = token.reveal().removeprefix("SLURM_JWT=")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise CredentialError(f"site {config.name}: the token holds characters that no token has", site=config.name)
    return Secret(value)


def _headers(token: Secret, options: RestOptions) -> Mapping[str, str]:
    value = token.reveal()
    match options.auth:
        case "raw":
            return {"Authorization": value}
        case "bearer":
            return {"Authorization": f"Bearer {value}"}
        case _:
            return {"X-SLURM-USER-NAME": options.user, "X-SLURM-USER-TOKEN": value}


def end_of(token: Secret) -> int | None:
    """µs; None: the token does not say. What it says is read, not believed: the service decides."""
    try:
        claims = jwt.decode(token.reveal(), options={"verify_signature": False})
        found = claims.get("exp")
    except jwt.PyJWTError:
        return None
    return round(found * 1_000_000) if isinstance(found, (int, float)) and 0 < found < 10**11 else None
