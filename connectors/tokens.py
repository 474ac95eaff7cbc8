"""Tokens that end: fetched when they are wanted, renewed before they end, thrown away when a site refuses them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from connectors.errors import BadReply, CredentialError, RequestRefused, SiteUnreachable
from connectors.http import Auth, Fixed, Http, Reply
from connectors.registry import Clock
from connectors.secrets import Secret, secret_from

RENEW_AT = 0.8
"""Part of a token's life after which the next one is fetched."""
SHORTEST, LONGEST, USUAL = 5.0, 86_400.0, 600.0
"""Seconds that a token is taken to live: bounds of what is told, and what counts when nothing is."""
TRIES = 2

GLOBUS_TOKENS = "https://auth.globus.org/v2/oauth2/token"

Fetched = tuple[Secret, float]
"""A token, and for how many seconds it is good."""


class RenewedTokens:
    """`connectors.http.Auth` by bearer tokens that `fetch` gets. Thread-safe."""

    def __init__(self, fetch: Callable[[], Fetched], clock: Clock) -> None:
        self._fetch, self._clock = fetch, clock
        self._lock = threading.Lock()
        self._token: Secret | None = None
        self._renew_at = 0
        self._mine = threading.local()

    def headers(self) -> Mapping[str, str]:
        """Raises CredentialError; SiteUnreachable when no token is to be had: then nothing was asked of the site."""
        with self._lock:
            now = self._clock()
            if self._token is None or now >= self._renew_at:
                self._token = None
                token, seconds = self._fetched()
                self._token, self._renew_at = token, now + round(seconds * RENEW_AT * 1e6)
            token = self._mine.used = self._token
        return {"Authorization": f"Bearer {token.reveal()}"}

    def refused(self) -> bool:
        """Throw the token of this thread's last call away, unless another thread did so already."""
        used, self._mine.used = getattr(self._mine, "used", None), None
        with self._lock:
            if used is not None and self._token is used:
                self._token = None
        return used is not None

    def _fetched(self) -> Fetched:
        for left in reversed(range(TRIES)):
            try:
                return self._fetch()
            except (SiteUnreachable, BadReply) as error:
                error.effect_possible = False  # of what the token was wanted for
                if not left:
                    raise
        raise AssertionError("unreachable")


def granted(reply: Reply) -> Fetched:
    """The token in an OAuth 2 endpoint's answer. Raises BadReply."""
    told = reply.mapping()
    token, kind, life = told.get("access_token"), told.get("token_type", "Bearer"), told.get("expires_in")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise BadReply(f"{reply.site}: the token endpoint's reply holds no token", site=reply.site)
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise BadReply(f"{reply.site}: the token endpoint's token is no bearer token", site=reply.site)
    seconds = USUAL
    if isinstance(life, (int, float)) and not isinstance(life, bool):
        seconds = min(LONGEST, max(SHORTEST, float(life)))
    return Secret(token), seconds


def globus_auth(
    credentials: Mapping[str, str], *, scope: str, clock: Clock, http: Callable[[str], Http], site: str
) -> Auth:
    """Whom Globus takes us for: `token` (as it is, until it ends), `client_id` with `client_secret` (a confidential
    client: nobody need log in), or `client_id` with `refresh_token` (a person's).

    `http` makes the way to the token endpoint. Raises CredentialError when none of these is given.
    """

    def secret(name: str) -> Secret:
        return secret_from(credentials[name], site=site)

    if "token" in credentials:
        return Fixed(lambda: {"Authorization": f"Bearer {secret('token').reveal()}"})
    if "client_id" not in credentials or not credentials.keys() & {"client_secret", "refresh_token"}:
        what = "give credentials token, or client_id with client_secret or refresh_token"
        raise CredentialError(f"{site}: {what}", site=site)
    door = http(GLOBUS_TOKENS)

    def fetch() -> Fetched:
        form = {"client_id": secret("client_id").reveal()}
        if "client_secret" in credentials:
            form |= {"grant_type": "client_credentials", "scope": scope}
            form["client_secret"] = secret("client_secret").reveal()
        else:
            form |= {"grant_type": "refresh_token", "refresh_token": secret("refresh_token").reveal()}
        try:
            return granted(door.ask("POST", "", form=form))
        except RequestRefused as error:
            raise CredentialError(f"{site}: no token is given: {error}", site=site) from error

    return RenewedTokens(fetch, clock)
