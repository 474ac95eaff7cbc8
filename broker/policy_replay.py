"""Which past decisions another policy would have changed. What cannot be decided anew is counted, not guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from broker.cases.kept import ASKED
from broker.cases.questions import QUESTIONS
from broker.cases.values import Misfit
from broker.facts import rules_of
from broker.policy_file import PolicyFile
from broker.store.base import DecisionRow, Store
from broker.views import when
from policies.again import NotKept, inputs_again, place_again
from policies.model import Decision, Rules

PAGE = 500
"""Runs looked up at a time."""
_SAID = ("act", "after", "max", "old_copy")
"""Of `policy.failover` of a file, what a past decision is asked again with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A decision that the new policy would have made otherwise."""

    at: int
    run: str
    stage: str
    attempt: int
    kind: str
    was: str
    would_be: str
    why: str


@dataclass(slots=True)
class Replayed:
    """All of them."""

    changed: list[Changed] = field(default_factory=list)
    same: int = 0
    untouched: Counter[str] = field(default_factory=Counter)
    """Decisions by kind that no number of a policy file concerns."""
    not_kept: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(kind, what is missing) of decisions that cannot be made anew."""

    @property
    def decisions(self) -> int:
        return len(self.changed) + self.same + self.untouched.total() + self.not_kept.total()


def replayed(store: Store, policy: PolicyFile, *, since: int) -> Replayed:
    """Every decision from `since` (µs) on, made anew. Oldest run first."""
    found = Replayed()
    ask = _Again(policy)
    for run_id in _runs(store):
        rows = [row for row in store.decisions(run_id) if row.at >= since]
        if not rows:
            continue
        paths = {number: stage.path for number, stage in store.stages_at(run_id, {row.n for row in rows}).items()}
        for row in rows:
            ask.anew(row, paths.get(row.n, ""), found)
    found.changed.sort(key=lambda one: (one.at, one.run, one.stage))
    return found


class _Again:
    """Asks the policies what they were asked, with the numbers and rules of a file."""

    def __init__(self, policy: PolicyFile) -> None:
        self._numbers = policy.numbers
        self._failover = _said(policy)

    def anew(self, row: DecisionRow, path: str, found: Replayed) -> None:
        """Make one decision anew, and book what came of it."""
        decision = Decision.from_json(row.detail)
        try:
            was, would_be, why = self._answers(decision)
        except NotKept as missing:
            found.not_kept[row.kind, str(missing)] += 1
            return
        if was is None or would_be is None:
            found.untouched[row.kind] += 1
        elif was == would_be:
            found.same += 1
        else:
            found.changed.append(
                Changed(
                    at=row.at,
                    run=row.run_id,
                    stage=path,
                    attempt=row.attempt,
                    kind=row.kind,
                    was=was,
                    would_be=would_be,
                    why=why,
                )
            )

    def _answers(self, decision: Decision) -> tuple[str | None, str | None, str]:
        """What it was, what it would be (both None: nothing of a policy file concerns it), and why. Raises NotKept."""
        if decision.kind == "placement":
            if decision.outcome != "place" or decision.reasons[0].rule == "found":
                return None, None, ""
            site = place_again(decision, self._numbers.placement)
            return f"place at {decision.site}", f"place at {site}", self._band(decision, site)
        if decision.kind == "inputs":
            outcome = inputs_again(decision, self._numbers.shipping)
            return decision.outcome, outcome, "what sending ahead is worth"
        if decision.kind in ("failover", "retry"):
            return self._asked(decision)
        return None, None, ""

    def _asked(self, decision: Decision) -> tuple[str, str, str]:
        asked = decision.facts.get(ASKED)
        if not isinstance(asked, Mapping):
            raise NotKept("what the policy was asked: an older version wrote it down")
        if "given" not in asked:
            raise NotKept(f"what the policy was asked: {asked.get('bytes')} bytes were too many")
        policy = str(asked["policy"])
        try:
            given = QUESTIONS[policy].made(asked["given"], ())
        except (Misfit, KeyError) as error:
            raise NotKept("what the policy was asked: another version wrote it down") from error
        given["numbers"] = getattr(self._numbers, policy)
        if policy == "failover" and self._failover:
            rules: Rules = given["rules"]
            given["rules"] = replace(rules, failover=replace(rules.failover, **self._failover))
        told: Decision = QUESTIONS[policy].function(**given)
        now = given["now"]
        was = _words(str(asked["outcome"]), asked.get("until"), now)
        return was, _words(told.outcome, told.until, now), told.reasons[-1].fact

    def _band(self, decision: Decision, site: str) -> str:
        numbers = self._numbers.placement
        if site == decision.site:
            return ""
        return f"as good as the same is what lies within {numbers.band:g} of the sooner one, or {numbers.seconds:g} s"


def _said(policy: PolicyFile) -> dict[str, Any]:
    """What the file says of `policy.failover`, as the document's own reader takes it. Raises DocumentError."""
    keys = policy.keys.get("policy", {})
    said = keys.get("failover", {}) if isinstance(keys, Mapping) else {}
    from broker.simulate.setting import Setting  # noqa: PLC0415 - for files that have such keys
    from broker.simulate.stage import NamedPolicy, compiled  # noqa: PLC0415

    made = compiled(NamedPolicy(policy.name, policy.keys, policy.raw), Setting())  # refuses what documents may not say
    rule = rules_of(made.stages[0].rules).failover
    return {name: getattr(rule, name) for name in _SAID if isinstance(said, Mapping) and name in said}


def _words(outcome: str, until: object, now: int) -> str:
    """An outcome; of one that is asked again, when."""
    return f"{outcome}, again in {(until - now) / 1e6:.0f} s" if isinstance(until, int) else outcome


def _runs(store: Store) -> Iterator[str]:
    after = ""
    while page := store.run_ids(after=after, limit=PAGE):
        yield from page
        after = page[-1]


def as_view(found: Replayed, *, policy: str, since: int) -> dict[str, Any]:
    """For programs."""
    return {
        "policy": policy,
        "since": when(since),
        "decisions": found.decisions,
        "same": found.same,
        "untouched": dict(sorted(found.untouched.items())),
        "not_kept": [
            {"kind": kind, "missing": missing, "count": count}
            for (kind, missing), count in sorted(found.not_kept.items())
        ],
        "changed": [
            {
                "at": when(one.at),
                "run": one.run,
                "stage": one.stage,
                "attempt": one.attempt,
                "kind": one.kind,
                "was": one.was,
                "would_be": one.would_be,
                "why": one.why,
            }
            for one in found.changed
        ],
    }


def told(view: Mapping[str, Any]) -> Iterable[str]:
    """The sums below the table, for people."""
    changed = len(view["changed"])
    yield f"{view['decisions']} decisions since {view['since']}: {changed} would be others, {view['same']} the same"
    if view["untouched"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in view["untouched"].items())
        yield f"nothing in a policy file concerns: {kinds}"
    for row in view["not_kept"]:
        yield f"cannot be made anew: {row['count']} {row['kind']}, for they did not keep {row['missing']}"
