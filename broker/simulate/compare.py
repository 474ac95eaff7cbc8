"""All starts, under the policies, the baselines and the oracle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from broker.errors import UsageError
from broker.simulate.baselines import BASELINES
from broker.simulate.oracle import best_span
from broker.simulate.outcome import HOUR, Figures, Outcome, figures
from broker.simulate.replay import rarely_swept, replay
from broker.simulate.setting import Setting
from broker.simulate.stage import NamedPolicy, compiled
from broker.simulate.uptime import Uptime

Told = Callable[[str, int], None]
"""Called with a policy's name and how many starts are done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came of it. Sequences are in the order of the starts."""

    starts: Sequence[float]
    """Seconds from the traces' beginning."""
    oracle: Sequence[float | None]
    """Spans; None: not even the oracle has a result within the limit."""
    outcomes: Mapping[str, Sequence[Outcome]]
    policies: Mapping[str, Figures]

    @property
    def oracle_median_h(self) -> float | None:
        """Hours, of the starts that the oracle gets done."""
        spans = [span for span in self.oracle if span is not None]
        return median(spans) / HOUR if spans else None

    @property
    def oracle_done(self) -> float:
        """The share of the starts that can be done at all."""
        return sum(span is not None for span in self.oracle) / len(self.oracle)


def compare(
    traces: Sequence[Uptime],
    setting: Setting,
    policies: Sequence[NamedPolicy],
    *,
    told: Told = lambda _name, _count: None,
) -> Comparison:
    """Replay every start under each policy through the broker, and work the baselines and the oracle out.

    Raises DocumentError for a policy that cannot be used, UsageError for two of one name.
    """
    check_names(policies, BASELINES)
    made = {policy.name: (compiled(policy, setting), policy.numbers) for policy in policies}
    starts = setting.starts_in(min(trace.length for trace in traces))
    oracle = [best_span(traces, setting, start) for start in starts]
    outcomes: dict[str, Sequence[Outcome]] = {}
    with rarely_swept():
        for name, (run, numbers) in made.items():
            found = []
            for number, start in enumerate(starts):
                found.append(replay(traces, setting, run, start, seed=setting.seed + number, numbers=numbers))
                told(name, number + 1)
            outcomes[name] = found
    for name, rule in BASELINES.items():
        outcomes[name] = [rule(traces, setting, start) for start in starts]
    return compared(starts, oracle, outcomes)


def compared(
    starts: Sequence[float], oracle: Sequence[float | None], outcomes: Mapping[str, Sequence[Outcome]]
) -> Comparison:
    """The comparison, with the figures of all outcomes."""
    policies = {name: figures(found, oracle) for name, found in outcomes.items()}
    return Comparison(starts=starts, oracle=oracle, outcomes=outcomes, policies=policies)


def check_names(policies: Sequence[NamedPolicy], taken: Collection[str]) -> None:
    """Raises UsageError for two policies of one name, and for one that has a baseline's."""
    names = [policy.name for policy in policies]
    twice = [name for name in names if names.count(name) > 1 or name in taken]
    if twice:
        cure = f"a policy is called as its file; taken are {', '.join(taken)}"
        raise UsageError(f"there are two policies named {twice[0]}", help=cure)
