"""Heads of job scripts, read as sbatch and qsub read them."""

from __future__ import annotations

import pytest

from connectors.model import JobSpec, Resources
from connectors.slurm import job_script
from sandbox.facilities.heads import pbs_order, size, slurm_order, slurm_time
from sandbox.facility import Order, OrderRefused


def test_the_head_that_our_connectors_write_is_understood_whole() -> None:
    spec = JobSpec(
        key="abc123def456ghi",
        digest="d" * 64,
        directory="jobs/a",
        entry=".crossfade/stage.sh",
        resources=Resources(nodes=2, cores=4, gpus=1, memory=1 << 30, walltime=3_661, ranks_per_node=2),
        submit={"queue": "debug", "qos": "urgent", "account": "m1"},
        warn_before=90,
        requeue=False,
    )
    order = slurm_order(job_script(spec, root="/scratch/cf", owner="o"))
    assert (order.name, order.directory) == ("abc123def456ghi", "/scratch/cf/jobs/a")
    assert order.stdout == "/scratch/cf/jobs/a/.crossfade/wrapper.log"
    assert (order.nodes, order.cores, order.gpus, order.memory, order.walltime) == (2, 4, 1, 1 << 30, 3_661.0)
    assert (order.queue, order.qos, order.account) == ("debug", "urgent", "m1")
    assert (order.requeue, order.singleton, order.warn_before) == (False, True, 90)
    assert order.extra["open_mode"] == "append"


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        ("-J name -N2 -p debug", Order(name="name", nodes=2, queue="debug")),
        ("--job-name name --nodes=2-4", Order(name="name", nodes=2)),
        ("--comment='two words' # told", Order(comment="two words")),
        ("-t 5 -A m1 -q regular", Order(walltime=300.0, account="m1", qos="regular")),
        ("--ntasks=4 -c2", Order(cores=8)),
        ("-C gpu --gres=gpu:a100:4", Order(gpus=4)),
        ("--hold --exclusive", Order(hold=True)),
    ],
)
def test_options_come_long_short_and_joined(head: str, wanted: Order) -> None:
    text = f"#!/bin/sh\n#SBATCH {head}\ntrue\n#SBATCH --nodes=9\n"
    order = slurm_order(text)
    for name in ("name", "nodes", "queue", "comment", "walltime", "account", "qos", "cores", "gpus", "hold"):
        assert getattr(order, name) == getattr(wanted, name), name


@pytest.mark.parametrize("head", ["--nonsense=1", "stray", "--time=soon", "--nodes", "--comment='open", "-c many"])
def test_a_head_that_sbatch_would_not_take_is_refused(head: str) -> None:
    with pytest.raises(OrderRefused):
        slurm_order(f"#!/bin/sh\n#SBATCH {head}\ntrue\n")


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 300), ("1:30", 90), ("1:00:00", 3600), ("2-0", 172_800), ("1-2:03", 93_780)]
)
def test_slurms_times(text: str, seconds: float) -> None:
    assert slurm_time(text) == seconds


def test_sizes_without_a_unit_are_mebibytes() -> None:
    assert [size("1"), size("2G"), size("4gb")] == [1 << 20, 2 << 30, 4 << 30]


def test_a_pbs_head_is_read_with_its_resources() -> None:
    order = pbs_order(
        "#!/bin/bash -l\n#PBS -N job -q debug\n#PBS -A proj -l select=2:ncpus=4:mem=4gb,walltime=00:10:00\n"
        "#PBS -l filesystems=home:eagle -r n -v A=1,B=2\ncd x\n#PBS -N other\n"
    )
    assert (order.name, order.queue, order.account, order.nodes, order.cores) == ("job", "debug", "proj", 2, 4)
    assert (order.memory, order.walltime, order.requeue, dict(order.env)) == (
        4 << 30,
        600.0,
        False,
        {"A": "1", "B": "2"},
    )
    assert order.extra["filesystems"] == "home:eagle"
