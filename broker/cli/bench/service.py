"""`crossfade bench --service`: workers, a server, PostgreSQL and Redis, and one simulated site that all share.

What is timed is what a client sees: from before the document is sent to the last stage's product. CPU is that of the
client, the server, the workers, PostgreSQL, Redis and the site; what of it the site takes stands beside it.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from broker.audit import audit_run
from broker.cli.bench.crew import Crew, Event, server_pids
from broker.cli.bench.machine import QUIET, TreeMeter, tree_seconds
from broker.client import Client
from broker.errors import RunFailed, UsageError
from broker.service import open_store
from broker.states import RunState
from sandbox.dagwork import Graph, check, make

GIVE_UP_AFTER = 1800.0
WARM_UP = 17
NAME = "bench"
"""Of the benchmark's runs."""
SMALL_RUNS = 10
"""How many graphs of 100 stages are measured together: one alone is over within a few ticks of the kernel's clock."""


def document(graph: Graph) -> dict[str, object]:
    """The graph as a workflow document of empty stages."""
    stages = {f"s{number}": {"run": ":", "needs": [f"s{p}" for p in parents]} for number, parents in graph}
    return {"crossfade": 1, "name": NAME, "stages": stages}


class Stand:
    """A service that is measured."""

    def __init__(self, crew: Crew, client: Client, servers: Callable[[], Sequence[int]]) -> None:
        """`servers`: the processes of PostgreSQL and Redis, as they are now."""
        self.crew, self.client, self._servers = crew, client, servers

    def meter(self) -> TreeMeter:
        """Of everything: the broker's processes, the servers, this client, the site."""
        return TreeMeter([os.getpid(), *self.crew.pids, *self._servers(), self.crew.host_pid])

    def submit(self, sent: dict[str, object]) -> str:
        return self.client.submit(sent).run

    def run(self, graph: Graph) -> dict[str, Any]:
        """One run, from its submission to its last product."""
        sent = document(graph)
        site, meter = tree_seconds([self.crew.host_pid]), self.meter()
        began = time.time()
        run_id = self.submit(sent)
        answered = time.time()
        events = self.wait(run_id, len(graph))
        wall, used, others = meter.read()
        site = tree_seconds([self.crew.host_pid]) - site
        n = len(graph)
        return {
            "stages": n,
            "span_s": wall,
            "stages_s": n / wall,
            "cpu_ms_stage": used * 1000 / n,
            "site_cpu_ms_stage": site * 1000 / n,
            "answer_ms": (answered - began) * 1000,
            "first_ms": (events[0].at - began) * 1000,
            "others_cores": others,
            "run": run_id,
        }

    def wait(self, run_id: str, count: int) -> Sequence[Event]:
        """Until every stage has begun and the run is over; what has begun. Raises RunFailed."""
        deadline = time.monotonic() + GIVE_UP_AFTER
        while time.monotonic() < deadline:
            if len(self.crew.events.of(run_id)) < count:
                time.sleep(0.005)
                continue
            view = self.client.history(limit=20)
            state = next((item["state"] for item in view if item["run"] == run_id), "not known")
            if state == RunState.SUCCEEDED.value:
                return self.crew.events.of(run_id)
            if state in ("FAILED", "CANCELED"):
                raise RunFailed(f"the benchmark's run ended {state}")
            time.sleep(0.005)
        raise RunFailed(f"the benchmark's run was not over after {GIVE_UP_AFTER:g} s")

    def audit(self, graph: Graph, run_id: str) -> dict[str, int]:
        """What is wrong with a run: by the site's word, and by the broker's rows."""
        events = self.crew.events.of(run_id)
        with tempfile.NamedTemporaryFile("w", dir=self.crew.folder, suffix=".events") as file:
            file.writelines(f"{event.number} {event.at:.6f}\n" for event in events)
            file.flush()
            tally = check(graph, file.name)
        with closing(open_store(self.crew.settings)) as store:
            violations = len(audit_run(store, run_id))
        counts = {"missing": tally.missing, "out_of_order": tally.out_of_order, "repeated": tally.repeated}
        return {**counts, "violations": violations}


