"""Who we are to an IRI site, and when that ends."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping

from connectors.errors import CredentialError
from connectors.http import Auth, Http
from connectors.registry import Clock
from connectors.secrets import secret_from
from connectors.tokens import globus_auth

_TOKEN = re.compile(r"[!-~]{1,16384}")


class Credential:
    """`connectors.http.Auth`, with the time at which it ends."""

    def __init__(self, auth: Auth, *, token: Callable[[], str], expires: int | None = None) -> None:
        """`token`: the one that a person gave us, empty where we fetch them ourselves. `expires`: when it ends, µs,
        where the token itself does not say."""
        self._auth, self._token, self._expires = auth, token, expires

    def headers(self) -> Mapping[str, str]:
        headers = self._auth.headers()
        if not all(_TOKEN.fullmatch(word) for word in headers.get("Authorization", "").split(" ")):
            raise CredentialError("the token holds characters that no token has")
        return headers

    def refused(self) -> bool:
        return self._auth.refused()

    def expires_at(self) -> int | None:
        """µs; None: not known. Raises CredentialError where there is no usable credential, SiteUnreachable."""
        self.headers()
        return expiry_of(self._token()) or self._expires


def credential(
    credentials: Mapping[str, str],
    *,
    site: str,
    clock: Clock,
    http: Callable[[str], Http],
    scope: str = "",
    expires: int | None = None,
) -> Credential:
    """From references to a `token`, or to a `client_id` with `client_secret` or `refresh_token` (Globus Auth).
    `http` makes the way to the token endpoint. Raises CredentialError when neither is given."""
    auth = globus_auth(credentials, scope=scope, clock=clock, http=http, site=site)

    def token() -> str:
        return secret_from(credentials["token"], site=site).reveal() if "token" in credentials else ""

    return Credential(auth, token=token, expires=expires)


def expiry_of(token: str) -> int | None:
    """When a JWT says that it ends, µs; None: it is no JWT, or does not say. Its signature is the site's business."""
    parts = token.split(".")
    if len(parts) != 3 or len(parts[1]) > 1 << 14:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(end, bool) or not isinstance(end, int | float) or not 0 < end < 1e11:
        return None
    return round(end * 1e6)
