"""Who may call: clients with public keys, their signed assertions, and the tokens given for them (RFC 7523)."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sandbox.faces.http import Request, Response, answer

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LONGEST = 3_660
"""Seconds that an assertion may be good for; clients of the field ask for an hour."""
_SKEW = 60
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiClient:
    """A client as Iris keeps it."""

    client_id: str
    """13 characters."""
    public_key: RSAPublicKey
    user: str = "user"
    name: str = "rehearsal"
    colour: str = "red"
    """red: everything; green: reading only."""
    expires_at: int
    """µs."""


def new_client(*, expires_at: int, user: str = "user", colour: str = "red") -> tuple[ApiClient, str]:
    """A client, and the text of its key file: the id on the first line, then the private key in PEM."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    client_id = "".join(secrets.choice(_LETTERS) for _ in range(13))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    made = ApiClient(client_id=client_id, public_key=key.public_key(), user=user, colour=colour, expires_at=expires_at)
    return made, f"{client_id}\n{pem}"


class Doorkeeper:
    """Gives out tokens and knows them again. Thread-safe."""

    def __init__(
        self,
        clients: Sequence[ApiClient],
        *,
        now: Callable[[], int],
        life: float = 600.0,
        audiences: Sequence[str] = (),
    ) -> None:
        """`life`: seconds of a token. `audiences`: taken beside the address that was asked."""
        self.clients = {client.client_id: client for client in clients}
        self._now = now
        self._life = life
        self._audiences = tuple(audiences)
        self._lock = threading.Lock()
        self._tokens: dict[str, tuple[str, int]] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self.given = 0
        """How many tokens were given out."""

    def token(self, request: Request, *, life: float | None = None) -> Response:
        """The token endpoint. `life`: of this one token, in seconds."""
        seconds = self._life if life is None else life
        if request.method != "POST":
            return answer({"error": "invalid_request"}, 405)
        form = dict(request.form())
        if form.get("grant_type") != "client_credentials":
            return _refusal("unsupported_grant_type", "only client_credentials is supported")
        if form.get("client_assertion_type") != ASSERTION:
            return _refusal("invalid_client", "a client assertion is needed", 401)
        wrong, client = self._verify(form.get("client_assertion", ""), f"{request.host}{request.path}")
        if client is None:
            return _refusal("invalid_client", wrong, 401)
        with self._lock:
            made = secrets.token_urlsafe(48)
            self._tokens[made] = client.client_id, self._now() + round(seconds * 1e6)
            self.given += 1
        return answer(
            {
                "access_token": made,
                "scope": "profile " + client.colour,
                "token_type": "Bearer",
                "expires_in": int(seconds),
            },
            cache_control="no-store",
        )

    def client_of(self, request: Request) -> ApiClient | Response:
        """Whose token it is; else the refusal."""
        token = request.bearer
        if not token:
            return answer({"detail": "Not authenticated"}, 401, www_authenticate="Bearer")
        with self._lock:
            client_id, until = self._tokens.get(token, ("", 0))
        client = self.clients.get(client_id)
        if client is None or until <= self._now() or client.expires_at <= self._now():
            return answer({"detail": "Could not validate credentials"}, 401, www_authenticate="Bearer")
        return client

    def revoke(self) -> None:
        """Forget all tokens."""
        with self._lock:
            self._tokens.clear()

    def _verify(self, assertion: str, endpoint: str) -> tuple[str, ApiClient | None]:
        """What is wrong, or whose it is."""
        now = self._now() // 1_000_000
        try:
            claimed = str(jwt.decode(assertion, options={"verify_signature": False}).get("iss"))
            client = self.clients.get(claimed)
            if client is None:
                return "no such client", None
            claims = jwt.decode(
                assertion,
                client.public_key,
                algorithms=["RS256"],
                audience=[endpoint, *self._audiences],
                issuer=client.client_id,
                # by the facility's clock, below
                options={
                    "require": ["exp", "iss", "sub", "aud", "jti"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
            ends, begins = int(claims["exp"]), int(claims.get("nbf", claims.get("iat", 0)))
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            return f"the assertion is not valid: {error}", None
        if ends <= now or ends > now + _LONGEST or begins > now + _SKEW:
            return "the assertion is not good at this time", None
        if claims["sub"] != client.client_id or client.expires_at <= self._now():
            return "the client has expired" if claims["sub"] == client.client_id else "wrong subject", None
        with self._lock:
            self._seen = {key: until for key, until in self._seen.items() if until > now}
            if (client.client_id, str(claims["jti"])) in self._seen:
                return "the assertion was used before", None
            self._seen[client.client_id, str(claims["jti"])] = ends
        return "", client


def _refusal(error: str, text: str, status: int = 400) -> Response:
    return answer({"error": error, "error_description": text}, status, cache_control="no-store")
