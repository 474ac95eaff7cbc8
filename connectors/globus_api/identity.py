"""Who we are to Globus: a service client by its secret, or a person by the tokens of a login.

Authorizers of the SDK are used as they are, without its GlobusApp: an app builds its own Auth clients, which take
another address from environment variables alone, must not be shared by threads, and by default logs in at a terminal
in the middle of a call. Here the addresses are given to the clients, and nothing ever prompts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from globus_sdk import (
    ClientCredentialsAuthorizer,
    ConfidentialAppAuthClient,
    NativeAppAuthClient,
    RefreshTokenAuthorizer,
)
from globus_sdk.authorizers import AccessTokenAuthorizer, GlobusAuthorizer
from globus_sdk.scopes import GCSCollectionScopes, Scope, TransferScopes
from globus_sdk.transport import RequestsTransport, RetryConfig

from connectors.errors import CredentialError
from connectors.globus_api.bounded import BoundedAdapter
from connectors.globus_api.faults import GLOBUS, NeedsLogin, consent_command
from connectors.globus_api.tokens import Login, Token, TokenFile, refreshed
from connectors.registry import GlobusConfig
from connectors.secrets import remember, secret_from

TRANSFER = TransferScopes.resource_server
TIMEOUT = 30.0
"""Seconds that a call may be silent."""
RETRIES = 2
"""Short ones, within the SDK; the long ones are whoever's that calls us."""
NO_CLIENT = (
    "the site document names no globus.client_id; none is shipped, so register one of your own at "
    "https://app.globus.org/settings/developers"
)
LONGEST_POST = (RETRIES + 1) * TIMEOUT + 30.0
"""Seconds after which no call that was begun can still be under way."""


def transport() -> RequestsTransport:
    """One connection pool, for one thread. Replies are read up to a limit, and redirects are not followed."""
    made = RequestsTransport(http_timeout=TIMEOUT)
    made.session.max_redirects = 0
    for scheme in ("https://", "http://"):
        made.session.mount(scheme, BoundedAdapter())
    return made


def retries() -> RetryConfig:
    """How often the SDK asks again by itself."""
    return RetryConfig(max_retries=RETRIES, max_sleep=3)


def transfer_scope(consents: Sequence[str] = ()) -> Scope:
    """What the Transfer service is asked for with, reaching into these mapped collections."""
    below = [GCSCollectionScopes(one).data_access.with_optional(True) for one in sorted(consents)]
    return TransferScopes.all.with_dependencies(below) if below else TransferScopes.all


class ServiceIdentity:
    """A confidential client. Tokens are kept in memory, by what they are for; all threads go by the same."""

    person = False

    def __init__(self, config: GlobusConfig) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[str, int]] = {}

    def stamp(self) -> object:
        """Authorizers made under another stamp are out of date."""
        return None

    def transfer(self, consents: Sequence[str]) -> GlobusAuthorizer:
        """For the Transfer service, of the calling thread. Asks for a token unless there is one."""
        return self._for(str(transfer_scope(consents)))

    def https(self, collection: str) -> GlobusAuthorizer:
        """For a collection's files over HTTPS."""
        return self._for(str(GCSCollectionScopes(collection).https))

    def forget(self, consents: Sequence[str]) -> None:
        """The next authorizer gets a new token: one without a consent that was given since is of no use."""
        with self._lock:
            self._tokens.pop(str(transfer_scope(consents)), None)

    def describe(self) -> str:
        """In words, for a person."""
        return "a service client"

    def check(self) -> None:
        """Raises unless there is all that a token takes."""
        self._client()

    def _for(self, scope: str) -> GlobusAuthorizer:
        with self._lock:
            access, ends = self._tokens.get(scope, (None, None))

        def keep(answer: Any) -> None:
            found = next(iter(answer.by_resource_server.values()))
            remember(found["access_token"])
            with self._lock:
                self._tokens[scope] = (found["access_token"], found["expires_at_seconds"])

        return ClientCredentialsAuthorizer(self._client(), scope, access_token=access, expires_at=ends, on_refresh=keep)

    def _client(self) -> ConfidentialAppAuthClient:
        return ConfidentialAppAuthClient(
            client_id_of(self._config),
            secret_from(self._config.client_secret, site=GLOBUS).reveal(),
            base_url=self._config.auth_url or None,
            app_name="crossfade",
            transport=transport(),
            retry_config=retries(),
        )


