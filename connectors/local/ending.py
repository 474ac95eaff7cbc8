"""Ending jobs: a polite signal, after a grace a hard one, to every process of the job wherever it hides.

A process is a job's when it carries the job's key in its environment, when it was seen to be the job's before, or
when it shares the launcher's session with one of these. A session number alone is no evidence: once the whole session
is gone the number may belong to somebody else.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from connectors.local.process import Process, everyone, key_of, same, send
from connectors.local.records import CancelMark, Record, Records

_PATIENCE = 0.05
"""Seconds that a call waits for the signaled to be gone, all jobs together."""
_STEP = 0.005

Members = Mapping[str, Sequence[Process]]
"""The live processes of each job, by key; jobs without any are left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A job to end. `ended`: its end was written down before we came. `mark`: it was asked before."""

    record: Record
    ended: bool
    mark: CancelMark | None


def carriers(keys: Collection[str]) -> dict[str, list[Process]]:
    """The live processes that carry one of these keys in their environment."""
    found: dict[str, list[Process]] = {}
    for process in everyone():
        key = key_of(process.pid, keys)
        if key is not None:
            found.setdefault(key, []).append(process)
    return found


def end(targets: Sequence[Target], records: Records, *, now: int, grace: float) -> dict[str, bool]:
    """Signal all processes of these jobs as it is their turn; True for those of which none is left."""
    members = _members(targets, {})
    for target in targets:
        own = members.get(target.record.key, ())
        number = _turn(target, own, records, now=now, grace=grace)
        if number is not None:
            for process in own:
                send(process, number)
    _await([process for group in members.values() for process in group])
    # a process may have been born while we looked: only a second look that finds nobody proves the end
    left = _members(targets, members) if members else {}
    return {target.record.key: target.record.key not in left for target in targets}


def _turn(target: Target, own: Sequence[Process], records: Records, *, now: int, grace: float) -> signal.Signals | None:
    """What to send: polite once, then nothing while the grace lasts, then hard."""
    mark = target.mark
    if mark is None:
        seen = tuple((process.pid, process.started) for process in own)
        records.mark_cancel(target.record.key, CancelMark(at=now, late=target.ended, seen=seen))
        return signal.SIGTERM
    return signal.SIGKILL if now - mark.at >= grace * 1_000_000 else None


def _members(targets: Sequence[Target], before: Members) -> Members:
    keys = {target.record.key for target in targets}
    seen = _seen(targets, before)
    living = list(everyone())
    owners = {process.pid: seen.get((process.pid, process.started)) for process in living}
    owners = {pid: key or key_of(pid, keys) for pid, key in owners.items()}
    leaders = {target.record.pid: target.record.key for target in targets}
    proofs = [(process, owners[process.pid]) for process in living]
    # who was there a moment ago counts too: no number comes round in that time
    proofs += [(process, key) for key, group in before.items() for process in group]
    sessions = {process.session: key for process, key in proofs if key and leaders.get(process.session) == key}
    found: dict[str, list[Process]] = {}
    for process in living:
        key = owners[process.pid] or sessions.get(process.session)
        if key is not None:
            found.setdefault(key, []).append(process)
    return found


def _seen(targets: Sequence[Target], before: Members) -> dict[tuple[int, int], str]:
    """Processes by number and start time that are known to be a job's: its launcher, and who was found earlier."""
    seen = {(process.pid, process.started): key for key, group in before.items() for process in group}
    for target in targets:
        if target.record.this_boot:
            known = ((target.record.pid, target.record.started), *(target.mark.seen if target.mark else ()))
            seen.update(dict.fromkeys(known, target.record.key))
    return seen


def _await(processes: Sequence[Process]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and any(same(process) for process in processes):
        time.sleep(_STEP)
