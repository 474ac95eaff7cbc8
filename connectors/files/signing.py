"""Signatures of S3 requests (AWS Signature Version 4), and where the key pair for them comes from.

The body's digest is always part of the signature: the other side refuses a body that was changed on its way.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from connectors.errors import CredentialError, RequestRefused
from connectors.secrets import Secret, remember, secret_from

EMPTY = hashlib.sha256(b"").hexdigest()
_ACCESS = re.compile(r"[\w+/=.-]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """Who signs. `token`: of a key pair that ends by itself."""

    access: str
    secret: Secret
    token: Secret | None = None
    until: int | None = None
    """µs; None: not said."""


Keys = Callable[[], KeyPair]
"""Reads the key pair anew for each call. Raises CredentialError."""


def keys_from(credentials: Mapping[str, str], *, site: str) -> Keys:
    """From a site's `access_key`, `secret_key` and `session_token`; without them, as AWS's own tools find theirs.

    Raises RequestRefused where boto3 would be needed and is not installed.
    """
    if "access_key" not in credentials and "secret_key" not in credentials:
        return _chain(site)

    def read() -> KeyPair:
        found = {name: secret_from(credentials.get(name, ""), site=site) for name in ("access_key", "secret_key")}
        access = found["access_key"].reveal()
        if not _ACCESS.fullmatch(access):
            raise CredentialError(f"{site}: the access key holds characters that none has", site=site)
        token = credentials.get("session_token")
        return KeyPair(
            access=access, secret=found["secret_key"], token=secret_from(token, site=site) if token else None
        )

    return read


def _chain(site: str) -> Keys:
    try:
        import boto3  # noqa: PLC0415 - an extra
    except ImportError as error:
        what = f"{site}: to find AWS credentials by itself boto3 is needed: pip install 'crossfade[kubernetes]'"
        raise RequestRefused(what, site=site) from error
    session = boto3.session.Session()

    def read() -> KeyPair:
        found = session.get_credentials()
        if found is None:
            raise CredentialError(f"{site}: no AWS credentials; set credentials.access_key and secret_key", site=site)
        plain = found.get_frozen_credentials()
        expiry = getattr(found, "_expiry_time", None)
        remember(plain.secret_key)
        return KeyPair(
            access=plain.access_key,
            secret=Secret(plain.secret_key),
            token=Secret(plain.token) if plain.token else None,
            until=round(expiry.timestamp() * 1e6) if isinstance(expiry, datetime) else None,
        )

    return read


def encoded(text: str, *, slash: bool = False) -> str:
    """As in paths and queries of signed requests; `slash`: a `/` is encoded, too."""
    return quote(text, safe="-._~" if slash else "-._~/")


def query_of(parameters: Mapping[str, str]) -> str:
    """In the one order that is signed."""
    pairs = sorted((encoded(name, slash=True), encoded(value, slash=True)) for name, value in parameters.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    pair: KeyPair,
    region: str,
    digest: str,
    now: int,
) -> dict[str, str]:
    """The headers to send: those given (`host` among them, in lower case) and what makes them signed.

    `path` and `query` as they are sent, encoded. `digest`: of the body, hexadecimal. `now`: µs.
    """
    stamp = datetime.fromtimestamp(now / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "x-amz-date": stamp, "x-amz-content-sha256": digest}
    if pair.token:
        sent["x-amz-security-token"] = pair.token.reveal()
    names = ";".join(sorted(sent))
    lines = "".join(f"{name}:{' '.join(sent[name].split())}\n" for name in sorted(sent))
    canonical = "\n".join([method, path, query, lines, names, digest])
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    told = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{pair.secret.reveal()}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, told.encode(), "sha256").hexdigest()
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={pair.access}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return sent
