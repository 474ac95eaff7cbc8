"""The service and Celery itself, side by side in one run: `python benchmarks/service.py --n 1000 --runs 3`.

Starts a PostgreSQL and a Redis for the service, durable, and for each run of a peer a Redis of its own. Runs of the
service and of its peers take turns, so that whatever else the machine does meets all of them. Then: 200 small
submissions, growth from 100 to 10 000 stages, and everything killed at once half-way through a run and started again.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from peers import run as peers  # noqa: E402
from servers import PostgreSQL, Redis  # noqa: E402

from broker.cli.bench import service  # noqa: E402
from broker.cli.bench.crew import Crew, Event  # noqa: E402
from broker.cli.bench.machine import TreeMeter  # noqa: E402
from broker.cli.bench.service import Stand  # noqa: E402
from broker.errors import BrokerError  # noqa: E402
from sandbox.dagwork import Graph, make  # noqa: E402

AGAIN_WITHIN = 60.0
"""Seconds."""


def side_by_side(stand: Stand, *, shape: str, n: int, seed: int, runs: int, forms: Sequence[str]) -> dict[str, Any]:
    """Runs in turns; medians of each."""
    graph = make(shape, n, seed)
    ours: list[dict[str, Any]] = []
    theirs: dict[str, list[dict[str, Any]]] = {form: [] for form in forms}
    for turn in range(runs):
        for form in forms:
            theirs[form].append(peers.one(form, shape=shape, n=n, seed=seed))
            _say(f"{turn + 1}/{runs} celery {form}", theirs[form][-1])
        result = stand.run(graph)
        ours.append({**result, **stand.audit(graph, result["run"])})
        _say(f"{turn + 1}/{runs} crossfade", ours[-1])
    table = {form: peers.summary(form, shape, found) for form, found in theirs.items()}
    return {"crossfade": {"tool": "crossfade", "shape": shape, **service.summary(ours)}, **table}


def restart(stand: Stand, postgres: PostgreSQL, redis: Redis, *, shape: str, n: int, seed: int) -> dict[str, Any]:
    """Kill -9 of workers, server, Redis and PostgreSQL when half of the stages have begun; then all start again.
    Times count from the moment at which the broker's own processes are started, the databases being up."""
    crew, graph = stand.crew, make(shape, n, seed)
    run_id = _half(stand, graph)
    crew.kill9()
    redis.kill9()
    postgres.kill9()
    stand.client.close()
    begun = len(crew.events.of(run_id))
    powered = time.time()
    postgres.start()
    redis.start()
    up, meter = time.time(), TreeMeter([os.getpid()])
    crew.start()
    with ThreadPoolExecutor(1) as beside:
        told = beside.submit(crew.wait_ready)
        new, answered = _submitted(crew)
        first = _event(crew, new, 0)
        ready = told.result()
    _, used, others = meter.read()
    stand.client = crew.client()
    listening = ready.pop("serve")
    return {
        "databases_s": round(up - powered, 3),
        "listening_s": round(listening - up, 3),
        "working_s": round(min(ready.values()) - up, 3),
        "answered_s": round(answered - up, 3),
        "first_start_s": round(first.at - up, 3),
        "first_start_after_ready_s": round(first.at - max(listening, min(ready.values())), 3),
        "cpu_s": round(used, 2),
        "others_cores": round(others, 3),
        **_gone_on(stand, graph, run_id, begun, up),
    }


def restart_workers(stand: Stand, *, shape: str, n: int, seed: int) -> dict[str, Any]:
    """Kill -9 of both workers when half of the stages have begun; then they start again. All else goes on."""
    graph = make(shape, n, seed)
    run_id = _half(stand, graph)
    stand.crew.kill9(but=["serve"])
    begun, up = len(stand.crew.events.of(run_id)), time.time()
    stand.crew.start()
    return _gone_on(stand, graph, run_id, begun, up)


def _half(stand: Stand, graph: Graph) -> str:
    """A run of which half of the stages have begun."""
    run_id = stand.submit(service.document(graph))
    while len(stand.crew.events.of(run_id)) < len(graph) // 2:
        time.sleep(0.001)
    return run_id


def _gone_on(stand: Stand, graph: Graph, run_id: str, begun: int, up: float) -> dict[str, Any]:
    """When the run went on and was over, and what the site and the audit say of it."""
    resumed = _event(stand.crew, run_id, begun).at - up if begun < len(graph) else None
    events = stand.wait(run_id, len(graph))
    return {
        "begun_before": begun,
        "resumed_s": None if resumed is None else round(resumed, 3),
        "over_s": round(time.time() - up, 3),
        "missing": len(graph) - len({item.number for item in events}),
        "same_attempt_twice": len(events) - len({(item.number, item.attempt) for item in events}),
        "stages_again": len(events) - len(graph),
        "violations": stand.audit(graph, run_id)["violations"],
    }


def _submitted(crew: Crew) -> tuple[str, float]:
    """A new run, asked for again and again until a server takes it; and when that was."""
    sent = service.document([(0, ())])
    deadline = time.monotonic() + AGAIN_WITHIN
    while time.monotonic() < deadline:
        if crew.listens():  # a client costs some 30 ms to make
            try:
                with crew.client() as client:
                    return client.submit(sent).run, time.time()
            except BrokerError:  # not yet
                pass
        time.sleep(0.005)
    raise SystemExit("no server took a submission after the restart")


