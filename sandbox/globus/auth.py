"""Globus Auth as a model: clients, tokens, consents and sessions. No HTTP in here."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import secrets
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from connectors.registry import Clock
from sandbox.globus.scopes import AUTH, OPENID, BadScope, Scope, collection_of, read

_CODE_LIFE = 600_000_000
"""µs that a code lives."""


class AuthRefused(Exception):
    """As OAuth has it: an error's name, and words."""

    def __init__(self, error: str, text: str, *, status: int = 400) -> None:
        super().__init__(text)
        self.error, self.status = error, status


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A person, or a client that acts for itself."""

    id: str
    username: str
    name: str
    email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """An application. Without a secret it is a native one, through which a person logs in."""

    id: str
    secret: str = field(default="", repr=False)
    name: str = "rehearsal"

    @property
    def identity(self) -> Identity:
        """As which it acts by itself."""
        return Identity(id=self.id, username=f"{self.id}@clients.auth.globus.org", name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An access token for one resource server, or a refresh token for it."""

    value: str = field(repr=False)
    client: str
    identity: Identity
    server: str
    scopes: Mapping[str, Scope]
    """With all that depends on them, which no answer tells."""
    expires_at: int
    session: Mapping[str, object] = field(default_factory=dict)
    """What the login has met."""
    refresh: bool = False

    @property
    def scope(self) -> str:
        """As it is told: the roots alone."""
        return " ".join(self.scopes)

    def allows(self, *names: str) -> bool:
        """Does it have this scope, with this chain of dependents?"""
        return bool(names) and names[0] in self.scopes and self.scopes[names[0]].has(*names[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a client gets: one access token for each resource server, and a refresh token for each, if it may."""

    tokens: Sequence[Token]
    refresh: Mapping[str, str]
    """By resource server."""

    @property
    def openid(self) -> Token | None:
        """For whom there is an id_token, if the client has asked for one."""
        return next((one for one in self.tokens if one.server == AUTH and "openid" in one.scopes), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """What an identity has allowed a client."""

    id: int
    identity: str
    client: str
    path: Sequence[str]
    """Names of scopes, from the root down."""
    ids: Sequence[int]
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    client: str
    scopes: Mapping[str, Scope]
    challenge: str
    redirect: str
    offline: bool
    session: Mapping[str, object]
    expires_at: int


class GlobusAuth:
    """Gives tokens and knows them again. Thread-safe."""

    def __init__(
        self,
        clients: Iterable[Client],
        *,
        clock: Clock,
        knows: Callable[[str, str], bool] = lambda _collection, _name: True,
        user: Identity | None = None,
        life: float = 172_800.0,
    ) -> None:
        """`knows(collection, name)`: has this collection such a scope? `user`: the one who logs in through native
        clients. `life`: seconds of an access token."""
        self.clients = {client.id: client for client in clients}
        self.user = user or Identity(
            id=str(uuid.uuid5(uuid.NAMESPACE_DNS, "user.example.org")),
            username="user@example.org",
            name="Rehearsal User",
            email="user@example.org",
        )
        self.life = life
        self.given = 0
        """How many grants there were."""
        self._clock, self._knows = clock, knows
        self._lock = threading.Lock()
        self._tokens: dict[str, Token] = {}
        self._codes: dict[str, _Code] = {}
        self._numbers = itertools.count(1)
        self._consents: dict[tuple[str, str, tuple[str, ...]], Consent] = {}

    # -- grants ----------------------------------------------------------------------------------------------

    def client(self, client_id: str, secret: str | None) -> Client:
        """Who says so. Raises AuthRefused."""
        found = self.clients.get(client_id)
        if found is None or (found.secret and not hmac.compare_digest(found.secret.encode(), (secret or "").encode())):
            raise AuthRefused("invalid_client", "Invalid client authentication", status=401)
        return found

    def now(self) -> int:
        """µs, by the clock that was given."""
        return self._clock()

    def by_credentials(self, client: Client, scope: str) -> Grant:
        """A client acts for itself. Raises AuthRefused."""
        if not client.secret:
            raise AuthRefused("unauthorized_client", "a native client has no credentials of its own", status=401)
        return self._give(client, client.identity, self._scopes(scope), offline=False, session={})

    def authorize(
        self,
        client_id: str,
        *,
        scope: str,
        challenge: str,
        redirect: str,
        offline: bool,
        session: Mapping[str, object],
    ) -> str:
        """The person logs in and agrees; a code. Raises AuthRefused."""
        if client_id not in self.clients:
            raise AuthRefused("invalid_client", "no such client", status=401)
        scopes = self._scopes(scope)
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._codes[code] = _Code(
                client=client_id,
                scopes=scopes,
                challenge=challenge,
                redirect=redirect,
                offline=offline,
                session=session,
                expires_at=self._clock() + _CODE_LIFE,
            )
        return code

    def by_code(self, client: Client, code: str, *, verifier: str, redirect: str) -> Grant:
        """What the code was given for; once. Raises AuthRefused."""
        with self._lock:
            found = self._codes.pop(code, None)
        hashed = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if (
            found is None
            or found.client != client.id
            or found.expires_at <= self._clock()
            or found.redirect != redirect
            or (found.challenge and found.challenge != hashed)
        ):
            raise AuthRefused("invalid_grant", "the code is not valid", status=401)
        return self._give(client, self.user, found.scopes, offline=found.offline, session=found.session)

    def by_refresh(self, client: Client, value: str) -> Grant:
        """A new access token for the one resource server. Raises AuthRefused."""
        found = self.token(value)
        if found is None or not found.refresh or found.client != client.id:
            raise AuthRefused("invalid_grant", "the refresh token is not valid", status=400)
        return self._give(client, found.identity, found.scopes, offline=False, session=found.session)

    def _scopes(self, text: str) -> Mapping[str, Scope]:
        try:
            scopes = read(text)
            for scope in scopes.values():
                self._check(scope)
        except BadScope as error:
            # as the service has it
            raise AuthRefused("invalid_scope", f"Unknown scope(s): {error}") from error
        if not scopes:
            raise AuthRefused("invalid_scope", "no scopes")
        return scopes

    def _check(self, scope: Scope) -> None:
        _ = scope.server
        collection = collection_of(scope.name)
        if collection and not self._knows(collection, scope.name.rpartition("/")[2]):
            raise BadScope(scope.name)
        for one in scope.below.values():
            self._check(one)

    def _give(
        self,
        client: Client,
        identity: Identity,
        scopes: Mapping[str, Scope],
        *,
        offline: bool,
        session: Mapping[str, object],
    ) -> Grant:
        now = self._clock()
        by_server: dict[str, dict[str, Scope]] = {}
        for scope in scopes.values():
            by_server.setdefault(scope.server, {})[scope.name] = scope
        tokens, refresh = [], {}
        with self._lock:
            self.given += 1
            for server, its in by_server.items():
                made = Token(
                    value=secrets.token_urlsafe(32),
                    client=client.id,
                    identity=identity,
                    server=server,
                    scopes=its,
                    expires_at=now + round(self.life * 1e6),
                    session=session,
                )
                tokens.append(made)
                self._tokens[made.value] = made
                if offline:
                    lasting = Token(
                        value=secrets.token_urlsafe(32),
                        client=client.id,
                        identity=identity,
                        server=server,
                        scopes=its,
                        expires_at=now + 180 * 86_400_000_000,
                        session=session,
                        refresh=True,
                    )
                    self._tokens[lasting.value] = lasting
                    refresh[server] = lasting.value
                self._remember(client.id, identity.id, its, now)
        return Grant(tokens=tokens, refresh=refresh)

    def _remember(
        self,
        client: str,
        identity: str,
        scopes: Mapping[str, Scope],
        now: int,
        path: tuple[str, ...] = (),
        ids: tuple[int, ...] = (),
    ) -> None:
        for scope in scopes.values():
            here = (*path, scope.name)
            number = next(self._numbers)
            made = Consent(id=number, identity=identity, client=client, path=here, ids=(*ids, number), at=now)
            kept = self._consents.setdefault((client, identity, here), made)
            self._remember(client, identity, scope.below, now, here, tuple(kept.ids))

    # -- tokens ----------------------------------------------------------------------------------------------

    def token(self, value: str) -> Token | None:
        """None: there is no such token, or it has ended."""
        with self._lock:
            found = self._tokens.get(value)
        return found if found is not None and found.expires_at > self._clock() else None

    def shortened(self, grant: Grant, seconds: float) -> Grant:
        """The same, but its access tokens end so soon."""
        end = self._clock() + round(seconds * 1e6)
        tokens = [replace(one, expires_at=end) for one in grant.tokens]
        with self._lock:
            self._tokens |= {one.value: one for one in tokens}
        return replace(grant, tokens=tokens)

    def revoke(self, value: str) -> None:
        """Forget this one."""
        with self._lock:
            self._tokens.pop(value, None)

    def revoke_all(self, *, refresh_too: bool = False) -> None:
        """Forget all access tokens, and those that new ones can be had for."""
        with self._lock:
            self._tokens = {value: one for value, one in self._tokens.items() if one.refresh and not refresh_too}

    def rescind(self, client: str, identity: str) -> None:
        """The identity withdraws its consents from that client: all its tokens go with them."""
        with self._lock:
            self._consents = {key: one for key, one in self._consents.items() if key[:2] != (client, identity)}
            self._tokens = {
                value: one for value, one in self._tokens.items() if (one.client, one.identity.id) != (client, identity)
            }

    def consents(self, identity: str, client: str) -> list[Consent]:
        """What it has allowed that client."""
        with self._lock:
            return [one for key, one in self._consents.items() if key[:2] == (client, identity)]

    def identities(self) -> list[Identity]:
        """All there are."""
        return [self.user, *(client.identity for client in self.clients.values() if client.secret)]


def tells_of_person(token: Token) -> bool:
    """May its bearer ask who it is?"""
    return token.server == AUTH and bool(OPENID & set(token.scopes))
