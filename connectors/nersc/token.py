"""Who we are to NERSC: a client's private key, signed assertions, and tokens that are renewed before they end.

RFC 7523: an assertion of ours, good for a minute and for one use, buys an access token of some minutes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from connectors.errors import CredentialError, RequestRefused
from connectors.http import Http
from connectors.registry import Clock
from connectors.secrets import remember, secret_from
from connectors.tokens import Fetched, RenewedTokens, granted

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 60
_HELP = "make a client in Iris and store its key with mode 0600: docs/howto/connect-nersc.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """A client of the Superfacility API: its id, and the key that proves it."""

    client_id: str
    key: RSAPrivateKey

    def __repr__(self) -> str:
        return f"ClientKey({self.client_id})"


def client_key(credentials: Mapping[str, str], *, site: str) -> ClientKey:
    """From the references `key` and, where the key does not hold it, `client_id`. Raises CredentialError."""
    if "key" not in credentials:
        raise _wrong(site, "no credential `key` is given")
    text = secret_from(credentials["key"], site=site).reveal()
    given = secret_from(credentials["client_id"], site=site).reveal() if "client_id" in credentials else ""
    found, key = _from_json(text, site) if text.lstrip().startswith("{") else _from_pem(text, site)
    client_id = given or found
    if not client_id:
        raise _wrong(site, "the key file holds no client id: put it on its first line, or give `client_id`")
    if not client_id.isascii() or not client_id.isalnum() or len(client_id) > 64:
        raise _wrong(site, "the client id is no plain word")
    return ClientKey(client_id=client_id, key=key)


def client_tokens(*, http: Http, token_url: str, read_key: Callable[[], ClientKey], clock: Clock) -> RenewedTokens:
    """Tokens of such a client; the key file is read anew for each, so that a renewed client needs no restart.

    `http`: to the token endpoint, its base is the endpoint's address. `token_url`: the audience.
    """

    def fetch() -> Fetched:
        # each try with an assertion of its own, since one that was seen is not taken again
        who = read_key()
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION,
            "client_assertion": assertion(who, audience=token_url, now=clock()),
        }
        try:
            return granted(http.ask("POST", "", form=form))
        except RequestRefused as error:
            raise _wrong(http.site, f"no token is given for client {who.client_id}: {error}") from error
        except CredentialError as error:
            error.help = _HELP
            raise

    return RenewedTokens(fetch, clock)


def assertion(who: ClientKey, *, audience: str, now: int) -> str:
    """A signed statement of who we are, for one use. `now`: µs."""
    seconds = now // 1_000_000
    claims: dict[str, Any] = {
        "iss": who.client_id,
        "sub": who.client_id,
        "aud": audience,
        "iat": seconds,
        "exp": seconds + ASSERTION_SECONDS,
        "jti": secrets.token_hex(16),
    }
    made = jwt.encode(claims, who.key, algorithm="RS256")
    remember(made)
    return made


def _from_pem(text: str, site: str) -> tuple[str, RSAPrivateKey]:
    head, begin, rest = text.partition("-----BEGIN")
    if not begin:
        raise _wrong(site, "the key file is neither PEM nor JSON")
    try:
        key = load_pem_private_key((begin + rest).encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _wrong(site, "the key file's PEM part is no private key without a passphrase") from error
    return head.strip(), _rsa(key, site)


def _from_json(text: str, site: str) -> tuple[str, RSAPrivateKey]:
    try:
        document = json.loads(text)
        jwk = document["secret"]
        jwk = json.loads(jwk) if isinstance(jwk, str) else jwk
        for name in ("d", "p", "q", "dp", "dq", "qi"):
            if isinstance(jwk.get(name), str):
                remember(jwk[name])
        key = jwt.PyJWK(jwk, "RS256").key
        client_id = document.get("client_id", "")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, jwt.PyJWTError) as error:
        raise _wrong(site, 'the key file is no JSON of {"client_id": ..., "secret": JWK}') from error
    return client_id.strip() if isinstance(client_id, str) else "", _rsa(key, site)


def _rsa(key: object, site: str) -> RSAPrivateKey:
    if not isinstance(key, RSAPrivateKey):
        raise _wrong(site, "the key is no private RSA key")
    return key


def _wrong(site: str, what: str) -> CredentialError:
    error = CredentialError(f"{site}: {what}", site=site)
    error.help = _HELP
    return error
