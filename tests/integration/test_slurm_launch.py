"""A document's ranks on a real Slurm: `${{ launch }}` starts as many processes as asked for, over all its nodes."""

from __future__ import annotations

from pathlib import Path

from slurm_kit import SlurmCluster, wait_until

from broker.clock import wall_clock
from broker.engine.start import start
from broker.facts import World, site_setup
from broker.ids import random_bits
from broker.jobs import Job, job_spec
from broker.rows import stage_row
from broker.sites import sites_of
from broker.spec import compile_workflow, document_from, load_workflow, parse_document
from broker.store.base import Installation
from connectors.base import Preparable
from connectors.model import Accepted, JobSpec, JobState
from connectors.registry import SiteConfig, make_site

DOCUMENT = """\
crossfade: 1
name: ranks
policy: {lane: [urgent, normal]}
stages:
  solve:
    run: |
      ${{ launch }} sh -c 'echo "$SLURM_PROCID $SLURM_NODEID" > "rank.$SLURM_PROCID"'
      echo "$SLURM_JOB_PARTITION" > lane
    resources: {ranks: 3, cores_per_rank: 16, walltime: 5m}
    outputs: [{path: lane}]
"""


def site_of(cluster: SlurmCluster, root: Path) -> SiteConfig:
    entry = {
        "profile": "slurm",
        "root": str(root),
        "cores": 32,
        "nodes": 2,
        "heartbeat": "1s",
        "fence": "5s",
        "lanes": {"urgent": {"partition": "realtime"}, "normal": {"partition": "regular"}},
        "options": {"environment": {"SLURM_CONF": str(cluster.conf)}, "path": ["/usr/sbin"]},
    }
    document = document_from({"crossfade": 1, "sites": {"campus": entry}}, name="sites")
    return sites_of(document, base=root, where="").configs["campus"]


def solve_at(config: SiteConfig) -> JobSpec:
    """The stage's first attempt there, as the engine would begin it."""
    stage = compile_workflow(load_workflow(parse_document(DOCUMENT, name="t"), base=None), params={}, base=None).stages[
        0
    ]
    now, run_id = wall_clock(), f"run-{random_bits(32)}"
    world = World(installation=Installation(f"{random_bits(64):032x}", 0, now), sites={"campus": site_setup(config)})
    row = stage_row(run_id, 0, stage.path, stage.rules, stage.body, stage.digest, 0, now)
    begun = start(world, row, site="campus", why="first", restore=None, walltime=300.0, now=now)
    return job_spec(world, Job(stage=row, attempt=begun.attempt))


def test_ranks_run_on_as_many_nodes_as_they_fill_in_the_lane_that_the_document_wished_for(
    slurm_cluster: SlurmCluster, tmp_path: Path
) -> None:
    config = site_of(slurm_cluster, tmp_path / "root")
    site, spec = make_site(config, wall_clock), solve_at(config)
    assert isinstance(site, Preparable)
    site.prepare()
    assert (spec.resources.nodes, spec.resources.ranks_per_node) == (2, 2)
    assert isinstance(site.submit([spec])[spec.key], Accepted)

    def ended() -> bool:
        (status,) = site.status([spec.key]).items
        return status.state.final

    wait_until(ended, within=60.0, what=f"{spec.key} has ended")
    folder = tmp_path / "root" / spec.directory
    log = (folder / ".crossfade" / "wrapper.log").read_text()
    (status,) = site.status([spec.key]).items
    assert status.state is JobState.SUCCEEDED, log + (folder / ".crossfade" / "g1" / "stderr").read_text()
    ranks = sorted(path.read_text().split() for path in folder.glob("rank.*"))
    assert [rank for rank, _ in ranks] == ["0", "1", "2"]
    assert {node for _, node in ranks} == {"0", "1"}
    assert (folder / "lane").read_text() == "realtime\n"
