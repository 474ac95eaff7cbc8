"""The command line's parts that need no store: help, options, tables, errors, batch scripts, lines of events."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from broker.cli.app import app
from broker.cli.failing import Detached, exit_code
from broker.cli.logs import _grown
from broker.cli.options import duration, parse_params
from broker.cli.output import emit, table
from broker.cli.reference import reference
from broker.cli.sbatch import read_sbatch
from broker.cli.shipped import FOLDER, examples
from broker.cli.telling import clock_line, sentence
from broker.cli.verbs import COMMON, VERBS
from broker.errors import NotFound, SiteDark, UsageError
from broker.overview import Silence
from broker.store.base import EventRow, StageRow
from broker.waiting import only_people_help

ROOT = Path(__file__).parents[2]


def command(name: str) -> click.Command:
    found = app.get_command(click.Context(app), name)
    assert found is not None
    return found


# -- help ------------------------------------------------------------------------------------------------------


def test_help_shows_twelve_verbs_first_and_the_others_under_a_second_heading() -> None:
    text = CliRunner().invoke(app, ["--help"]).output
    first, others = text.split("More verbs:")
    assert [line.split()[0] for line in first.split("Verbs:")[1].splitlines() if line] == [v.name for v in COMMON]
    assert len(COMMON) == 12
    assert "history" in others
    assert "doctor" in others


@pytest.mark.parametrize("name", [name for name in VERBS if app.get_command(click.Context(app), name)])
def test_every_verb_says_what_it_does(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert command(name).help


def test_a_verb_that_is_not_known_suggests_the_nearest() -> None:
    result = CliRunner().invoke(app, ["statsu"])
    assert result.exit_code == 2
    assert "did you mean `status`" in result.output


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from broker.cli.app import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'celery', 'sqlalchemy', 'globus_sdk', 'pydantic', 'rich', 'yaml'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_the_reference_page_is_current() -> None:
    page = ROOT / "docs" / "reference" / "cli.md"
    assert page.read_text() == reference(), "run: python -m broker.cli.reference > docs/reference/cli.md"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_serve_both_names(shell: str) -> None:
    result = CliRunner().invoke(app, ["completion", shell])
    assert result.exit_code == 0
    assert "_CROSSFADE_COMPLETE" in result.output
    assert "_XF_COMPLETE" in result.output


# -- options and output ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172_800), ("250ms", 0.25)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "10 parsecs", "-3s", "1h30m"])
def test_a_time_without_meaning_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 90s"):
        duration(text)


def test_a_param_may_hold_equals_signs_and_must_be_given_once() -> None:
    assert parse_params(("a=b=c", "d=")) == {"a": "b=c", "d": ""}
    with pytest.raises(UsageError, match="twice"):
        parse_params(("a=1", "a=2"))
    with pytest.raises(UsageError) as refused:
        parse_params(("a",))
    assert refused.value.help == "write -p name=value"


def test_tables_are_aligned_and_not_cut_without_a_terminal() -> None:
    long = "x" * 300
    lines = table(("a", "words"), [["1", long], ["22", "y"]], empty="none").splitlines()
    assert lines == ["A   WORDS", f"1   {long}", "22  y"]
    assert table(("a",), [], empty="none") == "none"


@pytest.mark.parametrize(("output", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_programs_get_one_document(output: str, read: object, capsys: pytest.CaptureFixture[str]) -> None:
    view = {"run": "x", "words": "ä: b", "n": [1, None, True]}
    emit(view, output=output, text=lambda: "not this")
    assert read(capsys.readouterr().out) == view  # type: ignore[operator]


# -- errors ------------------------------------------------------------------------------------------------------


def test_each_error_has_its_exit_code() -> None:
    assert exit_code(NotFound("x")) == 3
    assert exit_code(SiteDark("x")) == 5
    assert exit_code(Detached(2, "x")) == 130
    assert exit_code(Detached(15, "x")) == 143
    assert exit_code(click.UsageError("x")) == 2
    assert exit_code(RuntimeError("x")) == 1


def test_an_internal_error_is_one_line_and_debug_tells_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> object:
        raise RuntimeError("boom")

    monkeypatch.setattr("broker.cli.session.Session.service", property(broken))
    quiet = CliRunner().invoke(app, ["queue"])
    assert quiet.exit_code == 1
    assert quiet.stderr.splitlines()[0] == "crossfade: internal error: RuntimeError: boom"
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in CliRunner().invoke(app, ["--debug", "queue"]).stderr


def test_nobody_reading_the_output_is_no_error_to_tell_of() -> None:
    script = f"{sys.executable} -m broker.cli schema workflow | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    answer = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    assert answer.stdout.strip() in ("0", "141")


# -- batch scripts -----------------------------------------------------------------------------------------------

SCRIPT = """#!/bin/bash
#SBATCH --job-name="tomo recon"
#SBATCH -N 2 --ntasks=8
#SBATCH --cpus-per-task=16
#SBATCH -t 1-02:30
#SBATCH --mem=64G
#SBATCH -A als  # who pays
#SBATCH --qos=realtime -C cpu
#SBATCH --gpus-per-node=4
#SBATCH --array=1-10
# the reconstruction itself
module load python
srun python recon.py "$1"
#SBATCH --time=5
"""


def test_a_batch_script_becomes_a_stage() -> None:
    script = read_sbatch(SCRIPT)
    assert script.name == "tomo-recon"
    assert script.resources == {"nodes": 2, "cores": 64, "gpus": 4, "memory": "64GiB", "walltime": "95400s"}
    assert script.submit == {"account": "als", "qos": "realtime", "constraint": "cpu"}
    assert script.not_taken == ["--array=1-10"]
    assert script.body.splitlines()[:2] == ["# the reconstruction itself", "module load python"]


def test_directives_after_the_first_command_are_comments_as_for_sbatch() -> None:
    assert "#SBATCH --time=5" in read_sbatch(SCRIPT).body


@pytest.mark.parametrize(
    ("text", "walltime"),
    [("30", "1800s"), ("30:10", "1810s"), ("1:00:00", "3600s"), ("2-0", "172800s"), ("1-1:1:1", "90061s")],
)
def test_slurm_times_are_read_in_all_their_forms(text: str, walltime: str) -> None:
    assert read_sbatch(f"#!/bin/sh\n#SBATCH --time={text}\ntrue\n").resources["walltime"] == walltime


def test_memory_without_a_unit_is_mebibytes() -> None:
    assert read_sbatch("#SBATCH --mem 1500\ntrue\n").resources["memory"] == "1500MiB"


# -- events, logs, waiting ---------------------------------------------------------------------------------------


def event(kind: str, data: dict[str, object], *, stage: str = "recon", attempt: int = 2) -> EventRow:
    return EventRow("r", 1, 1_767_225_600_000_000, "engine", kind, stage, attempt, json.dumps(data), "")


def test_events_are_told_in_words() -> None:
    assert sentence(event("placed", {"site": "alcf", "why": "failover"})) == "placed at alcf (failover)"
    assert sentence(event("restore", {"seq": 5, "from": "alcf"})) == "goes on from checkpoint 5, kept at alcf"
    assert sentence(event("restore", {"seq": None, "from": None})) == "starts from the beginning"
    assert sentence(event("something_new", {"a": 1, "b": ""})) == "something new: a 1"
    assert "recon@2" in clock_line(event("placed", {"site": "alcf", "why": "first"}))


def test_the_line_at_3_in_the_morning_says_since_when_what_it_means_and_what_follows() -> None:
    at = 1_767_225_600_000_000
    silence = Silence(site="nersc", since=at, probes=7, unreachable=6, moves_at=at + 600_000_000, detail="no answer")
    line = silence.line(at + 94_000_000)
    assert line.startswith("nersc: cannot ask since ")
    assert "(7 probes, 94 s); 6 stages UNREACHABLE, not failed; moving " in line
    assert "crossfade freeze on moves --for 1h --reason ..." in line


def test_a_log_that_grew_shows_only_what_is_new() -> None:
    assert _grown("", "abc") == "abc"
    assert _grown("abc", "abcdef") == "def"
    assert _grown("x" * 10 + "y" * 300, "y" * 300 + "new") == "new"
    assert _grown("abc", "other") == "other"


def stage(state: str) -> StageRow:
    return StageRow(*[state if name == "state" else 0 for name in StageRow._fields])  # type: ignore[arg-type]


def test_a_run_waits_for_a_person_only_when_nothing_else_can_go_on() -> None:
    assert only_people_help([stage("AWAITING_DECISION"), stage("WAITING"), stage("SUCCEEDED")])
    assert not only_people_help([stage("AWAITING_DECISION"), stage("ACTIVE")])
    assert not only_people_help([stage("AWAITING_DECISION"), stage("READY")])
    assert not only_people_help([stage("WAITING")])


# -- examples ----------------------------------------------------------------------------------------------------


def test_every_example_is_shipped() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    mapped = {Path(target).name: sources for target, sources in data.items() if Path(target).parts[:3] == FOLDER}
    assert mapped.keys() == examples().keys()
    for name, folder in examples().items():
        shipped = {path for pattern in mapped[name] for path in ROOT.glob(pattern)}
        assert shipped == {path for path in folder.iterdir() if path.is_file()}
