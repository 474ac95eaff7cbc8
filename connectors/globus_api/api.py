"""One way for all calls to Globus Transfer: paced, in the calling thread's own client, with errors of ours."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from globus_sdk import GlobusError, TransferClient
from globus_sdk.transport import RequestsTransport

from connectors.errors import BadReply, SiteError
from connectors.globus_api.faults import GLOBUS, NeedsLogin, translated
from connectors.globus_api.identity import Identity, identity_of, retries, transport
from connectors.globus_api.pace import Pace
from connectors.registry import GlobusConfig

T = TypeVar("T")
KNOWN_FOR = 3600.0
"""Seconds for which it is believed what kind a collection is."""
MAPPED = "GCSv5_mapped_collection"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What Globus says of one."""

    name: str
    kind: str
    high_assurance: bool
    https: str
    """Address of its HTTPS server; empty: it has none."""

    @property
    def wants_consent(self) -> bool:
        """Is there a data_access scope to consent to? Asking for one elsewhere fails the whole token."""
        return self.kind == MAPPED and not self.high_assurance


class GlobusApi:
    """Thread-safe. Clients of the SDK are not: each thread has its own, by the collections that it reaches into."""

    def __init__(
        self,
        config: GlobusConfig,
        *,
        pace: Pace | None = None,
        elapsed: Callable[[], float] = time.monotonic,
        identity: Identity | None = None,
    ) -> None:
        self.identity = identity or identity_of(config)
        self._config, self._pace, self._elapsed = config, pace or Pace(), elapsed
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._transports: weakref.WeakSet[RequestsTransport] = weakref.WeakSet()  # they go with their threads
        self._collections: dict[str, tuple[float, Collection]] = {}

    @property
    def at_stand_in(self) -> bool:
        """Is it another service than Globus's own?"""
        return bool(self._config.transfer_url)

    def ask(self, doing: str, call: Callable[[TransferClient], T], *, touching: Sequence[str] = ()) -> T:
        """One call, which may be sent up to three times. `touching`: the collections whose files it reaches.

        Raises SiteError; NeedsLogin says what a person types.
        """
        consents = self._consents(touching)
        try:
            return self._asked(doing, call, consents)
        except NeedsLogin as error:
            if consents and error.unknown_scope:
                return self._asked(doing, call, ())  # the collection has none to consent to, whatever its kind says
            if self.identity.person or "--consent" not in error.help:
                raise
        # a service client consents by asking for a new token; what it got before this scope was declared is of no use
        self.identity.forget(consents)
        self._mine.clients = {}
        return self._asked(doing, call, consents)

    def collection(self, collection: str) -> Collection:
        """What it is. Asked for once in an hour. Raises SiteError."""
        with self._lock:
            known = self._collections.get(collection)
        if known is not None and self._elapsed() - known[0] < KNOWN_FOR:
            return known[1]
        raw = self._asked("look at a collection", lambda client: document(client.get_endpoint(collection)), ())
        found = Collection(
            name=str(raw.get("display_name") or collection),
            kind=str(raw.get("entity_type") or ""),
            high_assurance=raw.get("high_assurance") is True,
            https=str(raw.get("https_server") or ""),
        )
        with self._lock:
            self._collections[collection] = (self._elapsed(), found)
        return found

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            transports = list(self._transports)
        for one in transports:
            one.close()

    def _consents(self, touching: Sequence[str]) -> tuple[str, ...]:
        if self.identity.person:
            return ()  # given at the login; what is missing is told for each call by itself
        return tuple(one for one in sorted(set(touching)) if self.collection(one).wants_consent)

    def _asked(self, doing: str, call: Callable[[TransferClient], T], consents: tuple[str, ...]) -> T:
        self._pace.wait()
        try:
            return call(self._client(consents))
        except SiteError:
            raise
        except GlobusError as error:
            raise translated(error, doing) from None  # its notes hold the whole foreign body
        except (ValueError, KeyError, TypeError) as error:
            raise BadReply(
                f"globus: {doing}: an answer that makes no sense ({type(error).__name__})", site=GLOBUS
            ) from None

    def _client(self, consents: tuple[str, ...]) -> TransferClient:
        stamp = self.identity.stamp()
        if getattr(self._mine, "stamp", self) != stamp:
            self._mine.stamp, self._mine.clients = stamp, {}
        clients: dict[tuple[str, ...], TransferClient] = self._mine.clients
        if consents not in clients:
            way = transport()
            with self._lock:
                self._transports.add(way)
            clients[consents] = TransferClient(
                authorizer=self.identity.transfer(consents),
                base_url=self._config.transfer_url or None,
                app_name="crossfade",
                transport=way,
                retry_config=retries(),
            )
        return clients[consents]


def document(answer: Any) -> Mapping[str, Any]:
    """An answer as a JSON object. Raises BadReply."""
    found = answer.data
    if not isinstance(found, dict):
        raise BadReply("globus: a JSON object was expected", site=GLOBUS)
    return found


def rows(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What is in its DATA. Raises BadReply."""
    data = found.get("DATA")
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise BadReply("globus: a list was expected", site=GLOBUS)
    return data