def _event(crew: Crew, run_id: str, number: int) -> Event:
    """The so-manieth execution of a run, as soon as it has begun."""
    deadline = time.monotonic() + AGAIN_WITHIN
    while len(events := crew.events.of(run_id)) <= number:
        if time.monotonic() > deadline:
            raise SystemExit("a run does not go on after the restart")
        time.sleep(0.002)
    return events[number]


# -- the table ---------------------------------------------------------------------------------------------------


def table(found: dict[str, Any]) -> str:
    rows = [("", "stages/s", "CPU ms/stage", "of it site", "first ms", "others", "valid")]
    for name, item in found.get("side by side", {}).items():
        label = f"{item['tool']} {item['shape'] if name != 'crossfade' else ''} {item['n']}"
        site = f"{item['site_cpu_ms_stage']:.2f}" if "site_cpu_ms_stage" in item else "-"
        figures = (f"{item['stages_s']:.0f}", f"{item['cpu_ms_stage']:.2f}", site, f"{item['first_ms']:.0f}")
        rows.append((label, *figures, f"{item['others_cores']:.2f}", str(item["valid"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    word = {True: "met   ", False: "MISSED", None: "      "}
    return "\n".join([*lines, "", *(f"{word[met]} {text}" for met, text in bars(found))])


def bars(found: dict[str, Any]) -> list[tuple[bool | None, str]]:
    """What is promised, and whether these figures keep it; None: told, not promised."""
    beside: dict[str, Any] = found.get("side by side", {})
    told: list[tuple[bool | None, str]] = []
    ours = beside.get("crossfade", {})
    for form in ("raw", "lean"):
        if form in beside:
            rate = ours["stages_s"] / beside[form]["stages_s"]
            cpu = ours["cpu_ms_stage"] / beside[form]["cpu_ms_stage"]
            promised = form == "raw"  # the lean one may lose what it was given
            told.append((rate >= 1 if promised else None, f"rate over {form} group: {rate:.2f} (at least 1)"))
            told.append((cpu <= 1.2 if promised else None, f"CPU per stage over {form} group: {cpu:.2f} (at most 1.2)"))
    if "canvas" in beside:
        rate = ours["stages_s"] / beside["canvas"]["stages_s"]
        told.append((rate >= 5, f"rate over canvas: {rate:.1f} (at least 5)"))
    if first := found.get("first"):
        told.append((first["p50_ms"] <= 50, f"submission to start, p50: {first['p50_ms']:.0f} ms (at most 50)"))
        told.append((first["p99_ms"] <= 250, f"submission to start, p99: {first['p99_ms']:.0f} ms (at most 250)"))
    if grown := found.get("growth"):
        told.append(
            (grown["growth"] <= 1.3, f"CPU per stage, {grown['n_large']} over 100: {grown['growth']:.2f} (at most 1.3)")
        )
    if again := found.get("restart"):
        after = statistics.median(item["first_start_after_ready_s"] for item in again)
        told.append((after <= 1, f"restart of all, from up to the first new stage: {after:.2f} s (at most 1)"))
        up = statistics.median(item["first_start_s"] - item["first_start_after_ready_s"] for item in again)
        told.append((None, f"restart of all, until the processes were up: {up:.2f} s"))
    if again := found.get("restart of workers"):
        resumed = statistics.median(item["resumed_s"] or 0 for item in again)
        told.append((None, f"restart of the workers, from their start to the run's next stage: {resumed:.2f} s"))
    return told


def _say(what: str, run: dict[str, Any]) -> None:
    text = f"{what}: {run['stages_s']:.0f} stages/s, {run['cpu_ms_stage']:.2f} CPU ms, others {run['others_cores']:.2f}"
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="layered", choices=["fan", "chain", "layered", "montage"])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--submissions", type=int, default=200, help="0: leave that part out")
    parser.add_argument("--large", type=int, default=10_000, help="stages of the large graph; 0: leave that part out")
    parser.add_argument("--restarts", type=int, default=3)
    parser.add_argument("--forms", default=",".join(peers.FORMS), help="which peers, with commas; empty: none")
    parser.add_argument("--dir", type=Path, help="where databases are made, on the disk to be measured")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cf-", dir=options.dir)))
        folder.chmod(0o755)  # PostgreSQL may have to be another user
        (folder / "b").mkdir(mode=0o700)
        postgres, redis = PostgreSQL(folder / "pg"), Redis(folder / "redis")
        stack.enter_context(postgres)
        stack.enter_context(redis)
        crew = stack.enter_context(Crew(folder / "b", database=postgres.url, redis=redis.url))
        crew.migrate()
        crew.start()
        crew.wait_ready()
        stand = Stand(crew, crew.client(), lambda: [postgres.pid, redis.pid])
        stack.callback(lambda: stand.client.close())  # noqa: PLW0108 - it is another one after a restart
        stand.run(make("fan", service.WARM_UP, 1))
        what = {"shape": options.shape, "n": options.n, "seed": options.seed}
        forms = [form for form in options.forms.split(",") if form]
        if options.runs:
            found["side by side"] = side_by_side(stand, **what, runs=options.runs, forms=forms)
        if options.submissions:
            found["first"] = service.first_starts(stand, count=options.submissions)
        if options.large:
            found["growth"] = service.growth(stand, shape=options.shape, seed=options.seed, large=options.large)
        if options.restarts:
            found["restart of workers"] = [restart_workers(stand, **what) for _ in range(options.restarts)]
            found["restart"] = [restart(stand, postgres, redis, **what) for _ in range(options.restarts)]
    print(json.dumps(found, indent=1) if options.json else table(found))
    if not options.json:
        print(json.dumps({name: value for name, value in found.items() if name != "side by side"}, indent=1))


if __name__ == "__main__":
    main()
