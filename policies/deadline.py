"""Will it be done in time? From what is known of the work that is left, by the longest way through it. Pure.

What is known: a stage that runs ends at its walltime at the latest; one that does not run yet takes its walltime from
the moment when it can begin; one whose site gives no answer begins anew when failover may carry it elsewhere. How long
a queue is, is not guessed here, so that a deadline which is at risk by this sum is at risk for sure, unless the work is
done faster than its walltime allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policies.model import Decision, FailoverRule, Reason

IN_TIME, AT_RISK, MISSED = "in_time", "at_risk", "missed"
LEAST_STEP = 1.0
"""Seconds between two looks at one deadline, at least; and at least this part of the time there is:"""
STEP = 0.01
AGAIN = 0.05
"""The same while it is at risk."""
EASED = 0.05
"""At risk no longer counts what is expected so much of the time before the deadline: else it would come and go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is left of one stage. Times in µs."""

    n: int
    name: str
    seconds: float | None
    """How long it may take from its start; None: nobody says, and nothing is counted."""
    started_at: int | None = None
    not_before: int | None = None
    """It cannot begin, or not begin anew, before that."""


def expected_ends(works: Iterable[Work], needs: Mapping[int, Sequence[int]], *, now: int) -> Mapping[int, int]:
    """When each of them is expected to end. Whom it needs and who is not among them is done."""
    left = {work.n: work for work in works}
    ends: dict[int, int] = {}
    for first in left:
        path = [first]
        while path:
            n = path[-1]
            open_needs = [need for need in needs.get(n, ()) if need in left and need not in ends and need != n]
            if n in ends:
                path.pop()
            elif open_needs and len(path) <= len(left):
                path.append(open_needs[0])
            else:
                before = max((ends[need] for need in needs.get(n, ()) if need in ends), default=now)
                ends[n] = _end(left[n], max(now, before))
                path.pop()
    return ends


def _end(work: Work, ready: int) -> int:
    seconds = work.seconds or 0.0
    if work.started_at is not None:
        return max(ready, work.started_at + round(seconds * 1e6))
    return max(ready, work.not_before or 0) + round(seconds * 1e6)


def judge(*, at: int, since: int, expected: int, of: str, at_risk: bool, now: int) -> Decision:
    """in_time, at_risk or missed; and when to ask again. `of`: what is expected to end last, by name; `at_risk`: was
    it so at the last look?"""
    within = at - since
    step = max(LEAST_STEP * 1e6, STEP * within)
    facts = {"at": at, "expected": expected, "of": of}
    if now >= at:
        fact = f"{_minutes(within)} were given, and they are over"
        return Decision("deadline", MISSED, (Reason("deadline", MISSED, fact),), facts=facts)
    late = expected - at
    if late > 0 or (at_risk and late > -EASED * within):
        how = f"{_minutes(late)} after it" if late > 0 else "only just before it"
        fact = f"{_minutes(at - now)} are left, and {of} is expected to end {how}"
        until = min(at, now + round(max(step, AGAIN * within)))
        return Decision("deadline", AT_RISK, (Reason("deadline", AT_RISK, fact),), until=until, facts=facts)
    fact = f"{_minutes(at - now)} are left, and {of} is expected to end {_minutes(-late)} before that"
    until = min(at, now + round(max(step, -late)))
    return Decision("deadline", IN_TIME, (Reason("deadline", IN_TIME, fact),), until=until, facts=facts)


def doubtful(*, within: float, longest: float, failover: FailoverRule) -> str:
    """Why that deadline could not be met if a site faded, or at all, in words; empty: it could. Seconds. `longest`:
    the walltimes on the longest way to its end."""
    if longest > within:
        return f"the walltimes on the way there come to {_span(longest)}, and it is after {_span(within)}"
    if failover.act != "auto" or not failover.max:
        return ""
    if failover.after >= within:
        return (
            f"failover.after is {_span(failover.after)} and the deadline {_span(within)}: it is missed before anything "
            "is carried elsewhere"
        )
    if failover.after + longest > within:
        return (
            f"no failover could meet it: {_span(failover.after)} of silence, and {_span(longest)} to begin anew, are "
            f"more than {_span(within)}"
        )
    return ""


def _minutes(micros: int) -> str:
    return _span(micros / 1e6)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
