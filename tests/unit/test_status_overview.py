"""`status` without a run: how each site stands, what is at risk, who must act, and what nobody has acknowledged."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from alert_kit import alerts, submit
from broker_kit import CHECKPOINT, Lab, Stage, site
from click.testing import CliRunner
from operator_kit import operator

from broker.alerts.acking import Acking
from broker.cli import watching
from broker.cli.app import app
from broker.cli.status import overview_text
from broker.clock import micros
from broker.errors import NotFound, UsageError
from broker.overview import overview
from sandbox.faults import Partition

OPS = [("command:page", ["needs_person", "deadline_at_risk", "deadline_missed"])]


def seen(lab: Lab) -> dict[str, Any]:
    return dict(overview(operator(lab), now=lab.clock()))


def site_of(lab: Lab, name: str) -> dict[str, Any]:
    return next(dict(one) for one in seen(lab)["sites"] if one["site"] == name)


def dark(lab: Lab, name: str, seconds: float) -> None:
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now, end=now + micros(seconds)))


def test_a_dark_site_says_since_when_who_says_so_what_comes_next_and_what_stops_it() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    rules = {"sites": {"prefer": ["nersc"]}, "checkpoint": CHECKPOINT}
    submit(lab, Stage("a", "seconds=3000 checkpoint_every=100", rules=rules), notify=OPS)
    lab.run_for(240)
    dark(lab, "nersc", 4000)
    lab.run_for(90)
    view = site_of(lab, "nersc")
    assert view["state"] == "silent"
    assert 80 <= view["age_seconds"] <= 95
    assert view["source"].endswith(" probes")
    assert view["next"].startswith("moving ")
    assert view["stop"] == "crossfade freeze on moves --for 1h --reason ..."
    words = overview_text(seen(lab))
    assert " 1 stage UNREACHABLE, not failed; moving " in words
    assert " unless: crossfade freeze on moves --for 1h --reason ..." in words
    (risk,) = seen(lab)["at_risk"]
    assert (risk["risk"], risk["stage"]) == ("work", "a")
    assert "at risk: told-1/a: " in words


def test_what_operators_said_stands_with_who_said_it_and_what_ends_it() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    lab.run_for(10)
    lab.store.set_site_mode("nersc", mode="drained", by="ann", reason="disks")
    until = lab.clock() + micros(3600)
    lab.store.override_site("alcf", state="down", by="bob", reason="power", until=until)
    lab.clock.advance(60)
    drained, overridden = site_of(lab, "nersc"), site_of(lab, "alcf")
    assert (drained["source"], drained["next"], drained["stop"]) == (
        "ann",
        "stays drained",
        "crossfade site resume nersc --reason ...",
    )
    assert drained["age_seconds"] == 60.0
    assert overridden["source"] == "bob"
    assert overridden["next"].startswith("counts as down until ")
    assert overridden["stop"] == "crossfade site override alcf none --reason ..."


def test_deadlines_at_risk_and_missed_are_shown_until_their_run_is_over() -> None:
    lab = Lab(site("nersc"))
    rules = {"resources": {"walltime": 900.0}}
    run = submit(lab, Stage("a", "seconds=400", rules=rules), notify=OPS, within=200.0)
    lab.run_for(20)
    (risk,) = seen(lab)["at_risk"]
    assert (risk["risk"], risk["run"]) == ("deadline_at_risk", run)
    assert risk["words"] == f"{run}: its deadline is at risk: 180 s are left."
    lab.run_for(200)
    assert [one["risk"] for one in seen(lab)["at_risk"]] == ["deadline_missed"]
    assert lab.finish(run) == "SUCCEEDED"
    assert seen(lab)["at_risk"] == []


def waits(lab: Lab) -> str:
    run = submit(
        lab,
        Stage("a", "seconds=3000", rules={"sites": {"prefer": ["nersc"]}, "failover": {"act": "ask", "after": 60.0}}),
        notify=OPS,
    )
    lab.run_for(20)
    dark(lab, "nersc", 4000)
    lab.run_for(200)
    return run


def test_who_must_act_is_told_with_the_command_and_the_notice_until_it_is_acknowledged() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    run = waits(lab)
    (asked,) = seen(lab)["needs_person"]
    assert asked["do"].startswith(f"crossfade explain {run}/a")
    words = overview_text(seen(lab))
    assert "nobody has acknowledged needs_person: run told-1 (test) stage a: waits for a person" in words
    assert f"help: crossfade ack {run} --reason ..." in words
    acking = Acking(operator(lab, "ann"))
    with pytest.raises(UsageError, match="needs a reason"):
        acking.ack(acking.wanted(run), reason=" ")
    (done,) = acking.ack(acking.wanted(f"{run}/a"), reason="on it")
    assert (done["state"], done["acked_by"], done["ack_reason"]) == ("acknowledged", "ann", "on it")
    assert seen(lab)["notices"] == []
    with pytest.raises(NotFound, match="nothing there is to be acknowledged"):
        acking.ack(acking.wanted(None, everything=True), reason="on it")
    assert [view["state"] for view in acking.ls(run)] == ["acknowledged"]


def test_a_notice_is_found_by_the_start_of_its_id_and_nothing_else_is_guessed() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    waits(lab)
    acking = Acking(operator(lab))
    (row,) = alerts(lab, "needs_person")
    assert acking.wanted(row.id[:6]) == [row]
    for target, everything in ((None, False), (row.id, True)):
        with pytest.raises(UsageError, match="say what is acknowledged"):
            acking.wanted(target, everything=everything)
    with pytest.raises(NotFound):
        acking.wanted("nothing")


# -- looking again and again -----------------------------------------------------------------------------------


class Stop:
    """Lets a watch look so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def wait(self, _: float) -> bool:
        self.left -= 1
        return self.left <= 0


