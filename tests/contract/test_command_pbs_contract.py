"""The PBS dialect, on a stand-in for PBS's programs, against the contract that all connectors share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from command_kit import CommandRig
from slurm_kit import wait_until

from connectors.contract import SiteContract, new_key
from connectors.errors import SiteUnreachable
from connectors.model import Accepted, JobState, Refused, Resources

PROGRAM = Path(__file__).parents[1] / "fake_pbs.py"


class PbsRig(CommandRig):
    submit_word = "qsub"

    def __init__(self, folder: Path) -> None:
        self.pbs = folder / "pbs"
        (self.pbs / "bin").mkdir(parents=True)
        for verb in ("qsub", "qstat", "qselect", "qdel"):
            program = self.pbs / "bin" / verb
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {PROGRAM} {self.pbs} {verb} "$@"\n')
            program.chmod(0o755)
        super().__init__(None, folder)  # type: ignore[arg-type]

    def settings(self) -> Mapping[str, object]:
        return {"scheduler": "pbs", "path": [str(self.pbs / "bin")], **self.options}

    def set(self, flag: str, text: str = "") -> None:
        (self.pbs / flag).write_text(text)

    def darken(self) -> None:
        self.marker.rename(self.marker.with_suffix(".away"))
        self.set("down")

    def brighten(self) -> None:
        (self.pbs / "down").unlink()
        self.marker.with_suffix(".away").rename(self.marker)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[PbsRig]:
    rig = PbsRig(tmp_path)
    yield rig
    rig.end()


class TestPbsByCommands(SiteContract):
    # the files' half of these is tried with every shell, see test_shell_files.py
    test_an_unsafe_path_is_refused_by_every_verb = None
    test_of_several_files_none_is_written_outside = None
    test_a_job_with_an_unsafe_path_is_refused_and_leaves_nothing = None  # before anything is asked of PBS


def ended(rig, site, key):
    wait_until(lambda: all(item.state.final for item in site.status([key]).items), within=20)
    (item,) = site.status([key]).items
    return item


def test_json_that_is_none_is_asked_for_again_as_text_and_then_always(rig):
    site, key = rig.connect(), new_key()
    site.submit([rig.job(key, exit_code=3)])
    good = ended(rig, site, key)
    rig.set("invalid-json")
    wire = rig.wires[-1]
    assert site.status([key]).items == (good,)
    wire.scripts.clear()
    assert site.status([key]).items == (good,)
    assert len(wire.scripts) == 1


def test_a_thousand_jobs_are_asked_for_in_one_call(rig):
    site, key = rig.connect(), new_key()
    site.submit([rig.job(key, seconds=600)])
    wire = rig.wires[-1]
    wire.scripts.clear()
    listing = site.status([key, *(new_key() for _ in range(999))])
    assert [item.key for item in listing.items] == [key]
    assert len(wire.scripts) == 1


def test_a_job_that_a_routing_queue_lost_is_simply_not_there(rig):
    rig.set("vanish")
    site, key = rig.connect(), new_key()
    assert isinstance(site.submit([rig.job(key)])[key], Accepted)
    listing = site.status([key])
    assert listing.complete
    assert not listing.items


@pytest.mark.parametrize(
    ("comment", "state", "stuck"),
    [
        ("Not Running: Insufficient amount of resource: ncpus", JobState.QUEUED, False),
        ("Can Never Run: Insufficient amount of resource: ngpus (R: 9 A: 4 T: 4)", JobState.QUEUED, True),
        ("Can Never Run: Insufficient amount of resource: eagle_fs (True != False)", JobState.QUEUED, False),
        ("job held, too many failed attempts to run", JobState.HELD, True),
    ],
)
def test_comments_say_whether_waiting_will_help(rig, comment, state, stuck):
    rig.set("held", comment)
    site, key = rig.connect(), new_key()
    site.submit([rig.job(key)])
    (item,) = site.status([key]).items
    assert (item.state, bool(item.stuck_reason), item.native_reason) == (state, stuck, comment)
    (rig.pbs / "held").unlink()


def test_without_a_history_living_jobs_are_still_found(rig):
    rig.set("no-history")
    site, key = rig.connect(), new_key()
    site.submit([rig.job(key, seconds=600)])
    listing = site.status([key])
    assert listing.complete
    assert [item.key for item in listing.items] == [key]


def test_what_qsub_says_is_told_and_a_spent_allocation_is_a_matter_of_quota(rig):
    site, unknown, spent = rig.connect(), new_key(), new_key()
    answers = site.submit([rig.job(unknown, submit={"queue": "nowhere"}), rig.job(spent, submit={"account": "spent"})])
    assert answers[unknown] == Refused(reason="qsub: qsub: Unknown queue", fault="site")
    assert isinstance(answers[spent], Refused)
    assert answers[spent].fault == "quota"


def test_a_server_that_is_ending_and_stopped_queues_are_told(rig):
    site = rig.connect()
    rig.set("stopped")
    bad = {item.capability: item.detail for item in site.probe() if not item.ok}
    assert bad == dict.fromkeys(("submit", "compute"), "no queue takes and starts jobs")
    rig.set("ending")
    bad = {item.capability for item in site.probe() if not item.ok}
    assert bad == {"status", "submit"}
    found = {finding.step: finding.ok for finding in site.check()}
    assert found == {"credentials": True, "status": False, "allocation": None, "files": True, "submit": True}


def test_a_server_that_cannot_be_reached_is_unreachable_and_keeps_its_job_in_doubt(rig):
    site, key = rig.connect(), new_key()
    rig.set("down")
    with pytest.raises(SiteUnreachable, match="cannot connect"):
        site.submit([rig.job(key)])
    (rig.pbs / "down").unlink()
    assert not site.find([key]).items


def test_the_script_is_what_an_engineer_would_write(rig):
    wants = Resources(nodes=2, cores=32, gpus=4, memory=64 << 30, walltime=5400, ranks=8, ranks_per_node=4)
    words = {"queue": "prod", "account": "FUSION_X", "filesystems": "home:eagle"}
    key = "cfabcdefghijklm"
    site = rig.connect()
    script = site.script(rig.job(key, resources=wants, submit=words, requeue=False)).script
    folder = f"{rig.root}/runs/{key}"
    assert script == (
        "#!/bin/sh\n"
        f"#PBS -N {key}\n"
        f"#PBS -v CROSSFADE_LABEL=crossfade.{rig.owner}.{key}.d1\n"
        "#PBS -j oe\n"
        f"#PBS -o {folder}/.crossfade/scheduler.log\n"
        "#PBS -r n\n"
        "#PBS -l select=2:ncpus=32:mpiprocs=4:ngpus=4:mem=65536mb\n"
        "#PBS -l walltime=01:30:00\n"
        "#PBS -l place=scatter\n"
        "#PBS -q prod\n"
        "#PBS -A FUSION_X\n"
        "#PBS -l filesystems=home:eagle\n"
        "\n"
        f"cd {folder} || exit 1\n"
        "exec /bin/sh job.sh >>.crossfade/wrapper.log 2>&1\n"
    )
