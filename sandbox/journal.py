"""What really happened at a simulated site, for those who check a broker. No broker ever reads this."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sandbox.job import Execution


class AcceptedJob(NamedTuple):
    """The site took a job into its books."""

    at: int
    key: str
    native_id: str
    digest: str


class Line(NamedTuple):
    """One execution, as plain values: equal journals mean equal histories."""

    key: str
    native_id: str
    generation: int
    started_at: int
    ended_at: int | None
    how: str


class Journal:
    """Grows with the site's history. `keep` bounds it: beyond, the older half is dropped, the counts stay."""

    def __init__(self, *, keep: int | None = None) -> None:
        self._keep = keep
        self._accepted: list[AcceptedJob] = []
        self._executions: list[Execution] = []
        self.accepted_total = 0
        self.started_total = 0
        """Payloads that really began."""
        self.completed_total = 0
        """Payloads that ran to their own good end."""

    def accept(self, key: str, native_id: str, digest: str, now: int) -> None:
        self.accepted_total += 1
        self._accepted.append(AcceptedJob(now, key, native_id, digest))
        if self._keep is not None and len(self._accepted) > self._keep:
            del self._accepted[: self._keep // 2]

    def start(self, execution: Execution) -> None:
        self._executions.append(execution)
        if self._keep is not None and len(self._executions) > self._keep:
            del self._executions[: self._keep // 2]

    @property
    def accepted(self) -> Sequence[AcceptedJob]:
        return tuple(self._accepted)

    @property
    def executions(self) -> Sequence[Execution]:
        """Every start of a job on a node, also those that the gate turned away, in order of their start."""
        return tuple(self._executions)

    def submissions(self) -> Counter[str]:
        """How often each key was accepted."""
        return Counter(item.key for item in self._accepted)

    def runs(self) -> Counter[str]:
        """How often each key's payload really began."""
        return Counter(item.key for item in self._executions if item.began)

    def completions(self) -> Counter[str]:
        """How often each key's payload came to its own good end."""
        return Counter(item.key for item in self._executions if item.how == "done")

    def overlaps(self) -> list[tuple[Execution, Execution]]:
        """Pairs of executions of one key whose payloads ran at the same time."""
        by_key: dict[str, list[Execution]] = {}
        found = []
        for new in self._executions:
            if new.began:
                earlier = by_key.setdefault(new.key, [])
                found += [(old, new) for old in earlier if old.ended_at is None or old.ended_at > new.started_at]
                earlier.append(new)
        return found

    def lines(self) -> list[Line]:
        """All executions as plain values."""
        return [
            Line(item.key, item.native_id, item.generation, item.started_at, item.ended_at, item.how)
            for item in self._executions
        ]
