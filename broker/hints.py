"""Publishing hints: within one process, or over Redis, which may be slow, full, frozen or gone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from broker.tasks import Wakeups

log = logging.getLogger(__name__)

LOST_AFTER = 2.0
"""Seconds after which a hint that has not arrived is taken for lost, and sent again."""
DARK_FOR = 3.0
"""Seconds for which nothing is sent after a failure. Each try may cost the transport's timeouts."""


class LocalHints:
    """Hints to this very process. One that is on its way is not sent again."""

    def __init__(self, wakeups: Wakeups, *, stopped: Callable[[], bool]) -> None:
        self._wakeups, self._stopped = wakeups, stopped
        self._outstanding: dict[str, float] = {}
        self._guard = threading.Lock()

    def runs(self, run_ids: Sequence[str]) -> bool:
        wanted = [run_id for run_id in run_ids if self._to_send(f"run:{run_id}")]
        if wanted:
            self._wakeups.look_at_runs(wanted)
        return True

    def look(self, site: str) -> bool:
        if self._to_send(f"look:{site}"):
            self._wakeups.look_at_site(site)
        return True

    def act(self, site: str) -> bool:
        if self._to_send(f"act:{site}"):
            self._wakeups.act_at_site(site)
        return True

    def move(self) -> bool:
        if self._to_send("move:"):
            self._wakeups.move()
        return True

    def arrived(self, kind: str, *names: str) -> None:
        """A hint was taken in: the next one about the same thing is a new one."""
        with self._guard:
            for name in names:
                self._outstanding.pop(f"{kind}:{name}", None)

    def _to_send(self, key: str) -> bool:
        now = time.monotonic()
        with self._guard:
            if self._stopped() or now - self._outstanding.get(key, -LOST_AFTER) < LOST_AFTER:
                return False
            self._outstanding[key] = now
            return True


class RemoteHints:
    """Hints over a transport that may fail. After a failure nothing is tried for a while, so that whoever hints loses
    little time; what is not sent is found by a sweep."""

    def __init__(self, wakeups: Wakeups, *, probed: bool = False, dark_for: float = DARK_FOR) -> None:
        """`probed`: `come_back` is called regularly, and after a failure it alone tries the transport, which may cost
        its timeouts. Else whoever comes first does, when `dark_for` seconds are over."""
        self._wakeups, self._probed, self._dark_for = wakeups, probed, dark_for
        self._dark_until = 0.0
        self._failing = False
        self.unheard = False
        """What is sent seems to be taken in by nobody: it goes on its way, and does not count as sent."""

    @property
    def dark(self) -> bool:
        """Is nothing sent just now?"""
        return self._failing and (self._probed or time.monotonic() < self._dark_until)

    def runs(self, run_ids: Sequence[str]) -> bool:
        return self.send(lambda: self._wakeups.look_at_runs(run_ids))

    def look(self, site: str) -> bool:
        return self.send(lambda: self._wakeups.look_at_site(site))

    def act(self, site: str) -> bool:
        return self.send(lambda: self._wakeups.act_at_site(site))

    def move(self) -> bool:
        return self.send(self._wakeups.move)

    def come_back(self, queue: str, sent: str) -> bool:
        return self.send(lambda: self._wakeups.come_back(queue, sent), probe=True)

    def send(self, publish: Callable[[], None], *, probe: bool = False) -> bool:
        """Publish, within the transport's timeouts; was it sent? A `probe` is tried even if nothing else is."""
        if self.dark and not probe:
            return False
        try:
            publish()
        except Exception as error:  # noqa: BLE001 - a transport has many ways to fail, and none may end a worker
            self._failed(error)
            return False
        if self._failing:
            log.warning("hints can be sent again")
            self._failing = False
        return probe or not self.unheard

    def _failed(self, error: Exception) -> None:
        self._dark_until = time.monotonic() + self._dark_for
        if not self._failing:  # once per outage: the transport's own words may be many
            log.warning("no hint can be sent (%s); work goes on by sweeps", type(error).__name__)
        self._failing = True
