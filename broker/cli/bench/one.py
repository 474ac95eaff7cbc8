"""One measured run: a document of empty stages, submitted, carried through the embedded broker, and audited."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from broker.audit import audit_run
from broker.cli.bench.machine import Meter, peak_mib
from broker.config import Settings
from broker.errors import RunFailed
from broker.service import Request, Service, open_store
from broker.serving import Connected, connect, serve_connected
from broker.sites import load_sites
from broker.store.base import Store
from connectors.model import JobSpec
from sandbox.connector import SimulatedSite
from sandbox.dagwork import Graph, check, make

GIVE_UP_AFTER = 1800.0
"""Seconds."""
ENDS = ("SUCCEEDED", "FAILED", "CANCELED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one run took. Rates count from before the document is read to the end of the last stage."""

    stages: int
    span_s: float
    stages_s: float
    cpu_ms_stage: float
    first_ms: float
    """From before the document is read to the first stage's start."""
    peak_mib: float
    others_cores: float
    commits_stage: float
    statements_stage: float
    missing: int
    out_of_order: int
    repeated: int
    violations: int

    @property
    def valid(self) -> bool:
        """Did every stage run, once, after its parents, and does the audit find nothing?"""
        return not (self.missing or self.out_of_order or self.repeated or self.violations)


def measure(*, shape: str, n: int, seed: int, site: str, sites: int, sleep: float, folder: Path) -> Measured:
    """Run one graph in a home of its own below `folder`."""
    graph = make(shape, n, seed)
    with tempfile.TemporaryDirectory(dir=folder, prefix="bench-") as name:
        home = Path(name)
        document = home / "bench.json"
        document.write_text(json.dumps(_document(graph, home / "events", site=site, sleep=sleep)))
        return _run(graph, document, home, site=site, sites=sites)


def _document(graph: Graph, events: Path, *, site: str, sleep: float) -> dict[str, object]:
    """The graph as a workflow document. At a simulated site the body is the site's own; locally it is a shell's."""
    real = site == "local"
    line = f"echo {{n}} 0 >> '{events}'" if real else (f": sim seconds={sleep:g}" if sleep else ":")
    if real and sleep:
        line += f"; sleep {sleep:g}"
    stages = {
        f"s{number}": {"run": line.replace("{n}", str(number)), "needs": [f"s{p}" for p in parents]}
        for number, parents in graph
    }
    return {"crossfade": 1, "name": "bench", "stages": stages}


def _site_document(home: Path, *, site: str, sites: int) -> Path:
    entries: dict[str, object] = {}
    for k in range(sites):
        entry: dict[str, object] = {"profile": "local", "root": str(home / f"site{k}")}
        if site != "local":
            entry = {"profile": "simulated", "root": f"/simulated/{k}", "slots": 512, "poll": 0}
        entries[f"{site}{k}"] = entry
    path = home / "sites.yaml"
    path.write_text(json.dumps({"crossfade": 1, "sites": entries}))
    return path


def _run(graph: Graph, document: Path, home: Path, *, site: str, sites: int) -> Measured:
    settings = Settings(home=home / "home", sites=_site_document(home, site=site, sites=sites))
    events = home / "events"
    with ExitStack() as stack:
        known = load_sites(settings.sites, home=settings.home, cwd=home, env={})
        store = open_store(settings)
        stack.callback(store.close)
        service = Service(settings=settings, store=store, sites=known)
        connected = connect(settings, known, store)
        stack.callback(connected.close)
        starts = _hook(connected, events) if site != "local" else None
        embedded = stack.enter_context(serve_connected(settings, connected, store))
        before, meter, began = replace(store.counts), Meter(), time.time()
        run_id = service.submit(Request(document=document, params={})).run_id
        embedded.wake(run_id)
        _wait(store, run_id)
        wall, own, others = meter.read()
        if starts is not None:
            starts()
        tally = check(graph, events)
        n, used = len(graph), store.counts
        first = tally.first if site != "local" else _first_start(store, run_id)
        return Measured(
            stages=n,
            span_s=wall,
            stages_s=n / wall,
            cpu_ms_stage=own * 1000 / n,
            first_ms=(first - began) * 1000,
            peak_mib=peak_mib(),
            others_cores=others,
            commits_stage=(used.commits - before.commits) / n,
            statements_stage=(used.statements - before.statements) / n,
            missing=tally.missing,
            out_of_order=tally.out_of_order,
            repeated=tally.repeated,
            violations=len(audit_run(store, run_id)),
        )


def _hook(connected: Connected, events: Path) -> Callable[[], None]:
    """Have every simulated site append a line for each execution; returns what closes the file."""
    file = events.open("a", buffering=1, encoding="ascii")
    lock = threading.Lock()

    def started(spec: JobSpec, now: int) -> None:
        number = spec.comment.rsplit("/s", 1)[1].split("@", 1)[0]
        with lock:
            file.write(f"{number} {now / 1e6:.6f}\n")

    for made in connected.sites.values():
        if isinstance(made, SimulatedSite):
            made.model.on_start(started)
    return file.close


def _wait(store: Store, run_id: str) -> None:
    deadline = time.monotonic() + GIVE_UP_AFTER
    while time.monotonic() < deadline:
        row = store.run(run_id)
        if row is not None and row.state in ENDS:
            if row.state != "SUCCEEDED":
                raise RunFailed(f"the benchmark's run ended {row.state}: {row.reason}")
            return
        time.sleep(0.005)
    raise RunFailed(f"the benchmark's run was not over after {GIVE_UP_AFTER:g} s")


def _first_start(store: Store, run_id: str) -> float:
    return min(a.started_at for a in store.attempts(run_id) if a.started_at is not None) / 1e6


def main(argv: list[str]) -> int:
    """The child process that one run gets, so that its memory is its own: options in, one line of JSON out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("options", help="JSON: the keywords of `measure`")
    options: Mapping[str, object] = json.loads(parser.parse_args(argv).options)
    measured = measure(**{**options, "folder": Path(str(options["folder"]))})  # type: ignore[arg-type]
    sys.stdout.write(json.dumps({**asdict(measured), "valid": measured.valid}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
