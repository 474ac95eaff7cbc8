"""A simulated site as a connector: the model behind a front end that can fail like a real one."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from connectors.model import Evidence, FileInfo, JobSpec, Listing, SmallFile, SubmitAnswer
from connectors.registry import Clock, SiteConfig
from sandbox.blob import Blob
from sandbox.options import faults_of, remember_of, seed_of, shape_of, socket_of
from sandbox.shared import SharedSite
from sandbox.site import SiteModel
from sandbox.world import world_of

_REQUEST = "/.crossfade/request"
MAINTENANCE = "maintenance"
"""A feed's word for a window."""


class SimulatedSite:
    """`connectors.base.Site` over a `SiteModel`. Several objects may share one model, as after a restart of the broker.

    Every verb brings the model up to the clock's time first. Thread-safe: one lock per model.
    """

    inline = True

    def __init__(self, model: SiteModel, clock: Clock) -> None:
        self.name = model.name
        self.claim = model.shape.claim
        self.model = model
        self._clock = clock
        self._lock = model.lock

    # -- jobs ----------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        with self._lock:
            now = self._asked("submit")
            return self.model.submit(specs, now)

    def find(self, keys: Sequence[str]) -> Listing:
        with self._lock:
            now = self._asked("status")
            return self.model.look_up(keys, now)

    def status(self, keys: Sequence[str]) -> Listing:
        """The books are all the sources that there are: the same answer as `find`."""
        return self.find(keys)

    def list_mine(self, since: int) -> Listing:
        with self._lock:
            now = self._asked("status")
            return self.model.list_all(since, now)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        with self._lock:
            now = self._asked("submit")
            return self.model.cancel(keys, now)

    # -- files ---------------------------------------------------------------------------------------------

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        with self._lock:
            now = self._asked("files")
            if path.endswith("/heartbeat"):
                self.model.show_beat(path, now)
            return self.model.disk.read(path, offset=offset, limit=limit)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        with self._lock:
            self._asked("files")
            get = self.model.disk.get
            return {path: blob.read(0, limit) for path in paths if (blob := get(path)) is not None}

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:  # noqa: ARG002 - there are no users here
        with self._lock:
            now = self._asked("files")
            self.model.disk.put(path, Blob(content, len(content), now))
            if path.endswith(_REQUEST):
                self.model.request(path.removesuffix(_REQUEST), content, now)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        for file in files:
            self.write(file.path, file.content, mode=file.mode)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        with self._lock:
            self._asked("files")
            return self.model.disk.listing(path, recursive=recursive)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        with self._lock:
            self._asked("files")
            get = self.model.disk.get
            found = {path: blob for path in paths if (blob := get(path)) is not None}
        # outside the lock: a large file takes a while, and blobs do not change
        return {path: (blob.size, blob.sha256) for path, blob in found.items()}

    def remove(self, paths: Sequence[str]) -> None:
        with self._lock:
            self._asked("files")
            for path in paths:
                self.model.disk.remove(path)

    @contextmanager
    def reached(self) -> Iterator[int]:
        """Hold the site still for a mover; gives the time. Raises SiteUnreachable, CredentialError."""
        with self._lock:
            yield self._asked("transfer")

    # -- health --------------------------------------------------------------------------------------------

    def probe(self) -> Sequence[Evidence]:
        with self._lock:
            now = self._clock()
            latency = self.model.latency(now)
            measured = [
                Evidence(site=self.name, capability=capability, ok=ok, at=now, latency=latency, detail=detail)
                for capability, ok, detail in self.model.reports(now)
            ]
            return (*measured, *self._announced(now))

    def _announced(self, now: int) -> Iterator[Evidence]:
        """The planned window that the site publishes, where anybody can read that."""
        window = self.model.announced(now)
        if window is not None:
            ahead = now < window.start
            until = window.start if ahead else window.end
            words = "planned maintenance"
            told = Evidence(site=self.name, capability="compute", ok=ahead, at=now, detail=words, until=until)
            yield told.published(MAINTENANCE)

    def _asked(self, capability: str) -> int:
        now = self._clock()
        self.model.knock(capability, now)
        return now


def make(config: SiteConfig, clock: Clock) -> SimulatedSite | SharedSite:
    """A site from its entry in the site document: a new, empty one in this process, or with `world:` a way to the one
    that all processes share. Raises ValueError with the option that is wrong and what may stand there.
    """
    if socket_of(config) is not None:
        return SharedSite(config, clock)
    return make_here(config, clock)


def make_here(config: SiteConfig, clock: Clock) -> SimulatedSite:
    """A new, empty site in this process; found by a mover under the same clock. Raises ValueError."""
    now = clock()
    model = SiteModel(
        name=config.name,
        shape=shape_of(config),
        rng=random.Random(seed_of(config)),  # noqa: S311 - a reproducible story, no secret
        start=now,
        faults=faults_of(config, now),
        remember=remember_of(config),
    )
    return world_of(clock).add(SimulatedSite(model, clock))
