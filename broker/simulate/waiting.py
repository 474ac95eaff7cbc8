"""The same stage where sites are up but full: who waits how long, by where he asks.

The engine does not judge waits. What is predicted of them reaches it as an operator's wish does: as the order of
`policy.sites.prefer`, set at the moment of the start from what could be known then. A policy that has an order of its
own keeps it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from broker.simulate.compare import Comparison, Told, check_names, compared
from broker.simulate.outcome import Outcome
from broker.simulate.queues import QueueLog
from broker.simulate.replay import rarely_swept, replay
from broker.simulate.setting import ON_THE_MINUTE, Setting
from broker.simulate.stage import NamedPolicy, compiled, preferring, prefers
from broker.simulate.uptime import Uptime
from broker.spec import CompiledRun

RULES = ("stay", "any", "race")
HISTORY = 0.1
"""Of a log that must have gone by before the first start, so that something can be known."""


def compare_waits(
    logs: Sequence[QueueLog], setting: Setting, policies: Sequence[NamedPolicy], *, told: Told = lambda _n, _c: None
) -> Comparison:
    """Replay every start under each policy through the broker; beside it, without a broker:

    * stay: at the first site, whatever its queue;
    * any: at a site drawn by lot;
    * race: a copy at every site, the first that starts wins and the others are withdrawn, at no cost.

    The oracle knows all waits, and asks where the wait is shortest: a race is as good, and pays in queue places.
    Raises DocumentError for a policy that cannot be used, UsageError for two of one name.
    """
    check_names(policies, RULES)
    starts = starts_of(logs, setting)
    with rarely_swept():
        outcomes: dict[str, Sequence[Outcome]] = {
            policy.name: _through_broker(logs, setting, policy, starts, told) for policy in policies
        }
    lot = random.Random(setting.seed)  # noqa: S311 - a reproducible study, no secret
    waits = [[log.wait_at(start) for log in logs] for start in starts]
    outcomes["stay"] = [_done(found[0], setting) for found in waits]
    outcomes["any"] = [_done(lot.choice(found), setting) for found in waits]
    outcomes["race"] = [_done(min(found), setting) for found in waits]
    return compared(starts, [outcome.span for outcome in outcomes["race"]], outcomes)


def starts_of(logs: Sequence[QueueLog], setting: Setting) -> list[float]:
    """Random starts, in order: after some history, and none so late that the limit reaches beyond the log."""
    rng = random.Random(setting.seed)  # noqa: S311 - a reproducible study, no secret
    first = logs[0].length * HISTORY
    last = max(first, logs[0].length - setting.limit)
    spread = int((last - first) // ON_THE_MINUTE)
    begin = -(-first // ON_THE_MINUTE) * ON_THE_MINUTE
    return sorted(begin + rng.randrange(spread + 1) * ON_THE_MINUTE for _ in range(setting.starts))


def _through_broker(
    logs: Sequence[QueueLog], setting: Setting, policy: NamedPolicy, starts: Sequence[float], told: Told
) -> list[Outcome]:
    sites = [Uptime(log.site, [(0.0, log.length)], log.length) for log in logs]
    waits = {log.site: log.wait_at for log in logs}
    known: dict[tuple[str, ...], CompiledRun] = {}
    found = []
    for number, start in enumerate(starts):
        made = _made(logs, setting, policy, start, known)
        found.append(
            replay(sites, setting, made, start, seed=setting.seed + number, waits=waits, numbers=policy.numbers)
        )
        told(policy.name, number + 1)
    return found


def _made(
    logs: Sequence[QueueLog],
    setting: Setting,
    policy: NamedPolicy,
    start: float,
    known: dict[tuple[str, ...], CompiledRun],
) -> CompiledRun:
    """The run as it is submitted at that moment: the sites in the order of their predicted waits."""
    order: tuple[str, ...] = ()
    if not prefers(policy):
        order = tuple(log.site for log in sorted(logs, key=lambda log: log.predicted_at(start)))
    if order not in known:
        known[order] = compiled(preferring(policy, order) if order else policy, setting)
    return known[order]


def _done(wait: float, setting: Setting) -> Outcome:
    span = wait + setting.whole
    done = span <= setting.limit
    return Outcome(span=span if done else None, spent=setting.whole if done else 0.0, products=int(done))


@dataclass(frozen=True, slots=True)
class Gain:
    """Of the time that racing saves over staying, the share that a policy saves: by medians, and by means."""

    median: float
    mean: float


def gains(found: Comparison) -> Mapping[str, Gain]:
    """By policy; empty where racing saves nothing. A start that is not done counts with the longest span of any."""
    ends = [o.span for outcomes in found.outcomes.values() for o in outcomes if o.span is not None]
    worst = max(ends, default=0.0)
    spans = {name: [worst if o.span is None else o.span for o in outcomes] for name, outcomes in found.outcomes.items()}
    by = [{name: average(values) for name, values in spans.items()} for average in (median, fmean)]
    if any(told["stay"] <= told["race"] for told in by):
        return {}
    shares = [
        {name: (told["stay"] - value) / (told["stay"] - told["race"]) for name, value in told.items()} for told in by
    ]
    return {name: Gain(shares[0][name], shares[1][name]) for name in spans}
