"""What must hold of a run's charges. Pure."""

from __future__ import annotations

from broker.audit.rows import RunRows, Violation

RULE = "charges"


def charges(rows: RunRows) -> list[Violation]:
    """An attempt is charged once, held while it is open and settled when it is over, and nothing costs less than what
    of it was wasted."""
    attempts = {(row.n, row.number): row for row in rows.attempts}
    found: list[Violation] = []
    for charge in rows.charges:
        where, attempt = rows.name(charge.n, charge.attempt), attempts.get((charge.n, charge.attempt))
        if attempt is None:
            found.append(Violation(RULE, where, "is charged, but is not there"))
            continue
        if attempt.site != charge.site:
            found.append(Violation(RULE, where, f"was at {attempt.site}, and is charged at {charge.site}"))
        if bool(attempt.open) is not (charge.settled_at is None):
            settled = "settled" if charge.settled_at is not None else "not settled"
            found.append(Violation(RULE, where, f"is {attempt.state}, and its charge is {settled}"))
        if not 0 <= charge.wasted <= charge.actual:
            found.append(Violation(RULE, where, f"cost {charge.actual}, of which {charge.wasted} was wasted"))
    return found
