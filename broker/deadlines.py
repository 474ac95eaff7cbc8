"""By when a run or a stage is to be done, as rows; and the unsettled work that is asked before one is judged. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

RUN = -1
"""The number of a deadline's stage where it is the run's own."""


class DeadlineRow(NamedTuple):
    """One deadline."""

    run_id: str
    n: int
    at: int
    since: int
    on_miss: str
    state: str
    episodes: int
    due_at: int | None


class WorkRow(NamedTuple):
    """A stage that is not over, with its current attempt, as far as its end depends on it."""

    n: int
    path: str
    state: str
    rules: str
    not_before: int | None
    site: str
    started_at: int | None
    submitted_at: int | None
    unreachable_since: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a decision is shown of its run's deadlines: those whose time to be looked at has come."""

    due: Sequence[DeadlineRow] = ()
    works: Sequence[WorkRow] = ()
    """All stages of the run that are not over."""
    needs: Mapping[int, Sequence[int]] | None = None
    """Whom each of them needs."""


NONE_DUE = Asked()


def new_deadline(run_id: str, n: int, *, within: float, since: int, on_miss: str, now: int) -> DeadlineRow:
    """One that is looked at at once. `within`: seconds."""
    at = since + round(within * 1e6)
    return DeadlineRow(run_id=run_id, n=n, at=at, since=since, on_miss=on_miss, state="open", episodes=0, due_at=now)
