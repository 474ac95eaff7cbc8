"""Whose jobs are whose, and what two sources say of one job."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from connectors.names import NOBODY
from connectors.slurm import SlurmJob


def ours(job: SlurmJob, *, owner: str, user: str) -> bool:
    """Does the job say that it is this installation's? A comment is anybody's to write: where the user is known, the
    job must be that user's."""
    label = job.label
    if label is None or label.key != job.name or label.owner not in {owner or NOBODY, NOBODY}:
        return False
    return not (user and job.user and job.user != user)


def merged(queue: Iterable[SlurmJob], accounting: Iterable[SlurmJob]) -> Mapping[str, Sequence[SlurmJob]]:
    """By name, oldest first. The queue's word counts for a job that both know, unless only the accounting has seen its
    end. Numbers are no identity: only with the name, too, two records are of one job."""
    found: dict[tuple[str, str], SlurmJob] = {}
    for job in (*queue, *accounting):
        place = (job.native_id, job.name)
        held = found.get(place)
        found[place] = job if held is None else _both(held, job)
    by_name: defaultdict[str, list[SlurmJob]] = defaultdict(list)
    for job in sorted(found.values(), key=lambda job: (job.submitted_at or 0, int(job.native_id))):
        by_name[job.name].append(job)
    return by_name


def _both(queue: SlurmJob, accounting: SlurmJob) -> SlurmJob:
    base = accounting if accounting.state.final and not queue.state.final else queue
    return replace(base, restarts=max(queue.restarts, accounting.restarts), comment=queue.comment or accounting.comment)