class PersonIdentity:
    """Somebody who has logged in. Refreshed tokens are written back, so that all processes go by the same."""

    person = True

    def __init__(self, config: GlobusConfig) -> None:
        self._config = config

    def stamp(self) -> object:
        """Changes with a login, in whatever process."""
        return self.file().stamp()

    def transfer(self, consents: Sequence[str]) -> GlobusAuthorizer:  # noqa: ARG002 - a person consents at the login
        return self._for(TRANSFER, command="crossfade login globus")

    def https(self, collection: str) -> GlobusAuthorizer:
        scope = f"scopes/{collection}/https"
        return self._for(collection, command=consent_command([scope]))

    def forget(self, consents: Sequence[str]) -> None:
        """Only a login gives more."""

    def describe(self) -> str:
        return self.login().name or "a person"

    def check(self) -> None:
        self.login()

    def login(self) -> Login:
        """Raises NeedsLogin."""
        return self.file().read()

    def file(self) -> TokenFile:
        """Where the tokens are."""
        if self._config.tokens is None:
            raise NeedsLogin("globus: there is no folder for tokens")
        return TokenFile(self._config.tokens, client_id_of(self._config))

    def _for(self, server: str, *, command: str) -> GlobusAuthorizer:
        file = self.file()
        token = file.read().tokens.get(server)
        if token is None:
            raise NeedsLogin(f"globus: the login gave no token for {server}", command=command)
        if not token.refresh:
            return AccessTokenAuthorizer(token.access)

        def keep(answer: Any) -> None:
            for name, values in answer.by_resource_server.items():
                fresh = token_of(values)
                file.change(lambda login, name=name, fresh=fresh: refreshed(login, name, fresh))  # type: ignore[misc]

        return RefreshTokenAuthorizer(
            token.refresh,
            native_client(self._config),
            access_token=token.access,
            expires_at=token.expires_at,
            on_refresh=keep,
        )


Identity = ServiceIdentity | PersonIdentity


def identity_of(config: GlobusConfig) -> Identity:
    """A service client where the site document names its secret, else a person."""
    return ServiceIdentity(config) if config.client_secret else PersonIdentity(config)


def client_id_of(config: GlobusConfig) -> str:
    """Raises CredentialError, which says that none is shipped."""
    if not config.client_id:
        error = CredentialError(f"globus: {NO_CLIENT}", site=GLOBUS)
        error.help = "write `globus: {client_id: file:PATH}` into the site document"
        raise error
    return secret_from(config.client_id, site=GLOBUS).reveal()


def native_client(config: GlobusConfig) -> NativeAppAuthClient:
    """The client that a person logs in with."""
    return NativeAppAuthClient(
        client_id_of(config),
        base_url=config.auth_url or None,
        app_name="crossfade",
        transport=transport(),
        retry_config=retries(),
    )


def token_of(values: Mapping[str, Any]) -> Token:
    """One entry of a token answer's `by_resource_server`."""
    access, refresh = str(values["access_token"]), str(values.get("refresh_token") or "")
    remember(access)
    remember(refresh)
    return Token(
        access=access, refresh=refresh, expires_at=int(values["expires_at_seconds"]), scope=str(values["scope"])
    )


Headers = Callable[[], Mapping[str, str]]


class CollectionAuth:
    """`connectors.http.Auth` for a collection's HTTPS server. Thread-safe: each thread has an authorizer of its own."""

    def __init__(self, identity: Identity, collection: str) -> None:
        self._identity, self._collection = identity, collection
        self._mine = threading.local()

    def headers(self) -> Mapping[str, str]:
        stamp = self._identity.stamp()
        if getattr(self._mine, "stamp", self) != stamp:
            self._mine.authorizer = self._identity.https(self._collection)
            self._mine.stamp = stamp
        return {"Authorization": self._mine.authorizer.get_authorization_header() or ""}

    def refused(self) -> bool:
        authorizer: GlobusAuthorizer | None = getattr(self._mine, "authorizer", None)
        return authorizer is not None and authorizer.handle_missing_authorization()
