"""`crossfade bench`: the broker measured on graphs of empty stages, as benchmarks/README.md tells."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from broker.cli.bench.machine import QUIET
from broker.cli.session import Session, note
from broker.errors import RunFailed, UsageError

WARM_UP = 17
"""Stages of the run that is not counted."""


@click.command()
@click.option(
    "--shape", type=click.Choice(["fan", "chain", "layered", "montage"]), default="layered", show_default=True
)
@click.option("--n", "n", type=click.IntRange(17, 1_000_000), default=1000, show_default=True, help="Stages.")
@click.option("--seed", default=1, show_default=True, help="Of the graph.")
@click.option("--runs", type=click.IntRange(1, 100), default=3, show_default=True, help="The median is told.")
@click.option(
    "--site",
    type=click.Choice(["simulated", "local"]),
    default="simulated",
    show_default=True,
    help="Simulated: the broker alone is measured. Local: every stage is a real process.",
)
@click.option("--sites", type=click.IntRange(1, 64), default=1, show_default=True, help="How many sites there are.")
@click.option("--stage-sleep", type=click.FloatRange(0, 60), default=0.0, show_default=True, help="Seconds per stage.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the databases are made, on the disk to be measured; otherwise below CROSSFADE_HOME.",
)
@click.option("--service", "as_service", is_flag=True, help="Measure workers, server, PostgreSQL and Redis instead.")
@click.option("--database", metavar="URL", help="With --service: an empty PostgreSQL database, to be filled with runs.")
@click.option("--redis", metavar="URL", help="With --service: a Redis.")
@click.option(
    "--submissions",
    type=click.IntRange(0, 10_000),
    default=200,
    show_default=True,
    help="With --service: of one stage, one after the other, to see how soon each begins; 0: none.",
)
@click.option(
    "--large",
    type=click.IntRange(0, 1_000_000),
    default=0,
    show_default=True,
    help="With --service: stages of a graph whose CPU per stage is compared with that of 100 stages; 0: none.",
)
@click.option("--json", "as_json", is_flag=True, help="One object on stdout.")
@click.pass_obj
def bench(
    session: Session,
    shape: str,
    n: int,
    seed: int,
    runs: int,
    site: str,
    sites: int,
    stage_sleep: float,
    folder: Path | None,
    as_service: bool,
    database: str | None,
    redis: str | None,
    submissions: int,
    large: int,
    as_json: bool,
) -> None:
    """Measure the broker on a graph of empty stages; every run is audited like any other.

    By default the embedded one. With --service: two workers and a server of their own, over the PostgreSQL and the
    Redis named (a password comes from the file in CROSSFADE_DATABASE_PASSWORD_FILE, CROSSFADE_REDIS_PASSWORD_FILE).
    """
    where = folder or session.settings.home
    where.mkdir(parents=True, exist_ok=True)
    if as_service:
        if not (database and redis):
            raise UsageError("--service needs --database and --redis", help="benchmarks/service.py starts both")
        from broker.cli.bench.service import measure  # noqa: PLC0415 - imports the web framework

        _tell_service(
            measure(
                database=database,
                redis=redis,
                shape=shape,
                n=n,
                seed=seed,
                runs=runs,
                submissions=submissions,
                large=large,
                folder=where,
            ),
            as_json=as_json,
        )
        return
    if database or redis:
        raise UsageError("--database and --redis go with --service")
    options = {"shape": shape, "seed": seed, "site": site, "sites": sites, "sleep": stage_sleep, "folder": str(where)}
    _one({**options, "n": WARM_UP})
    measured = []
    for number in range(runs):
        measured.append(_one({**options, "n": n}))
        note(f"run {number + 1} of {runs}: {_line(measured[-1])}")
    summary = _summary(measured, {**options, "n": n})
    click.echo(json.dumps(summary) if as_json else _table(summary))
    if not summary["valid"]:
        raise RunFailed("a run was not valid: see missing, out_of_order, repeated and violations")


def _tell_service(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found))
    for part, figures in found.items():
        if not as_json:
            click.echo(f"{part}\n{_table(figures)}\n")
        if not figures.get("valid", True):
            raise RunFailed(f"a run of the part {part} was not valid")


def _one(options: dict[str, Any]) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "broker.cli.bench.one", json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunFailed(f"a run of the benchmark broke off: {done.stderr.strip()[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _summary(measured: list[dict[str, Any]], options: dict[str, Any]) -> dict[str, Any]:
    """Medians, and all runs."""
    figures = ("stages_s", "cpu_ms_stage", "first_ms", "span_s", "peak_mib", "others_cores", "commits_stage")
    medians = {name: round(statistics.median(run[name] for run in measured), 3) for name in figures}
    quiet = all(run["others_cores"] <= QUIET for run in measured)
    return {
        "shape": options["shape"],
        "n": measured[0]["stages"],
        "seed": options["seed"],
        "site": options["site"],
        "sites": options["sites"],
        **medians,
        "quiet": quiet,
        "valid": all(run["valid"] for run in measured),
        "runs": measured,
    }


def _line(run: dict[str, Any]) -> str:
    quiet = "" if run["others_cores"] <= QUIET else f", NOT QUIET: others took {run['others_cores']:.2f} cores"
    return (
        f"{run['stages_s']:.0f} stages/s, {run['cpu_ms_stage']:.2f} CPU ms/stage, "
        f"first after {run['first_ms']:.0f} ms, {run['peak_mib']:.0f} MiB{quiet}"
    )


def _table(summary: dict[str, Any]) -> str:
    rows = [f"{name:14} {value}" for name, value in summary.items() if name != "runs"]
    if not summary["quiet"]:
        rows.append("The machine was not quiet: compare CPU ms/stage, not rates.")
    return "\n".join(rows)