def throughput(stand: Stand, *, shape: str, n: int, seed: int, runs: int) -> dict[str, Any]:
    """Runs of one graph, one after the other; medians."""
    graph = make(shape, n, seed)
    measured = []
    for _ in range(runs):
        result = stand.run(graph)
        measured.append({**result, **stand.audit(graph, result["run"])})
    return {"shape": shape, **summary(measured)}


def summary(measured: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, whether the machine was quiet and all was valid, and all runs."""
    figures = ("stages_s", "cpu_ms_stage", "site_cpu_ms_stage", "answer_ms", "first_ms", "span_s", "others_cores")
    wrong = ("missing", "out_of_order", "repeated", "violations")
    return {
        "n": measured[0]["stages"],
        **{name: round(statistics.median(run[name] for run in measured), 3) for name in figures},
        "quiet": all(run["others_cores"] <= QUIET for run in measured),
        "valid": not any(run[name] for run in measured for name in wrong),
        "runs": measured,
    }


def first_starts(stand: Stand, *, count: int) -> dict[str, Any]:
    """From a submission to its first stage's start, with one submission after the other to a service that idles."""
    sent = document([(0, ())])
    waits, answers = [], []
    meter = stand.meter()
    for _ in range(count):
        began = time.time()
        run_id = stand.submit(sent)
        answers.append((time.time() - began) * 1000)
        while not (events := stand.crew.events.of(run_id)):
            if time.time() - began > GIVE_UP_AFTER:
                raise RunFailed("a submission was never begun")
            time.sleep(0.001)
        waits.append((events[0].at - began) * 1000)
    _, _, others = meter.read()
    return {
        "submissions": count,
        **{f"p{share}_ms": round(_share(waits, share), 1) for share in (50, 90, 99)},
        "longest_ms": round(max(waits), 1),
        "answer_p50_ms": round(_share(answers, 50), 1),
        "others_cores": round(others, 3),
        "quiet": others <= QUIET,
    }


def growth(stand: Stand, *, shape: str, seed: int, large: int) -> dict[str, Any]:
    """CPU per stage of one large graph over that of small ones."""
    small, big = make(shape, 100, seed), make(shape, large, seed)
    meter = stand.meter()
    names = [stand.run(small)["run"] for _ in range(SMALL_RUNS)]
    _, used, others = meter.read()
    few = used * 1000 / (SMALL_RUNS * len(small))
    result = stand.run(big)
    wrong = [stand.audit(small, name) for name in names] + [stand.audit(big, result["run"])]
    return {
        "n_small": len(small),
        "n_large": len(big),
        "small_cpu_ms_stage": round(few, 3),
        "large_cpu_ms_stage": round(result["cpu_ms_stage"], 3),
        "large_stages_s": round(result["stages_s"], 1),
        "large_first_ms": round(result["first_ms"], 1),
        "growth": round(result["cpu_ms_stage"] / few, 3),
        "quiet": max(others, result["others_cores"]) <= QUIET,
        "valid": not any(count for counts in wrong for count in counts.values()),
    }


def measure(
    *, database: str, redis: str, shape: str, n: int, seed: int, runs: int, submissions: int, large: int, folder: Path
) -> dict[str, Any]:
    """All of it, over servers that run; what is 0 is left out. Raises UsageError, RunFailed."""
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix="b-") as name,
        Crew(Path(name), database=database, redis=redis) as crew,
    ):
        crew.migrate()
        refuse_in_use(crew)
        crew.start()
        crew.wait_ready()
        with crew.client() as client:
            servers = server_pids(crew.settings)
            stand = Stand(crew, client, lambda: servers)
            stand.run(make("fan", WARM_UP, 1))
            found: dict[str, Any] = {"throughput": throughput(stand, shape=shape, n=n, seed=seed, runs=runs)}
            if submissions:
                found["first"] = first_starts(stand, count=submissions)
            if large:
                found["growth"] = growth(stand, shape=shape, seed=seed, large=large)
            return found


def refuse_in_use(crew: Crew) -> None:
    """Raises UsageError when the database holds runs of anybody else."""
    with closing(open_store(crew.settings)) as store:
        if any(run.name != NAME for run in store.runs(limit=1000)):
            what = f"{crew.settings.where} holds runs that are none of the benchmark's"
            raise UsageError(what, help="name an empty database: it is filled with the benchmark's runs")


def _share(values: Sequence[float], share: int) -> float:
    """The value that so many per cent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * share // 100) - 1))]
