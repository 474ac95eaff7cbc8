"""The seams of a broker: every call to the store, to a site or to the mover, seen before and after it is made.

What happens at a seam is the test's affair: count it, end the worker there, lose the answer, let another worker go
first. The broker itself knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

READS = frozenset(
    {
        "now", "installation", "effect", "next_due", "run", "document", "runs", "stages", "stages_at", "deps",
        "attempts", "attempt_by_key", "decisions", "events", "streams", "effects", "products", "products_of",
        "checkpoints", "commands", "sites", "evidence", "log_tails", "logged_sizes", "open_attempts", "snapshot",
        "stage_rows", "parents", "strays", "unknown_keys", "open_stages", "tip", "run_ids", "other_streams",
        "waiver", "waivers", "deadlines", "carried", "purse", "charges",
        "movements", "wanted", "unwanted", "open_transfers", "carried_by", "transfers", "movements_of", "transfer",
        "replicas", "links", "movers", "lost_rows", "workers", "find", "status", "list_mine", "read",
        "read_many", "list", "digests", "probe",
    }
)  # fmt: skip
"""Verbs without a side effect. What comes after them can be told from what comes before by nobody."""


class Call(NamedTuple):
    """One call across a seam."""

    of: str
    """`store`, `decision` (a call inside a decision transaction), `site:NAME` or `mover`."""
    verb: str
    args: tuple[Any, ...]

    @property
    def writes(self) -> bool:
        """May it leave a trace?"""
        return self.verb not in READS


class Hook(Protocol):
    """What a test does at the seams. Either method may raise, which is then what the broker meets there."""

    def before(self, call: Call) -> None: ...

    def after(self, call: Call) -> None:
        """The call was made; raising here loses its answer."""
        ...


class Seam:
    """Passes every method through to what is behind it, by way of the hook."""

    def __init__(self, behind: Any, of: str, hook: Hook) -> None:
        self._behind, self._of, self._hook = behind, of, hook

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._behind, name)
        if name.startswith("_") or not callable(value):
            return value
        return self._wrapped(name, value)

    def _wrapped(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def passed(*args: Any, **named: Any) -> Any:
            call = Call(self._of, name, args)
            self._hook.before(call)
            answer = method(*args, **named)
            self._hook.after(call)
            return answer

        return passed


class ServiceSeam(Seam):
    """A mover with a service of its own; what it is asked about itself goes over no wire."""

    def __init__(self, behind: Any, hook: Hook) -> None:
        super().__init__(behind, "mover", hook)
        self.slots, self.refuses = behind.slots, behind.refuses

    def probe(self) -> Any:
        return self._wrapped("probe", self._behind.probe)()

    def forget(self, keys: Any) -> Any:
        return self._wrapped("forget", self._behind.forget)(keys)


class CrossingSeam(Seam):
    """A mover that carries within the worker, over a network."""

    crosses_network = True

    def __init__(self, behind: Any, hook: Hook) -> None:
        super().__init__(behind, "mover", hook)
        self.refuses = behind.refuses


class StoreSeam(Seam):
    """A store. Inside a decision transaction each call is a seam of its own, and so is the commit."""

    @property
    def traffic(self) -> Seam:
        """Its rows of movements, whose calls are the store's own."""
        return Seam(self._behind.traffic, "store", self._hook)

    @contextmanager
    def deciding(self, lease: Any, *, ttl: float) -> Iterator[Any]:
        commit = Call("decision", "commit", (lease,))
        self._hook.before(Call("store", "deciding", (lease,)))
        with self._behind.deciding(lease, ttl=ttl) as tx:
            yield Seam(tx, "decision", self._hook)
            self._hook.before(commit)
        self._hook.after(commit)
