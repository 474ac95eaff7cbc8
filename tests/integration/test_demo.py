"""`crossfade demo` as people and programs start it: real processes, a site really taken away."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.facilities.processes import left

EXAMPLE = Path(__file__).parents[2] / "examples" / "tomography"
SLICES, EVERY, FEW = 12, 3, 9
SMALL = ["--slices", SLICES, "--size", 48, "--checkpoint-every", EVERY, "--pace", 1.5]

needs_skimage = pytest.mark.skipif(
    importlib.util.find_spec("skimage") is None, reason="the demo needs scikit-image: install crossfade[examples]"
)


class Demo:
    """One `crossfade demo`, in a folder of its own for everything it may write."""

    def __init__(self, folder, *words, out=None):
        folder.mkdir()
        self.temporary, self.state, self.out = folder / "tmp", folder / "state", out or folder / "out"
        self.temporary.mkdir()
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
        command = [sys.executable, "-m", "broker.cli", "demo", *SMALL, "-o", "json", "--out", self.out, *words]
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=environment | {"TMPDIR": str(self.temporary), "CROSSFADE_HOME": str(self.state)},
            )

    def end(self):
        try:
            self.process.wait(120)
        finally:
            self.process.kill()
        return self.process.returncode

    @property
    def answer(self):
        return json.loads(self._stdout.read_text())

    @property
    def told(self):
        return self._stderr.read_text()

    def wait_until_told(self, words):
        deadline = time.monotonic() + 60
        while words not in self.told:
            assert time.monotonic() < deadline, self.told
            assert self.process.poll() is None, self.told
            time.sleep(0.05)


def assert_nothing_is_left(demo):
    assert list(demo.temporary.iterdir()) == []
    assert left(demo.temporary) == []
    assert not demo.state.exists()


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two at the same time, into the same folder; one of them keeps its state."""
    folder = tmp_path_factory.mktemp("pair")
    home = folder / "kept"
    demos = [Demo(folder / "a", out=folder / "out"), Demo(folder / "b", "--home", home, out=folder / "out")]
    for demo in demos:
        demo.end()
    return demos, home


@needs_skimage
def test_a_site_is_lost_half_way_and_the_result_is_the_same(pair):
    demo = pair[0][0]
    assert demo.process.returncode == 0, demo.told
    answer = demo.answer
    assert answer["ok"] is True
    assert answer["same"] is True
    assert len(answer["digest"]) == 64
    assert answer["digest"] == answer["digest_undisturbed"]
    assert answer["run"] != answer["run_undisturbed"]
    (move,) = answer["moved"]
    assert (move["stage"], move["from"]) == ("recon", answer["lost"]["site"])
    assert move["to"] in {"nersc", "alcf", "olcf", "cloud"} - {move["from"]}
    assert move["checkpoint_seq"] > 0
    assert answer["lost"]["processes"] >= 2


@needs_skimage
def test_four_facilities_are_reached_in_their_own_protocols_and_each_job_is_submitted_once(pair):
    demo = pair[0][0]
    answer = demo.answer
    assert answer["connectors"] == {"nersc": "nersc", "alcf": "iri", "olcf": "olcf", "cloud": "kubernetes"}
    assert set(answer["submissions"].values()) == {1}
    assert len(answer["submissions"]) >= 7  # three stages twice, and the one that was carried elsewhere
    assert all(name.startswith("cf") and len(name) == 15 for name in answer["submissions"])
    for words in ("Superfacility API v1.2", "IRI Facility API v1", "Slurm REST", "Kubernetes"):
        assert words in demo.told
    assert {face.split()[0] for face, count in answer["requests"].items() if count > 0} == {
        "nersc",
        "alcf",
        "olcf",
        "cloud",
        "globus",
    }
    assert set(answer["carried_by_globus"].values()) == {True}
    carried = [transfer for transfer in answer["transfers"] if answer["run"] in transfer["label"]]
    assert len(carried) >= 2  # the projections, and a checkpoint


@needs_skimage
def test_what_was_done_before_the_loss_is_not_done_again(pair):
    answer = pair[0][0].answer
    first, second = answer["slices"]["1"], answer["slices"]["2"]
    assert set(answer["slices"]) == {"1", "2"}
    assert first >= SLICES // 2
    assert second == SLICES - answer["moved"][0]["checkpoint_seq"]
    assert first + second <= SLICES + EVERY
    assert answer["slices_undisturbed"] == SLICES
    assert answer["carried_over"] == SLICES - second
    assert 0.3 <= answer["seconds_per_slice"] < 30
    assert answer["saved_seconds"] == pytest.approx(answer["carried_over"] * answer["seconds_per_slice"], rel=0.01)


