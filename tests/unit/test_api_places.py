"""The token's file, and the places where the HTTP face listens."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from broker.api.auth import read_or_make_token, read_token
from broker.api.places import AlreadyListening, open_port, open_socket, reachable, read_place
from broker.config import Settings, read_settings
from broker.errors import NotFound, Unwritable, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s") / "home"


# -- the token ---------------------------------------------------------------------------------------------------


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    first, second = read_or_make_token(settings), read_or_make_token(settings)
    assert first == second == read_token(settings)
    assert len(first.value) == 43  # 256 bits
    assert stat.S_IMODE(settings.token.stat().st_mode) == 0o600
    assert [path.name for path in settings.home.iterdir()] == ["token"]
    assert read_or_make_token(Settings(home=tmp_path / "other")) != first


def test_the_token_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.umask(0)\nfrom pathlib import Path\nfrom broker.config import Settings\n"
        "from broker.api.auth import read_or_make_token\nread_or_make_token(Settings(home=Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "home")], check=True, cwd=ROOT, timeout=60)
    assert stat.S_IMODE((tmp_path / "home" / "token").stat().st_mode) == 0o600


def test_many_who_make_the_token_at_once_get_the_same_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    together = threading.Barrier(8)

    def make(_: int) -> str:
        together.wait(30)
        return read_or_make_token(settings).value

    # each believes to be the first
    with patch.object(Path, "exists", lambda _: False), ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(8)))) == 1
    assert [path.name for path in settings.home.iterdir()] == ["token"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o666])
def test_a_token_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    settings = Settings(home=tmp_path)
    token = read_or_make_token(settings)
    settings.token.chmod(mode)
    for read in (read_or_make_token, read_token):
        with pytest.raises(UsageError, match="others may read") as caught:
            read(settings)
        assert token.value not in f"{caught.value} {caught.value.help}"


@pytest.mark.parametrize("text", ["", "short", "two words " * 10, "x" * 5000, "ü" * 50, "a" * 40 + "\nb"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    settings = Settings(home=tmp_path)
    settings.token.write_text(text)
    settings.token.chmod(0o600)
    with pytest.raises(UsageError, match="holds no token"):
        read_or_make_token(settings)


def test_a_pipe_in_the_place_of_the_token_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o600)
    with pytest.raises(UsageError, match="no plain file"):
        read_or_make_token(Settings(home=tmp_path))


def test_the_token_may_be_a_file_elsewhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "run" / "secret"
    settings = read_settings({"CROSSFADE_HOME": str(tmp_path / "home"), "CROSSFADE_TOKEN_FILE": str(elsewhere)})
    assert read_or_make_token(settings).value == elsewhere.read_text().strip()
    assert not (tmp_path / "home").exists()


def test_a_client_makes_no_token(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_token(Settings(home=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unwritable):
        read_or_make_token(Settings(home=tmp_path / "file" / "home"))


# -- places ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("127.0.0.1:8787", "127.0.0.1:8787"),
        ("localhost:0", "127.0.0.1:0"),
        ("LOCALHOST:65535", "127.0.0.1:65535"),
        ("[::1]:80", "[::1]:80"),
        ("127.3.2.1:1", "127.3.2.1:1"),
    ],
)
def test_ports_are_on_loopback(text: str, name: str) -> None:
    assert str(read_place(text)) == name


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80", "10.0.0.1:80", "example.org:80", "*:80", "localhost.x:80"])
def test_another_address_than_loopback_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(UsageError, match="no loopback address") as caught:
        read_place(text)
    assert "ssh" in caught.value.help


@pytest.mark.parametrize(
    "text", ["", "8787", ":8787", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "a:-1"]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_place(text)


def test_a_port_that_is_taken_is_told() -> None:
    place = read_place("127.0.0.1:0")
    assert place is not None
    with open_port(place) as first:
        taken = read_place(f"127.0.0.1:{first.getsockname()[1]}")
        assert taken is not None
        with pytest.raises(AlreadyListening), open_port(taken):
            pass


def test_the_socket_is_for_its_owner_alone_and_goes_with_its_server(short: Path) -> None:
    path = short / "serve.sock"
    with open_socket(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
    assert not path.exists()


def left_by_a_dead_server(path: Path) -> None:
    path.parent.mkdir(parents=True)
    with closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))


def test_the_socket_of_a_dead_server_is_taken_over(short: Path) -> None:
    path = short / "serve.sock"
    left_by_a_dead_server(path)
    with open_socket(path), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))


def test_the_socket_of_a_live_server_is_not_taken(short: Path) -> None:
    path = short / "serve.sock"
    with open_socket(path):
        before = path.stat().st_ino
        with pytest.raises(AlreadyListening, match=str(os.getpid())), open_socket(path):
            pass
        assert path.stat().st_ino == before
        with closing(socket.socket(socket.AF_UNIX)) as client:
            client.connect(str(path))


def test_a_socket_that_answers_is_not_taken_even_from_one_who_holds_no_lock(short: Path) -> None:
    path = short / "serve.sock"
    short.mkdir(mode=0o700)
    with closing(socket.socket(socket.AF_UNIX)) as foreign:
        foreign.bind(str(path))
        foreign.listen(1)
        with pytest.raises(AlreadyListening), open_socket(path):
            pass
    assert path.exists()


def test_a_file_in_the_place_of_the_socket_is_left_alone(short: Path) -> None:
    short.mkdir(mode=0o700)
    (short / "serve.sock").write_text("mine")
    with pytest.raises(UsageError, match="no socket"), open_socket(short / "serve.sock"):
        pass
    assert (short / "serve.sock").read_text() == "mine"


def test_a_folder_in_which_others_may_put_a_socket_is_refused(short: Path) -> None:
    short.mkdir()
    short.chmod(0o777)
    with pytest.raises(UsageError, match="others may write"), open_socket(short / "serve.sock"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's way around its own limit")
def test_a_home_with_a_long_path_has_a_socket_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "serve.sock"
    with open_socket(path), reachable(path) as name, closing(socket.socket(socket.AF_UNIX)) as client:
        assert len(name) < 100 < len(str(path))
        client.connect(name)
    assert not path.exists()
