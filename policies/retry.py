"""What follows when an attempt ended without a product: decided by whose fault it was.

Outcomes: `again` (a new attempt, after `until`), `elsewhere` (a new attempt, this site avoided), `continue` (the next
segment: no failure), `more_memory`, `ask` (a person must act), `fail`. Facts say which counter the try is booked to.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.errors import Fault
from policies.model import ContinueRule, Decision, Failure, Reason, Rules, Tries
from policies.tunable import tunable

BACKOFF = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before the first, second, ... try after a site's fault; the last one repeats."""
AFTER_PREEMPTION = 5_000_000
"""Microseconds: a site that preempts at once must not be asked in a tight loop."""
MEMORY_RAISES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryNumbers:
    """How long a stage waits before it is tried again."""

    backoff: tuple[float, ...] = tunable(BACKOFF, least=0.0, most=86_400.0)
    """Seconds before the first, second, ... try after a fault; the last one repeats."""
    after_preemption: float = tunable(AFTER_PREEMPTION / 1e6, least=1.0, most=3600.0)
    """Seconds after a job lost its place."""


USUAL = RetryNumbers()


def after_failure(rules: Rules, failure: Failure, tries: Tries, *, now: int, numbers: RetryNumbers = USUAL) -> Decision:
    """Judge one failure."""
    return (
        _continuation(rules, failure, tries)
        or _named_exit_code(rules, failure, tries, now, numbers)
        or _suspect_restore(rules, failure, tries)
        or _by_fault(rules, failure, tries, now, numbers)
    )


def _continuation(rules: Rules, failure: Failure, tries: Tries) -> Decision | None:
    named = failure.exit_code is not None and rules.retry.exit_codes.get(failure.exit_code) == "continue"
    rule = rules.continuation or (ContinueRule() if named else None)
    if rule is None:
        return None
    by_limit = rule.time_limit and failure.fault is Fault.TIME_LIMIT
    by_code = failure.exit_code in rule.exit_codes
    if not (by_limit or by_code or named):
        return None
    why = "the time limit" if by_limit else f"exit code {failure.exit_code}"
    if tries.continuations >= rule.max:
        return _decide(
            "fail", Reason("continue.max", "fail", f"{tries.continuations} segments, continue.max is reached")
        )
    progressed = failure.newest_seq is not None
    if not progressed and tries.stalled + 1 >= rule.no_progress:
        fact = f"{tries.stalled + 1} segments in a row brought no newer checkpoint"
        return _decide("fail", Reason("continue.no_progress", "fail", fact))
    return _decide("continue", Reason("continue", "continue", f"{why} ends a segment, the next one goes on"))


def _named_exit_code(rules: Rules, failure: Failure, tries: Tries, now: int, numbers: RetryNumbers) -> Decision | None:
    action = rules.retry.exit_codes.get(failure.exit_code) if failure.exit_code is not None else None
    if action is None or action == "continue":
        return None
    reason = Reason("retry.exit_codes", action, f"exit code {failure.exit_code} means {action}")
    if action == "fail":
        return _decide("fail", reason)
    if action == "more_memory":
        return _more_memory(tries, reason)
    return _again_if_left(rules, tries, reason, now=now, numbers=numbers)


def _suspect_restore(rules: Rules, failure: Failure, tries: Tries) -> Decision | None:
    """A start from a checkpoint that failed before it brought a newer one: the checkpoint may be to blame."""
    restored_in_vain = failure.restored_seq is not None and failure.newest_seq is None
    if failure.fault is not Fault.APPLICATION or not restored_in_vain:
        return None
    if tries.site_retries >= rules.retry.site_fault:
        return None
    fact = f"it failed right after a restore from checkpoint {failure.restored_seq}, which is now suspect"
    return _decide("again", Reason("suspect_checkpoint", "again", fact), booked="site_retries", suspect=True)


def _by_fault(rules: Rules, failure: Failure, tries: Tries, now: int, numbers: RetryNumbers) -> Decision:
    fault, detail = failure.fault, failure.detail
    if fault is Fault.APPLICATION:
        reason = Reason("fault.application", "for", f"the payload itself failed: {detail}; elsewhere it would fail too")
        if tries.app_retries < rules.retry.app_fault:
            return _decide("again", reason, booked="app_retries", until=_backoff(now, tries.app_retries, numbers))
        return _decide("fail", reason, Reason("retry.app_fault", "fail", f"{tries.app_retries} retries were allowed"))
    if fault is Fault.CREDENTIAL:
        return _decide("ask", Reason("fault.credential", "ask", f"a person must renew a credential: {detail}"))
    if fault is Fault.MEMORY:
        return _more_memory(tries, Reason("fault.memory", "more_memory", detail))
    if fault is Fault.TIME_LIMIT:
        fact = "it ran into its time limit, and the document has no `continue: {on: [time_limit]}`"
        return _decide("fail", Reason("fault.time_limit", "fail", fact))
    if fault is Fault.PREEMPTED:
        reason = Reason("fault.preempted", "again", f"its place was taken: {detail}")
        return _decide("again", reason, until=now + round(numbers.after_preemption * 1e6))
    outcome = "elsewhere" if failure.site else "again"  # what only moves data is at no site
    said = f"{failure.site}: {detail}" if failure.site else detail
    reason = Reason(f"fault.{fault.value}", outcome, said, failure.site)
    if tries.site_retries >= rules.retry.site_fault:
        spent = Reason("retry.site_fault", "fail", f"{tries.site_retries} tries after faults of sites are spent")
        return _decide("fail", reason, spent)
    return _decide(outcome, reason, booked="site_retries", until=_backoff(now, tries.site_retries, numbers))


def _more_memory(tries: Tries, reason: Reason) -> Decision:
    if tries.memory_raises >= MEMORY_RAISES:
        return _decide("fail", reason, Reason("memory_raises", "fail", f"memory was raised {MEMORY_RAISES} times"))
    return _decide("more_memory", reason, booked="memory_raises")


def _again_if_left(rules: Rules, tries: Tries, reason: Reason, *, now: int, numbers: RetryNumbers) -> Decision:
    limit = max(rules.retry.app_fault, 3)
    if tries.app_retries >= limit:
        return _decide("fail", reason, Reason("retries", "fail", f"{tries.app_retries} retries are spent"))
    return _decide("again", reason, booked="app_retries", until=_backoff(now, tries.app_retries, numbers))


def _backoff(now: int, tries: int, numbers: RetryNumbers) -> int:
    waits = numbers.backoff
    return now + round(waits[min(tries, len(waits) - 1)] * 1e6)


def _decide(
    outcome: str, *reasons: Reason, booked: str = "", until: int | None = None, suspect: bool = False
) -> Decision:
    facts: dict[str, object] = {"booked": booked} if booked else {}
    if suspect:
        facts["suspect"] = True
    return Decision("retry", outcome, reasons, until=until, facts=facts)