@needs_skimage
def test_the_decision_is_told_in_words_with_what_was_rejected(pair):
    decisions = pair[0][0].answer["decisions"]
    words = {(d["kind"], d["attempt"]): " ".join(d["words"]) for d in decisions}
    site = pair[0][0].answer["lost"]["site"]
    assert f"{site} could not be asked" in words["failover", 1]
    assert f"Rejected: {site} gives no answer" in words["placement", 2]
    assert "checkpoint" in words["checkpoint", 2]


@needs_skimage
def test_the_picture_and_its_digest_are_kept(pair):
    demo = pair[0][0]
    picture = Path(demo.answer["picture"])
    assert picture.parent == demo.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (demo.out / "digest.txt").read_text().strip() == demo.answer["digest"]


@needs_skimage
def test_two_demos_at_the_same_time_do_not_see_each_other(pair):
    first, second = pair[0]
    assert second.process.returncode == 0, second.told
    assert second.answer["digest"] == first.answer["digest"]
    assert second.answer["run"] != first.answer["run"]


@needs_skimage
def test_nothing_is_left_behind_and_the_persons_own_state_is_not_touched(pair):
    assert_nothing_is_left(pair[0][0])
    assert_nothing_is_left(pair[0][1])


@needs_skimage
def test_a_home_that_was_asked_for_is_kept_and_can_be_asked(pair):
    demo, home = pair[0][1], pair[1]
    asked = subprocess.run(
        [sys.executable, "-m", "broker.cli", "explain", f"{demo.answer['run']}/recon", "-o", "json"],
        env=os.environ | {"CROSSFADE_HOME": str(home), "CROSSFADE_SITES": str(home / "sites.yaml")},
        capture_output=True,
        check=True,
    )
    assert json.loads(asked.stdout)["decisions"] == demo.answer["decisions"]
    assert left(home) == []


@needs_skimage
def test_a_recompute_from_zero_fails_the_demo(tmp_path):
    document = Path(shutil.copytree(EXAMPLE, tmp_path / "changed")) / "workflow.yaml"
    text = document.read_text()
    rule = "checkpoint: {path: ckpt/, keep: 2, ship: always}"
    assert rule in text
    document.write_text(text.replace(rule, "checkpoint: {path: ckpt/, keep: 2, ship: never}"))
    demo = Demo(tmp_path / "demo", "--document", document, "--slices", FEW, "--pace", 0.1)
    assert demo.end() == 7, demo.told
    answer = demo.answer
    assert answer["ok"] is False
    assert answer["slices"]["2"] == FEW
    assert answer["carried_over"] == 0
    assert answer["same"] is True
    assert any("began from zero" in problem for problem in answer["problems"])
    assert any("slices were computed" in problem for problem in answer["problems"])
    assert_nothing_is_left(demo)


@needs_skimage
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_ends_all_processes_and_removes_the_folder_even_when_repeated(tmp_path, number, code):
    demo = Demo(tmp_path / "demo")
    demo.wait_until_told("recon@1 running")
    demo.process.send_signal(number)
    demo.process.send_signal(number)
    assert demo.end() == code, demo.told
    assert "Traceback" not in demo.told
    assert_nothing_is_left(demo)


def refused(tmp_path, *words, prelude=""):
    program = f"{prelude}\nfrom broker.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "demo", *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    return done.stderr


def test_without_scikit_image_it_says_what_to_install(tmp_path):
    told = refused(tmp_path, prelude="import sys; sys.modules['skimage'] = None")
    assert "pip install 'crossfade[examples]'" in told


def test_too_few_slices_for_a_checkpoint_by_half_way_are_refused(tmp_path):
    assert "--slices 12" in refused(tmp_path, "--slices", "8")


@needs_skimage
def test_a_home_that_holds_something_is_refused(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").touch()
    assert "holds something already" in refused(tmp_path, "--home", "home")
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter"]


@needs_skimage
def test_a_place_for_the_picture_that_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "out").touch()
    assert "--out" in refused(tmp_path, "--out", "out/deeper")
