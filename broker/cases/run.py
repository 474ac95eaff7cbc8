"""Asking the policies, and telling what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from broker.cases.answers import AMONG, REASONS, differences, view
from broker.cases.read import Case
from broker.cases.values import NOON, Misfit


@dataclass(frozen=True, slots=True)
class Verdict:
    """One case, asked."""

    case: Case
    differences: Sequence[str]
    """Empty: all is as expected."""

    @property
    def ok(self) -> bool:
        return not self.differences


def asked(case: Case) -> Verdict:
    """Ask the policy. Raises DocumentError where something is expected that it does not answer."""
    try:
        found = view(case.question.function(**case.given))
    except Exception as error:  # noqa: BLE001 - whatever facts make it stumble is what the case has found
        return Verdict(case, [f"it could not be asked: {type(error).__name__}: {error}"])
    if REASONS in found:
        found[AMONG] = found[REASONS]
    for name, worked_out in case.question.also.items():
        if name in case.expect:
            found[name] = worked_out(case.question.function, case.given)
    now = case.given.get("now", NOON)
    try:
        return Verdict(case, list(differences(case.expect, found, ("expect",), now=now)))
    except Misfit as misfit:
        raise case.raw.refuse([((*case.path, *misfit.path), misfit.wrong)]) from misfit


def as_view(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """For programs."""
    told = [
        {
            "file": verdict.case.raw.name,
            "line": verdict.case.line if not verdict.ok else None,
            "policy": verdict.case.question.name,
            "name": verdict.case.name,
            "ok": verdict.ok,
            "differences": list(verdict.differences),
        }
        for verdict in verdicts
    ]
    return {"cases": len(told), "failed": sum(not one["ok"] for one in told), "verdicts": told}


def as_text(verdicts: Sequence[Verdict]) -> str:
    """For people: a line for each file, and every difference."""
    lines: list[str] = []
    for name, group in groupby(verdicts, key=lambda verdict: verdict.case.raw.name):
        of_file = list(group)
        bad = [verdict for verdict in of_file if not verdict.ok]
        told = "all as expected" if not bad else f"{len(bad)} not as expected"
        lines.append(f"{name}: {len(of_file)} cases, {told}")
        lines.extend(line for verdict in bad for line in _told(verdict))
    failed = sum(not verdict.ok for verdict in verdicts)
    return "\n".join([*lines, f"{len(verdicts)} cases, {failed} failed"])


def _told(verdict: Verdict) -> list[str]:
    case = verdict.case
    lines = [f"  FAILED  {case.question.name}: {case.name} ({case.raw.name}:{case.line})"]
    for difference in verdict.differences:
        lines += [f"    {line}" for line in difference.splitlines()]
    return lines
