"""Celery beside us: `python benchmarks/peers/run.py --n 1000 --shape layered --runs 3 --json`.

Three forms, each with a Redis of its own (`appendonly yes`, `everysec`) and two workers:

raw     a group of n no-ops; prefork, `acks_late`, result backend: what it takes to not lose a task with a worker
lean    a group of n no-ops; threads, no results, acknowledged on arrival: as little as Celery can do; may lose tasks
canvas  the graph as a chain of groups, one per layer (chords): the only way in which Celery itself keeps an order

A stage appends one line to a file. Time counts from before the group is built to the last line; CPU is that of client,
workers and Redis. None of the forms keeps state that would outlive Redis, or says what happened.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import servers  # noqa: E402 - found beside this folder

from broker.cli.bench.machine import QUIET, TreeMeter  # noqa: E402
from sandbox.dagwork import Graph, check, layers, make  # noqa: E402

FORMS = ("raw", "lean", "canvas")
WARM_UP = 17
GIVE_UP_AFTER = 600.0
"""Seconds."""

Begin = Callable[[Any, Graph], None]


def measure(form: str, *, shape: str, n: int, seed: int, folder: Path) -> dict[str, Any]:
    """One run: its own Redis, its own workers, 17 stages to warm up."""
    graph = make(shape if form == "canvas" else "fan", n, seed)
    events = folder / "events"
    with ExitStack() as stack:
        redis = stack.enter_context(servers.Redis(folder / "redis"))
        environ = {
            "PEER_FORM": "lean" if form == "lean" else "raw",
            "PEER_EVENTS": str(events),
            "PEER_REDIS": redis.url,
        }
        os.environ.update(environ)
        app = _fresh_app()
        workers = stack.enter_context(_workers(form, folder))
        begin = _begin_canvas if form == "canvas" else _begin_group
        begin(app, make("fan", WARM_UP, 1))
        _wait(events, WARM_UP)
        time.sleep(0.5)  # results of the warm-up, idle again
        events.unlink()
        events.touch()
        meter, began = TreeMeter([os.getpid(), redis.pid, *workers]), time.time()
        begin(app, graph)
        _wait(events, len(graph))
        _, own, others = meter.read()
        tally = check(graph, events)
        app.close()
    ordered = form == "canvas"
    return {
        "stages": len(graph),
        "span_s": tally.last - began,
        "stages_s": len(graph) / (tally.last - began),
        "cpu_ms_stage": own * 1000 / len(graph),
        "first_ms": (tally.first - began) * 1000,
        "others_cores": others,
        "valid": not (tally.missing or tally.repeated or (ordered and tally.out_of_order)),
    }


def _fresh_app() -> Any:
    """The application under the environment of this run."""
    sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))
    sys.modules.pop("app", None)
    import app  # noqa: PLC0415 - reads the environment

    return app.app


@contextmanager
def _workers(form: str, folder: Path) -> Iterator[list[int]]:
    """Two: processes of one prefork pool, or two programs with threads."""
    pools = [["prefork", "2"]] if form != "lean" else [["threads", "2"]] * 2
    made = []
    with (folder / "worker.log").open("ab") as log:
        for number, (pool, concurrency) in enumerate(pools):
            command = [sys.executable, "-m", "celery", "-A", "app", "worker", "-P", pool, "-c", concurrency]
            command += ["-n", f"w{number}@%h", "--without-gossip", "--without-mingle", "--without-heartbeat"]
            where = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks" / "peers")])}
            made.append(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **where}))
    try:
        yield [process.pid for process in made]
    finally:
        for process in made:
            process.terminate()
        for process in made:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _begin_group(app: Any, graph: Graph) -> None:
    from celery import group  # noqa: PLC0415

    task = app.tasks["peer.stage"]
    group(task.si(number) for number, _ in graph).apply_async()


def _begin_canvas(app: Any, graph: Graph) -> None:
    from celery import chain, group  # noqa: PLC0415

    task = app.tasks["peer.stage"]
    chain(*(group(task.si(number) for number in layer) for layer in layers(graph))).apply_async()


def _wait(events: Path, count: int) -> None:
    """Until so many lines are there."""
    deadline = time.monotonic() + GIVE_UP_AFTER
    while time.monotonic() < deadline:
        if events.exists() and events.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.01)
    raise SystemExit(f"after {GIVE_UP_AFTER:g} s not all stages have run")


def summary(form: str, shape: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    figures = ("stages_s", "cpu_ms_stage", "first_ms", "span_s", "others_cores")
    return {
        "tool": f"celery {form}",
        "shape": shape if form == "canvas" else "group",
        "n": runs[0]["stages"],
        **{name: round(statistics.median(run[name] for run in runs), 3) for name in figures},
        "quiet": all(run["others_cores"] <= QUIET for run in runs),
        "valid": all(run["valid"] for run in runs),
        "runs": runs,
    }


def one(form: str, *, shape: str, n: int, seed: int) -> dict[str, Any]:
    """One run in a process and a folder of its own."""
    options = json.dumps({"form": form, "shape": shape, "n": n, "seed": seed})
    done = subprocess.run([sys.executable, __file__, "--one", options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"a run broke off: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="layered", choices=["fan", "chain", "layered", "montage"])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--forms", default=",".join(FORMS), help="which, with commas")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    if options.one:
        told = json.loads(options.one)
        with tempfile.TemporaryDirectory(prefix="peers-") as name:
            print(json.dumps(measure(told.pop("form"), **told, folder=Path(name))))
        return
    found = []
    for form in options.forms.split(","):
        runs = [one(form, shape=options.shape, n=options.n, seed=options.seed) for _ in range(options.runs)]
        found.append(summary(form, options.shape, runs))
        if not options.json:
            print(json.dumps({name: value for name, value in found[-1].items() if name != "runs"}), flush=True)
    if options.json:
        print(json.dumps(found))
    if not all(item["valid"] for item in found):
        raise SystemExit("a run was not valid")


if __name__ == "__main__":
    main()
