"""One pass over what is due: each address by itself, so that one which takes nothing holds up no other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from broker.alerts import command, mail, web
from broker.alerts.allowed import NotifyConfig, why_not
from broker.alerts.errors import NotTold
from broker.alerts.message import Message, message_of
from broker.alerts.rows import AlertRow
from broker.clock import Clock
from broker.store.base import Store

log = logging.getLogger(__name__)

AT_ONCE = 64
"""Notices of one pass."""
ADDRESSES_AT_ONCE = 4
CLAIM_SECONDS = 300.0
"""How long a pass may take until another process may send what it has not: the slowest address takes 30 s for one
message, and has no more after the first one in vain."""
PUT_OFF = 60.0
"""Seconds for which an address that took no message is not given another one."""
Tell = Callable[[str, Message], None]


class Sender:
    """Sends what is due. Thread-safe."""

    def __init__(
        self, store: Store, config: NotifyConfig, *, clock: Clock, owner: str, tell: Tell | None = None
    ) -> None:
        """`tell`: brings one message to one address, or raises NotTold."""
        self._store, self._config, self._clock, self._owner = store, config, clock, owner
        self._tell = tell or self._by_address
        self._installation = store.installation().id

    def run(self) -> int:
        """Send what is due now; how many have arrived."""
        claimed = self._store.alerts.claim(claim=self._owner, now=self._clock(), limit=AT_ONCE, seconds=CLAIM_SECONDS)
        by_address: dict[str, list[AlertRow]] = {}
        for row in claimed:
            by_address.setdefault(row.address, []).append(row)
        if len(by_address) < 2:
            return sum(map(self._send, by_address.values()))
        with ThreadPoolExecutor(ADDRESSES_AT_ONCE, "crossfade-telling") as pool:
            return sum(pool.map(self._send, by_address.values()))

    def _send(self, rows: Sequence[AlertRow]) -> int:
        """To one address; after the first that it does not take, the others wait."""
        for i, row in enumerate(rows):
            error = self._try(row)
            self._store.alerts.give_back(row, now=self._clock(), error=error)
            if error:
                log.warning("notice %s was not taken by %s: %s", row.id, row.address, error)
                rest = rows[i + 1 :]
                if rest:
                    until = self._clock() + round(PUT_OFF * 1e6)
                    self._store.alerts.put_off(rest, until=until, error=f"waits for its address: {error}")
                return i
        return len(rows)

    def _try(self, row: AlertRow) -> str:
        """Why it has not arrived; empty: it has."""
        try:
            self._tell(row.address, message_of(row, installation=self._installation))
        except NotTold as error:
            return str(error) or "it was not taken"
        except Exception as error:
            log.exception("telling %s broke off", row.address)
            return f"{type(error).__name__}: see the log"
        return ""

    def _by_address(self, address: str, message: Message) -> None:
        """By the way that its beginning tells. What the owner has taken out since is not told any more."""
        config, now = self._config, self._clock() / 1e6
        own = any(address == to for to, _ in config.tell)
        wrong = None if own else why_not(address, config, from_outside=False)
        if wrong is not None:
            raise NotTold(wrong.message)
        scheme, _, rest = address.partition(":")
        if scheme == "command":
            if rest not in config.commands:
                raise NotTold(f"there is no command {rest!r}")
            command.tell(config.commands[rest], message, folder=config.folder)
        elif scheme == "mailto":
            mail.tell(rest, message, config.mail, now=now)
        else:
            web.tell(address, message, config, now=now)
