"""Telling by a webhook: one POST of a small JSON, signed if there is a secret.

The name is looked up once, each address that it has is judged, and the connection goes to one of those: a name that
means another machine at the second look cannot lead inside. No redirect is followed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from broker.alerts.allowed import NotifyConfig, host_of
from broker.alerts.errors import NotTold
from broker.alerts.message import Message
from connectors.errors import CredentialError
from connectors.secrets import scrub, secret_from

SECONDS = 10.0
"""For each step: finding the way, and each wait for an answer."""
MOST_READ = 1 << 14
"""Bytes of the answer that are read at all."""
SIGNATURE = "X-Crossfade-Signature"
"""t=SECONDS,v1=HEX: HMAC-SHA256 with the secret over `SECONDS.BODY`. Receivers refuse what is old."""
Find = Callable[[str, int], Sequence[str]]


def tell(address: str, message: Message, config: NotifyConfig, *, now: float, find: Find | None = None) -> None:
    """Post it. Raises NotTold for whatever is no 2xx. `now`: seconds since 1970; `find`: looks a name up."""
    parts = urlsplit(address)
    host, port = host_of(address)
    body = message.json
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "crossfade",
        "X-Crossfade-Notice": message.id,
        "Idempotency-Key": message.name,
    }
    if config.secret:
        headers[SIGNATURE] = signature(_secret(config.secret), body, at=int(now))
    connection = _Pinned(host, port, _machine(host, port, config, find or _addresses), _context(config))
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        answer.read(MOST_READ)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotTold(f"{host}: {scrub(str(error) or type(error).__name__)}") from error
    finally:
        connection.close()
    if 300 <= answer.status < 400:
        raise NotTold(f"{host} answered {answer.status}: it sends us elsewhere, and we do not go")
    if not 200 <= answer.status < 300:
        raise NotTold(f"{host} answered {answer.status}")


def signature(secret: str, body: bytes, *, at: int) -> str:
    """The header's value: when it was signed, and with what."""
    mac = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256)
    return f"t={at},v1={mac.hexdigest()}"


class _Pinned(http.client.HTTPSConnection):
    """To that machine, which must be who the name says."""

    def __init__(self, host: str, port: int, machine: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=SECONDS, context=context)
        self._machine, self._tls = machine, context

    def connect(self) -> None:
        plain = socket.create_connection((self._machine, self.port), SECONDS)
        try:
            self.sock: Any = self._tls.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def _context(config: NotifyConfig) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if config.ca is None else str(config.ca))
    except OSError as error:
        raise NotTold(f"notify.web.ca cannot be read: {error.strerror or error}") from error


def _machine(host: str, port: int, config: NotifyConfig, find: Find) -> str:
    """Where to go. Raises NotTold for a place inside that the owner did not name."""
    try:
        found = find(host, port)
    except OSError as error:
        raise NotTold(f"{host} is not known: {error.strerror or error}") from error
    if not found:
        raise NotTold(f"{host} has no address")
    if not config.reaches_inside(host, port):
        inside = [address for address in found if not ipaddress.ip_address(address.partition("%")[0]).is_global]
        if inside:
            raise NotTold(f"{host} is a machine inside ({inside[0]}), and notify.web.hosts does not name it")
    return found[0]


def _addresses(host: str, port: int) -> Sequence[str]:
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _secret(reference: str) -> str:
    try:
        return secret_from(reference).reveal().strip()
    except CredentialError as error:
        raise NotTold(f"notify.web.secret: {error}") from error