def test_where_nothing_can_be_redrawn_each_change_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    looks = iter([{"a": "a up"}, {"a": "a up"}, {"a": "a silent", "b": "b up"}, {"b": "b up"}])
    watching._tell_changes(Stop(4), 1.0, lambda: next(looks), lambda: False)  # type: ignore[arg-type]
    lines = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert lines == ["a up", "a silent", "b up", "no more: a silent"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    (tmp_path / "sites.yaml").write_text(
        "crossfade: 1\nnotify: {commands: {page: ['true']}}\nsites: {here: {profile: local, root: work}}\n"
    )
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words))
    return result.exit_code, result.output


def test_status_has_all_its_columns_and_its_json_is_whole(home: Path) -> None:
    code, text = run("status")
    assert code == 0
    assert text.splitlines()[0].split() == ["SITE", "STATE", "AGE", "SOURCE", "LOAD", "SLOTS", "NEXT"]
    code, text = run("status", "-o", "json")
    view = json.loads(text)
    assert {"sites", "runs", "at_risk", "needs_person", "notices", "freezes"} <= view.keys()
    assert {"age_seconds", "source", "next", "stop"} <= view["sites"][0].keys()


def test_a_document_names_only_commands_that_there_are(home: Path) -> None:
    text = "crossfade: 1\nname: t\nnotify:\n  - {to: 'command:pag', when: done}\nstages: {a: {run: 'true'}}\n"
    (home / "w.yaml").write_text(text)
    code, said = run("submit", "w.yaml")
    assert code == 2
    assert "w.yaml:4:6 notify[0].to: there is no command 'pag'; did you mean `page`?" in said
    (home / "w.yaml").write_text(text.replace("command:pag", "command:page"))
    assert run("submit", "w.yaml")[0] == 0
    assert run("ack", "--all", "--reason", "x")[0] == 3
    assert "nobody was told of anything" in run("notices", "ls")[1]


def test_a_watch_on_a_terminal_is_redrawn_and_ends_clean_on_ctrl_c(home: Path) -> None:
    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "NO_COLOR": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "broker.cli", "status", "--watch", "--every", "200ms"]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=env, cwd=home)
    os.close(side)
    got = b""
    end = time.monotonic() + 60
    try:
        while got.count(b"\x1b[H") < 3 and time.monotonic() < end:
            got += _read(main)
        assert got.count(b"\x1b[H") >= 3, got
        process.send_signal(signal.SIGINT)
        while process.poll() is None and time.monotonic() < end:
            got += _read(main)
        got += _read(main)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main)
    assert got.startswith(b"\x1b[?1049h")
    assert b"\x1b[?25h\x1b[?1049l" in got  # what was there before is there again, and the cursor, too
    assert b"\x1b[3" not in got.replace(b"\x1b[?25", b"")  # no colour
    assert b"SITE" in got.rpartition(b"\x1b[?1049l")[2]  # what was seen last stays


def _read(main: int) -> bytes:
    if not select.select([main], [], [], 0.1)[0]:
        return b""
    try:
        return os.read(main, 65536)
    except OSError:
        return b""
