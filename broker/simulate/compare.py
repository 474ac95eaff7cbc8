"""All starts, under the policies, the baselines and the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from broker.errors import UsageError
from broker.simulate.baselines import BASELINES
from broker.simulate.oracle import best_span
from broker.simulate.outcome import HOUR, Figures, Outcome, figures
from broker.simulate.replay import replay
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
    made = {policy.name: compiled(policy, setting) for policy in policies}
    if len(made) < len(policies) or made.keys() & BASELINES.keys():
        raise UsageError("two policies have the same name", help=f"a file's name is its policy's; {_TAKEN}")
    starts = setting.starts_in(min(trace.length for trace in traces))
    oracle = [best_span(traces, setting, start) for start in starts]
    outcomes: dict[str, list[Outcome]] = {}
    for name, run in made.items():
        outcomes[name] = []
        for number, start in enumerate(starts):
            outcomes[name].append(replay(traces, setting, run, start, seed=setting.seed + number))
            told(name, number + 1)
    for name, rule in BASELINES.items():
        outcomes[name] = [rule(traces, setting, start) for start in starts]
    return Comparison(
        starts=starts,
        oracle=oracle,
        outcomes=outcomes,
        policies={name: figures(found, oracle) for name, found in outcomes.items()},
    )


_TAKEN = f"taken are {', '.join(BASELINES)}"
