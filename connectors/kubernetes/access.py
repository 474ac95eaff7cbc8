"""How a cluster is reached, and as whom: from a kubeconfig, a pod's service account, or an address and a token.

Kubeconfigs are read by the official client, exec plugins, certificates and tokens included; the calls themselves go
through `connectors.http`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from connectors.errors import CredentialError, RequestRefused
from connectors.http import Auth
from connectors.kubernetes.options import KubernetesOptions
from connectors.registry import SiteConfig
from connectors.secrets import Secret, private_file, remember, secret_from

_MISSING = "the official client is needed for that: pip install 'crossfade[kubernetes]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where the API is, and what calls to it need."""

    server: str
    auth: Auth
    transport: httpx.BaseTransport | None
    """None: the usual network."""
    until: Callable[[], int | None]
    """When the credential ends; µs, None: not said, or never."""


def access_of(config: SiteConfig, options: KubernetesOptions) -> Access:
    """Raises RequestRefused, CredentialError."""
    if options.server:
        return _by_token(config, options)
    if options.in_cluster:
        return _by_client(config, lambda found: _in_cluster(config.name, found))
    kubeconfig = config.credentials.get("kubeconfig", "")
    if not kubeconfig.startswith("file:"):
        raise RequestRefused(
            f"site {config.name}: how is the cluster reached? Give credentials.kubeconfig as file:PATH, or option "
            "in_cluster: true, or option server and credentials.token",
            site=config.name,
        )
    path = Path(os.path.expanduser(kubeconfig.removeprefix("file:")))
    private_file(path, site=config.name)
    return _by_client(config, lambda found: _kubeconfig(config.name, path, options.context, found))


# -- an address and a token ----------------------------------------------------------------------------------


class _Token:
    """The reference is read for each call: a person may have put a newer one there."""

    def __init__(self, read: Callable[[], Secret]) -> None:
        self.read = read

    def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.read().reveal()}"}

    def refused(self) -> bool:
        return False


def _by_token(config: SiteConfig, options: KubernetesOptions) -> Access:
    reference = config.credentials.get("token", "")
    auth = _Token(lambda: secret_from(reference, site=config.name))

    def until() -> int | None:
        return _token_end(auth.read().reveal())

    transport = httpx.HTTPTransport(verify=_trusting(config.name, options.ca)) if options.ca else None
    return Access(server=options.server.rstrip("/"), auth=auth, transport=transport, until=until)


# -- what the official client reads --------------------------------------------------------------------------


class _FromClient:
    """The client's configuration, asked for each call, so that it can renew tokens; read anew after a refusal."""

    def __init__(self, site: str, load: Callable[[Any], None], make: Callable[[], Any]) -> None:
        self._site, self._load, self._make = site, load, make
        self._lock = threading.Lock()
        self.found = self._read()
        self._fresh = True

    def _read(self) -> Any:
        found = self._make()
        self._load(found)
        return found

    def headers(self) -> Mapping[str, str]:
        with self._lock:
            try:
                settings = self.found.auth_settings()
            except Exception as error:  # whatever an exec plugin or a provider may raise
                raise CredentialError(f"{self._site}: no token: {type(error).__name__}", site=self._site) from error
            headers = {str(one["key"]): str(one["value"]) for one in settings.values() if one.get("in") == "header"}
            for value in headers.values():
                remember(value.partition(" ")[2] or value)
            return {name: value for name, value in headers.items() if value}

    def refused(self) -> bool:
        with self._lock:
            try:
                self.found = self._read()
            except CredentialError:
                return False
            return True


def _by_client(config: SiteConfig, load: Callable[[Any], None]) -> Access:
    try:
        from kubernetes.client import Configuration  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise RequestRefused(f"site {config.name}: {_MISSING}", site=config.name) from error
    auth = _FromClient(config.name, load, Configuration)
    found = auth.found
    server = str(found.host or "").rstrip("/")
    if not server.startswith(("https://", "http://")):
        raise RequestRefused(f"site {config.name}: the kubeconfig names no server", site=config.name)

    def until() -> int | None:
        ends = [_token_end(value.rpartition(" ")[2]) for value in auth.headers().values()]
        if found.cert_file:
            ends.append(_certificate_end(Path(found.cert_file)))
        return min((end for end in ends if end is not None), default=None)

    transport = httpx.HTTPTransport(verify=_context(config.name, found)) if server.startswith("https://") else None
    return Access(server=server, auth=auth, transport=transport, until=until)


def _kubeconfig(site: str, path: Path, context: str, found: Any) -> None:
    from kubernetes.config import ConfigException, load_kube_config  # noqa: PLC0415

    load: Callable[..., object] = load_kube_config
    try:
        load(config_file=str(path), context=context or None, client_configuration=found, persist_config=False)
    except (ConfigException, ValueError, KeyError, TypeError, OSError) as error:
        what = f"{site}: kubeconfig {path} cannot be used: {type(error).__name__}"
        raise CredentialError(what, site=site) from error


def _in_cluster(site: str, found: Any) -> None:
    from kubernetes.config import ConfigException, load_incluster_config  # noqa: PLC0415

    load: Callable[..., object] = load_incluster_config
    try:
        load(client_configuration=found)
    except ConfigException as error:
        raise CredentialError(f"{site}: this process runs in no pod with a service account", site=site) from error


def _context(site: str, found: Any) -> ssl.SSLContext:
    context = _trusting(site, str(found.ssl_ca_cert or ""))
    if not found.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if found.cert_file:
        try:
            context.load_cert_chain(found.cert_file, found.key_file)
        except (OSError, ssl.SSLError) as error:
            raise CredentialError(f"{site}: the client certificate cannot be read", site=site) from error
    return context


def _trusting(site: str, path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=os.path.expanduser(path) or None)
    except (OSError, ssl.SSLError) as error:
        raise CredentialError(f"{site}: the certificates in {path} cannot be read", site=site) from error


# -- when they end -------------------------------------------------------------------------------------------


def _token_end(token: str) -> int | None:
    """What a JWT says of its own end; µs. Its signature is not ours to check."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        told = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return None
    end = told.get("exp") if isinstance(told, dict) else None
    return round(end * 1e6) if isinstance(end, (int, float)) and not isinstance(end, bool) and 0 < end < 1e11 else None


def _certificate_end(path: Path) -> int | None:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return None
    return round(certificate.not_valid_after_utc.astimezone(UTC).timestamp() * 1e6)
