"""`crossfade serve` over HTTP: real processes, real sockets, real jobs of the local site."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from broker.api.auth import read_token
from broker.client import Client, Refused
from broker.config import Settings
from broker.errors import KeyInUse

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "submit-over-http.md"
PATIENCE = 60.0
HELLO = "crossfade: 1\nname: hello\nstages:\n  first: {run: 'echo hi > hi', outputs: [{path: hi}]}\n"
SLOW = "crossfade: 1\nname: slow\nstages:\n  wait: {run: 'while ! test -e FOLDER/go; do sleep 0.1; done'}\n"


class Server:
    """`crossfade serve` in a home of its own, with all that it says kept in a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home")
        self.env = {
            **os.environ,
            "CROSSFADE_HOME": str(self.settings.home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        self.env.pop("CROSSFADE_SITES", None)
        self.said = folder / "said"
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        with self.said.open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "broker.cli", "serve", *args],
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
        self.processes.append(process)
        return process

    def up(self, *args: str) -> subprocess.Popen[bytes]:
        """Started, and answering."""
        before = self.text().count("listening at")
        process = self.start(*args)
        eventually(lambda: self.text().count("listening at") > before or process.poll() is not None)
        assert process.poll() is None, self.text()
        return process

    def text(self) -> str:
        return self.said.read_text() if self.said.exists() else ""

    def port(self) -> str:
        return re.findall(r"listening at (http://\S+)", self.text())[-1]

    def client(self, where: str | None = None) -> Client:
        return Client.of_home(self.settings, where=where)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.close()


def eventually(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(PATIENCE)


def test_a_run_goes_from_a_request_to_its_end_over_the_socket_and_over_a_port(server: Server) -> None:
    process = server.up("--listen", "unix", "--listen", "127.0.0.1:0")
    eventually(lambda: "http://" in server.text())
    with server.client() as near, server.client(server.port()) as far:
        for client, key in ((near, "near"), (far, "far")):
            submitted = client.submit(HELLO, key=key)
            assert client.wait(submitted.run, timeout=PATIENCE)["state"] == "SUCCEEDED"
            assert not client.submit(HELLO, key=key).new
            with pytest.raises(KeyInUse):
                client.submit(HELLO.replace("hi", "ho"), key=key)
        assert len(near.history()) == 2
        assert near.healthy()
    assert stat.S_IMODE(server.settings.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.settings.home.stat().st_mode) == 0o700
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0
    assert not server.settings.socket.exists()
    assert read_token(server.settings).value not in server.text()
    assert "Traceback" not in server.text()


def test_a_command_over_http_is_carried_out_and_told(server: Server, tmp_path: Path) -> None:
    server.up()
    with server.client() as client:
        run = client.submit(SLOW.replace("FOLDER", str(tmp_path))).run
        eventually(lambda: client.status(run, "wait")["stages"][0]["state"] == "ACTIVE")
        command = client.cancel(run, reason="not needed")["command"]
        eventually(lambda: client.outcome(run, command))
        assert client.wait(run, timeout=PATIENCE)["state"] == "CANCELED"
        assert next(event["event"] for event in client.timeline(run)) == "submitted"
        assert client.explain(run)["run"] == run
        assert client.queue() == []


def test_a_second_server_of_the_same_home_says_so_and_leaves_the_first_alone(server: Server) -> None:
    server.up()
    second = server.start()
    assert ended(second) == 1
    assert re.search(r"process \d+ (serves|listens)", server.text())
    with server.client() as client:
        assert client.queue() == []


def test_a_server_that_was_killed_leaves_a_socket_that_the_next_one_takes_over(server: Server) -> None:
    first = server.up()
    with server.client() as client:
        run = client.submit(HELLO, key="k").run
        first.kill()
        first.wait()
        assert server.settings.socket.exists()
        token = read_token(server.settings)
        server.up()
        assert read_token(server.settings) == token
        assert client.submit(HELLO, key="k").run == run
        assert client.wait(run, timeout=PATIENCE)["state"] == "SUCCEEDED"


def test_the_socket_of_a_live_stranger_is_not_taken(server: Server) -> None:
    server.settings.home.mkdir(mode=0o700)
    with closing(socket.socket(socket.AF_UNIX)) as stranger:
        stranger.bind(str(server.settings.socket))
        stranger.listen(1)
        assert ended(server.start()) == 1
    assert "listens at" in server.text()


@pytest.mark.parametrize(("place", "words"), [("0.0.0.0:0", "no loopback address"), ("here", "cannot listen")])
def test_a_place_that_others_could_reach_is_refused(server: Server, place: str, words: str) -> None:
    assert ended(server.start("--listen", place)) == 2
    assert words in server.text()
    assert not server.settings.token.exists()


def test_a_token_that_others_may_read_keeps_the_server_shut(server: Server) -> None:
    process = server.up()
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0
    server.settings.token.chmod(0o640)
    assert ended(server.start()) == 2
    assert "others may read" in server.text()


def test_a_document_over_http_gets_no_file_of_the_server(server: Server) -> None:
    server.up()
    theft = HELLO.replace("run:", f"inputs: [{{name: x, from: {server.settings.token}}}], run:")
    with server.client() as client, pytest.raises(Refused, match="came without any"):
        client.submit(theft)


# -- the page that tells of it -----------------------------------------------------------------------------------


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_howto_work_as_written(server: Server, require_tool: Callable[[str], str]) -> None:
    require_tool("curl")
    server.up("--listen", "unix", "--listen", "127.0.0.1:0")
    eventually(lambda: "http://" in server.text())
    (server.folder / "workflow.yaml").write_text(HELLO)
    script = "\n".join(block for block in blocks() if "crossfade serve" not in block)
    script = script.replace("http://127.0.0.1:8787", server.port())
    assert script.count("\nask ") == 6
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=server.folder,
        env=server.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]
    assert len(answers) == 8
    assert not [answer for answer in answers if isinstance(answer, dict) and answer.get("status", 200) != 200]


def test_the_program_of_the_howto_works_as_written(server: Server) -> None:
    server.up()
    (server.folder / "workflow.yaml").write_text(HELLO)
    programs = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(programs)],
        cwd=server.folder,
        env=server.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    state, *told = done.stdout.splitlines()
    assert (done.returncode, state) == (0, "SUCCEEDED"), done.stderr
    assert (told[0].split()[-1], told[-1].split()[-1]) == ("submitted", "run_succeeded")
