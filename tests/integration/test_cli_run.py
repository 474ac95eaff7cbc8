"""The command as people use it: real processes, a home of their own, real jobs of the local site."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HELLO = ROOT / "examples" / "hello" / "workflow.yaml"
PATIENCE = 60.0


class Command:
    """`crossfade` in a home and a working folder of its own; ends what is left of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.env = {
            **os.environ,
            "CROSSFADE_HOME": str(self.home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        self.env.pop("CROSSFADE_SITES", None)
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "broker.cli", *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def __call__(self, *args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, f"{args} ended with {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return subprocess.CompletedProcess(args, process.returncode, out, err)

    def json(self, *args: str, code: int = 0) -> Any:
        return json.loads(self(*args, "-o", "json", code=code).stdout)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@pytest.fixture
def crossfade(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    command.close()


def eventually(holds: Callable[[], object], *, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


SLOW = """
crossfade: 1
name: slow
stages:
  tick:
    run: |
      echo "started" >> {folder}/starts
      while ! test -e {folder}/go; do sleep 0.1; done
      echo done > result.txt
    outputs: [{{path: result.txt, required: true}}]
"""


def slow(crossfade: Command) -> str:
    return str(crossfade.write("slow.yaml", SLOW.format(folder=crossfade.folder)))


def starts(crossfade: Command) -> int:
    path = crossfade.folder / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def let_go(crossfade: Command) -> None:
    (crossfade.folder / "go").touch()


# -- the whole way -----------------------------------------------------------------------------------------------


def test_hello_runs_from_the_document_to_the_products(crossfade: Command) -> None:
    view = crossfade.json("run", str(HELLO), "-p", "who=Ada; echo $HOME")
    assert view["state"] == "SUCCEEDED"
    assert view["name"] == "hello"
    assert [(s["name"], s["state"]) for s in view["stages"]] == [
        ("write", "SUCCEEDED"),
        ("shout", "SUCCEEDED"),
        ("sign", "SUCCEEDED"),
    ]
    for stage in view["stages"]:
        assert stage["site"]
        assert stage["epoch"] == 1
        attempt = stage["attempts"][0]
        assert attempt.keys() >= {"number", "site", "state", "reason", "from_checkpoint"}
        assert (attempt["number"], attempt["state"], attempt["from_checkpoint"]) == (1, "SUCCEEDED", None)

    run = view["run"]
    status = crossfade.json("status", run)
    assert {**status, "seconds": 0} == {**view, "seconds": 0}
    assert crossfade.json("queue") == []
    assert [line["run"] for line in crossfade.json("history")] == [run]
    assert "Hello, Ada; echo $HOME!" in crossfade("logs", f"{run}/sign").stdout

    told = crossfade.json("explain", f"{run}/shout")
    assert told["decisions"][0]["kind"] == "placement"
    assert told["decisions"][0]["reasons"]
    assert "Placed at" in crossfade("explain", f"{run}/shout").stdout
    assert crossfade.json("timeline", run)[0]["event"] == "submitted"
    assert crossfade.json("db", "check")["violations"] == []

    crossfade("get", run, "products")
    assert (crossfade.folder / "products/shout/loud.txt").read_text() == "HELLO, ADA; ECHO $HOME!\n"


def test_a_payload_that_fails_ends_with_7_and_says_why(crossfade: Command) -> None:
    crossfade.write(
        "bad.yaml", "crossfade: 1\nname: bad\nstages:\n  boom:\n    run: 'echo \"\x5ce[31mred\" >&2; exit 3'\n"
    )
    ended = crossfade("run", "bad.yaml", code=7)
    assert "is FAILED" in ended.stderr
    errors = crossfade.json("errors")
    assert errors[0]["reason"] == "exit code 3"
    assert errors[0]["fault"] == "application"


def test_a_run_that_only_a_person_can_help_ends_with_8(crossfade: Command) -> None:
    crossfade.write(
        "sites.yaml", "crossfade: 1\nsites:\n  a: {profile: local, root: ./a}\n  b: {profile: local, root: ./b}\n"
    )
    crossfade.write(
        "w.yaml",
        "crossfade: 1\nname: w\nstages:\n  one:\n    policy: {sites: {allow: [b]}}\n"
        "    run: 'true'\n  two: {needs: [one], run: 'true'}\n",
    )
    crossfade("submit", "w.yaml")
    crossfade.write("sites.yaml", "crossfade: 1\nsites:\n  a: {profile: local, root: ./a}\n")
    waiting = crossfade("run", "--resume", "w", code=8)
    assert "waits for a person" in waiting.stderr
    assert crossfade.json("status")["needs_person"][0]["stage"] == "one"


# -- ends and new beginnings -------------------------------------------------------------------------------------


def test_a_killed_run_leaves_its_payload_running_and_resume_starts_nothing_twice(crossfade: Command) -> None:
    running = crossfade.start("run", slow(crossfade))
    eventually(lambda: starts(crossfade) == 1)
    running.kill()
    running.wait()
    assert [line["name"] for line in crossfade.json("queue")] == ["slow"]
    let_go(crossfade)
    view = crossfade.json("run", "--resume", "slow")
    assert view["state"] == "SUCCEEDED"
    assert [len(stage["attempts"]) for stage in view["stages"]] == [1]
    assert starts(crossfade) == 1
    assert crossfade.json("db", "check")["violations"] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_detaches_and_the_job_goes_on(crossfade: Command, number: signal.Signals, code: int) -> None:
    running = crossfade.start("run", slow(crossfade))
    eventually(lambda: starts(crossfade) == 1)
    running.send_signal(number)
    _, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == code
    assert "detached" in err
    assert "--resume" in err
    let_go(crossfade)
    assert crossfade.json("run", "--resume", "slow")["state"] == "SUCCEEDED"
    assert starts(crossfade) == 1


def test_a_wait_that_times_out_ends_with_6(crossfade: Command) -> None:
    crossfade("run", slow(crossfade), "--timeout", "1s", code=6)
    let_go(crossfade)
    crossfade("run", "--resume", "slow")


def test_two_runs_in_one_home_one_serves_and_the_other_takes_over(crossfade: Command) -> None:
    first = crossfade.start("run", slow(crossfade))
    eventually(lambda: starts(crossfade) == 1)
    second = crossfade.start("run", str(HELLO), "-o", "json")
    out, err = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, err
    assert f"process {first.pid} serves" in err
    assert json.loads(out)["state"] == "SUCCEEDED"

    watching = crossfade.start("run", "--resume", "slow", "-o", "json")
    time.sleep(1.0)
    first.kill()
    first.wait()
    let_go(crossfade)
    out, err = watching.communicate(timeout=PATIENCE)
    assert watching.returncode == 0, err
    assert json.loads(out)["state"] == "SUCCEEDED"
    assert starts(crossfade) == 1


def test_submit_says_that_nobody_serves_and_serve_until_quiet_carries_it_out(crossfade: Command) -> None:
    submitted = crossfade("submit", str(HELLO), "-o", "json")
    assert "nobody serves" in submitted.stderr
    run = json.loads(submitted.stdout)["run"]
    assert [line["run"] for line in crossfade.json("queue")] == [run]
    served = crossfade("serve", "--until-quiet", "--timeout", "60s")
    assert "placed at" in served.stdout
    assert crossfade.json("status", run)["state"] == "SUCCEEDED"


def test_a_cancel_ends_the_job(crossfade: Command) -> None:
    running = crossfade.start("run", slow(crossfade))
    eventually(lambda: starts(crossfade) == 1)
    answer = crossfade.json("cancel", "slow", "--reason", "a test")
    assert answer["outcome"] == "canceling"
    running.communicate(timeout=PATIENCE)
    assert running.returncode == 7
    view = crossfade.json("status", "slow")
    assert view["state"] == "CANCELED"
    assert view["stages"][0]["attempts"][0]["state"] == "CANCELED"
    refused = crossfade("cancel", "slow", code=4)
    assert "it is CANCELED" in refused.stderr


def test_a_stage_moves_to_another_site_when_an_operator_wants_it(crossfade: Command) -> None:
    crossfade.write(
        "sites.yaml", "crossfade: 1\nsites:\n  a: {profile: local, root: ./a}\n  b: {profile: local, root: ./b}\n"
    )
    running = crossfade.start("run", slow(crossfade), "-o", "json")
    eventually(lambda: starts(crossfade) == 1)
    here = crossfade.json("status", "slow")["stages"][0]["site"]
    there = {"a": "b", "b": "a"}[here]
    assert "asked" in crossfade.json("move", "slow/tick", "--to", there)["outcome"]
    eventually(lambda: starts(crossfade) == 2)
    let_go(crossfade)
    out, err = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, err
    stage = json.loads(out)["stages"][0]
    assert stage["site"] == there
    assert [a["state"] for a in stage["attempts"]] == ["CANCELED", "SUCCEEDED"]
    assert crossfade.json("db", "check")["violations"] == []


def test_a_site_that_goes_dark_is_told_of_and_its_stage_goes_on_elsewhere(crossfade: Command) -> None:
    quick = "unreachable: {probes: 2, seconds: 1s}, poll: 50ms"
    crossfade.write(
        "sites.yaml",
        "crossfade: 1\nsites:\n" + "".join(f"  {n}: {{profile: local, root: ./{n}, {quick}}}\n" for n in "ab"),
    )
    slow(crossfade)
    document = crossfade.folder / "slow.yaml"
    policy = "policy: {sites: {prefer: [a]}, failover: {act: auto, after: 3s, max: 2}}\n"
    document.write_text(document.read_text().replace("stages:", f"{policy}stages:"))
    crossfade("submit", "slow.yaml")
    serving = crossfade.start("serve", "--until-quiet", "--timeout", "60s")
    eventually(lambda: starts(crossfade) == 1)
    (crossfade.folder / "a").rename(crossfade.folder / "away")
    eventually(lambda: starts(crossfade) == 2)
    let_go(crossfade)
    eventually(lambda: crossfade.json("queue") == [])
    (crossfade.folder / "away").rename(crossfade.folder / "a")
    out, err = serving.communicate(timeout=PATIENCE)
    assert serving.returncode == 0, err
    assert "a: cannot ask since" in out
    assert "1 stage UNREACHABLE, not failed" in out

    stage = crossfade.json("status", "slow")["stages"][0]
    assert (stage["site"], stage["epoch"], stage["attempts"][0]["orphan"]) == ("b", 2, True)
    words = crossfade("explain", "slow/tick").stdout
    assert "Leaves its site" in words
    assert "Placed at b" in words
    told = [(d["kind"], d["outcome"]) for d in crossfade.json("explain", "slow/tick")["decisions"]]
    assert [d for d in told if d[1] in ("place", "move")] == [
        ("placement", "place"),
        ("failover", "move"),
        ("placement", "place"),
    ]
    assert crossfade.json("db", "check")["violations"] == []


# -- what is wrong with the request --------------------------------------------------------------------------------


def test_a_bad_document_is_told_with_its_place_and_no_traceback(crossfade: Command) -> None:
    crossfade.write("bad.yaml", "crossfade: 1\nname: x\nstages:\n  a: {runn: 'true'}\n")
    ended = crossfade("run", "bad.yaml", "-o", "json", code=2)
    assert ended.stderr.startswith("bad.yaml:4:")
    assert ended.stdout == ""


def test_a_home_that_cannot_be_written_is_told_in_one_line(crossfade: Command) -> None:
    crossfade.write("home", "a file stands in its way")
    ended = crossfade("run", str(HELLO), code=1)
    assert str(crossfade.home) in ended.stderr
    assert "CROSSFADE_HOME" in ended.stderr
