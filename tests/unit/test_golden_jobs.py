"""What each machine is given for the users' documents, word for word: tests/golden/<machine>/<document>-<stage>.txt.

After a change that is meant, `GOLDEN_REWRITE=1 pytest tests/unit/test_golden_jobs.py` writes them anew; read the diff.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from broker.engine.start import start
from broker.facts import NATIVE, World, rules_at, site_setup
from broker.jobs import Job, job_spec
from broker.rows import stage_row
from broker.sites import load_sites
from broker.spec import CompiledStage, compile_workflow, load_workflow, read_document
from broker.store.base import Installation
from connectors.base import Scripted
from connectors.model import JobSpec
from connectors.registry import SiteConfig, make_site

GOLDEN = Path(__file__).parents[1] / "golden"
EXAMPLES = Path(__file__).parents[3] / "shared" / "design" / "examples"
NOW = 1_790_000_000_000_000
KEY, DIGEST = "cfgoldengolden0", "0123456789abcdef" * 4
PARAMS = {
    "mpi-two-site": {"case": "iter-15ma"},
    "tomo-832": {"folder": "beamtime-7", "scan": "20260202_101500_shale"},
    "stream-832": {},
}
CONF = ("cf_native_var", "cf_restart_var", "cf_fence", "cf_beat", "cf_walltime", "cf_before_end")
"""What the machine has a say in."""
CONTAINERS_SCRIPT = re.compile(r'"[^"\n]*# crossfade: fetch the rest [^\n]*"')
JOBS = [
    # folder of the golden files, site, document, stage
    ("perlmutter", "nersc", "tomo-832", "recon"),
    ("perlmutter", "nersc", "tomo-832", "multires"),
    ("perlmutter", "nersc", "stream-832", "session"),
    ("perlmutter-gpu", "perlmutter", "mpi-two-site", "solve"),
    ("polaris", "alcf", "tomo-832", "recon"),
    ("polaris", "polaris", "mpi-two-site", "solve"),
    ("crux", "crux", "tomo-832", "recon"),
    ("aurora", "aurora", "mpi-two-site", "solve"),
    ("frontier", "frontier", "mpi-two-site", "solve"),
    ("defiant", "olcf", "tomo-832", "recon"),
    ("slurm", "cluster", "mpi-two-site", "solve"),
    ("slurm", "cluster", "tomo-832", "recon"),
    ("pbs", "college", "mpi-two-site", "solve"),
    ("pbs", "college", "tomo-832", "recon"),
    ("kubernetes", "cloud", "mpi-two-site", "solve"),
    ("aws", "aws", "tomo-832", "multires"),
]


@cache
def configs() -> dict[str, SiteConfig]:
    return dict(load_sites(GOLDEN / "sites.yaml", home=Path(), cwd=Path(), env={}).configs)


def stage_of(document: str, name: str, folder: Path) -> tuple[CompiledStage, str]:
    raw = read_document(GOLDEN / f"{document}.yaml")
    for stage in raw.data["stages"].values():
        for path in stage.get("files", []):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text("pass\n")
    compiled = compile_workflow(load_workflow(raw, base=folder), params=PARAMS[document], base=folder)
    return next(stage for stage in compiled.stages if stage.path == name), compiled.contact


def spec_for(site: str, document: str, name: str, folder: Path) -> JobSpec:
    """The job of a first attempt there, under a key and a digest that no change of a document moves."""
    stage, contact = stage_of(document, name, folder)
    config = configs()[site]
    world = World(installation=Installation("a" * 32, 0, NOW), sites={site: site_setup(config)})
    row = stage_row("run-1", 0, stage.path, stage.rules, stage.body, stage.digest, 0, NOW)
    walltime = rules_at(stage.rules, site, config.profile).resources.walltime
    begun = start(world, row, site=site, why="first", restore=None, walltime=walltime, now=NOW)
    attempt = begun.attempt._replace(submit_key=KEY, digest=DIGEST)
    return job_spec(world, Job(stage=row, attempt=attempt, contact=contact))


def rendered(config: SiteConfig, spec: JobSpec) -> str:
    """The job script, the request that carries it, and the payload's own script."""
    site = make_site(config, lambda: NOW)
    assert isinstance(site, Scripted)
    given = site.script(spec)
    files = {file.path: file.content.decode() for file in spec.files}
    conf = files[".crossfade/job.conf"].splitlines()
    parts = {
        # of a container the scripts are the same for every job; the request tells all
        "job script": given.script if config.container != NATIVE else "",
        "request": CONTAINERS_SCRIPT.sub('"(the script that fetches the job)"', given.request),
        "payload": files[".crossfade/payload.sh"].partition("unset cf_stat\n")[2],
        "job.conf": "\n".join(line for line in conf if line.partition("=")[0] in CONF),
    }
    return "".join(f"=== {name}\n{text.rstrip()}\n" for name, text in parts.items() if text)


@pytest.mark.parametrize(("machine", "site", "document", "stage"), JOBS)
def test_a_machine_is_given_what_its_engineers_would_write(
    machine: str, site: str, document: str, stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOLDEN_TOKEN", "GOLDEN_KEY", "GOLDEN_SECRET"):
        monkeypatch.setenv(name, f"{name.lower()}-is-secret")
    told = rendered(configs()[site], spec_for(site, document, stage, tmp_path))
    assert "is-secret" not in told
    path = GOLDEN / machine / f"{document}-{stage}.txt"
    if os.environ.get("GOLDEN_REWRITE"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(told)
    assert told == path.read_text()


def test_there_is_no_golden_file_that_nothing_makes() -> None:
    made = {f"{machine}/{document}-{stage}.txt" for machine, _, document, stage in JOBS}
    assert {str(path.relative_to(GOLDEN)) for path in GOLDEN.glob("*/*.txt")} == made


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the users' documents are not beside this repository")
@pytest.mark.parametrize("document", PARAMS)
def test_the_reduced_documents_say_nothing_that_the_users_do_not(document: str) -> None:
    def surplus(ours: Any, theirs: Any, path: str) -> list[str]:
        if isinstance(ours, dict) and isinstance(theirs, dict):
            return [found for key in ours for found in surplus(ours[key], theirs.get(key), f"{path}.{key}")]
        if isinstance(ours, list) and isinstance(theirs, list) and ours and isinstance(ours[0], dict):
            pairs = enumerate(zip(ours, theirs, strict=True))
            return [found for i, (one, other) in pairs for found in surplus(one, other, f"{path}[{i}]")]
        if isinstance(ours, list) and isinstance(theirs, list):
            return [f"{path}: {one}" for one in ours if one not in theirs]
        return [] if ours == theirs else [path]

    ours, theirs = (dict(read_document(folder / f"{document}.yaml").data) for folder in (GOLDEN, EXAMPLES))
    assert surplus(ours, theirs, "") == []
