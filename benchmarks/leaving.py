"""What weighing whether to leave is worth: many outages of a heavy tail, by the broker's policy and by two rules.

    python benchmarks/leaving.py [--cases 4000] [--seed 1]

Each case is one stage whose site falls silent. How long the outage lasts is drawn from a Pareto tail (shape 1.5) above
the shortest outage that is seen at all; whether the copy lives, from the policy's own odds; what is left of its work,
and what doing it again elsewhere takes, from wide ranges. `at after` leaves when `failover.after` is over, as the
broker did before; `never` waits for ever. `weighed` asks `policies.failover.judge` whenever that says to ask again.
Told is the mean time from the silence to the result, and the work that was done twice, as a part of all work.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))

from policies.failover import judge
from policies.leaving import Prospect
from policies.model import FailoverRule, Rules, SiteFacts, Tries
from policies.outages import ALL_DARK, ALPHA, API_ONLY, UNKNOWN

AFTER, SHORTEST = 900.0, 60.0
NOW = 10**15
KNOWN = {UNKNOWN: {}, API_ONLY: {"heard": "its files worked since"}, ALL_DARK: {"compute_down": "power work"}}


@dataclass(frozen=True)
class Case:
    outage: float
    p: float
    """What is known of the copy's chances."""
    lives: bool
    left: float
    rerun: float
    queue: float

    def stays(self) -> float:
        """Until the result, if it stays: a copy that lives is done meanwhile, a dead one is begun anew."""
        return max(self.outage, self.left) if self.lives else self.outage + self.queue + self.rerun

    def leaves(self, at: float) -> tuple[float, float]:
        """Until the result if it leaves then, the first of both copies winning; and seconds done twice."""
        elsewhere = at + self.queue + self.rerun
        end = min(elsewhere, self.stays()) if self.lives else elsewhere
        return end, max(0.0, min(self.rerun, end - at - self.queue)) if self.lives else 0.0


def cases(count: int, seed: int) -> list[Case]:
    dice = random.Random(seed)
    made = []
    for _ in range(count):
        p = dice.choice(tuple(KNOWN))
        work = 10 ** dice.uniform(2.5, 4.6)  # five minutes to eleven hours
        done, saved = dice.random(), dice.random()
        made.append(
            Case(
                outage=SHORTEST * dice.paretovariate(ALPHA),
                p=p,
                lives=dice.random() < p,
                left=work * (1 - done),
                rerun=work * (1 - done * saved),
                queue=10 ** dice.uniform(1.5, 3.8),
            )
        )
    return made


def weighed(case: Case, lane: str, past: Sequence[float]) -> float | None:
    """Seconds of silence after which the policy leaves; None: the outage is over before."""
    rules = Rules(lane=(lane,), failover=FailoverRule(after=AFTER))
    passed = AFTER if lane != "urgent" else 180.0
    while passed < case.outage:
        now = NOW + round(passed * 1e6)
        site = SiteFacts(
            name="here", facility="here", slots=9, load=1, share=8, cannot_ask_since=NOW, silent=True, **KNOWN[case.p]
        )
        seen = Prospect(
            left=max(0.0, case.left - passed), elsewhere=case.queue + case.rerun, rerun=case.rerun, site="there"
        )
        there = SiteFacts(name="there", facility="there", slots=9, load=0, share=9)
        found = judge(
            rules, site=site, now=now, tries=Tries(), elsewhere=[there], stop_before=None, prospect=seen, past=past
        )
        if found.outcome == "move":
            return passed
        passed = ((found.until or now) - NOW) / 1e6 if found.until else passed + 30
    return None


def told(made: Sequence[Case], leaves_at: Callable[[Case], float | None]) -> tuple[float, float, float]:
    """Mean minutes to the result, part of the work done twice, part of the stages that left."""
    ends, twice, left = 0.0, 0.0, 0
    for case in made:
        at = leaves_at(case)
        if at is None or at >= case.outage:
            ends += case.stays()
            continue
        end, double = case.leaves(at)
        ends, twice, left = ends + end, twice + double, left + 1
    return ends / len(made) / 60, twice / sum(case.rerun for case in made), left / len(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    # only outages that outlast `after` are a question at all
    made = [case for case in cases(asked.cases * 60, asked.seed) if case.outage > AFTER][: asked.cases]
    past = [case.outage for case in cases(200, asked.seed + 1)]
    half = median(case.outage for case in made) / 60
    print(f"{len(made)} outages of more than {AFTER / 60:g} min, half of them of more than {half:.0f} min")
    print(f"{'rule':<22}{'minutes to the result':>22}{'done twice':>12}{'left':>8}")
    rows: list[tuple[str, Callable[[Case], float | None]]] = [
        ("never", lambda _: None),
        ("at after", lambda _: AFTER),
        *((f"weighed, {lane}", lambda case, lane=lane: weighed(case, lane, ())) for lane in ("urgent", "normal")),
        ("weighed, with a past", lambda case: weighed(case, "normal", past)),
    ]
    for name, rule in rows:
        minutes, twice, left = told(made, rule)
        print(f"{name:<22}{minutes:>22.1f}{twice:>12.1%}{left:>8.0%}")


if __name__ == "__main__":
    main()
