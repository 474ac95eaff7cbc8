"""Small forms in which the engine writes: compact JSON, the deciding fact. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from broker.store.base import RunRow
from policies.model import Decision, Reason
from policies.residency import REFUSED, WAIVABLE


def in_line(run: RunRow) -> str:
    """Why nothing of a run starts before its turn."""
    return f"concurrency.max: at most {run.at_once} runs of {run.name} go on at once"


def compact(data: Mapping[str, object]) -> str:
    """JSON as rows keep it."""
    return json.dumps(data, separators=(",", ":"))


def last_fact(decision: Decision) -> str:
    """The fact that settled a decision."""
    return decision.reasons[-1].fact if decision.reasons else decision.outcome


def what_helps(run_id: str, *reasons: Reason) -> str:
    """What a person types who wants the data to be there all the same; empty where no waiver would help."""
    one = next((reason for reason in reasons if reason.rule in WAIVABLE and reason.verdict == REFUSED), None)
    if one is None:
        return ""
    return f"crossfade waiver ask {run_id} --site {one.site} --rule {short_rule(one.rule)} --reason ..."


def what_pays(run_id: str, reasons: Sequence[Reason]) -> str:
    """What a person types who wants work to go on that nobody can pay for."""
    rules = {reason.rule for reason in reasons}
    if rules & {"budget", "budget.per_site", "budget.stage"}:
        return f"crossfade budget set {run_id} --node-hours N --reason ..."
    for rule, option in (("cap.project", "--project"), ("cap.user", "--user")):
        if rule in rules:
            return f"crossfade budget set {option} NAME --node-hours N --reason ..."
    return "more hours at that facility, or another `account` in the site document"


def short_rule(rule: str) -> str:
    """As people type it: `stay` for `data.stay`."""
    return rule.removeprefix("data.")
