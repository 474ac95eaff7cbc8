"""What holds for every test: no state shared with the person who runs it, no process left behind."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import leftovers
import pytest
import tool_kit
from logged_secrets import LoggedSecrets

if TYPE_CHECKING:
    from postgres_kit import Server
    from redis_kit import RedisServer
    from slurm_kit import SlurmCluster

# its assertions tell what they saw, whichever test module of a worker is the first to import it
pytest.register_assert_rewrite("connectors.contract")

LEFT = pytest.StashKey[list[str]]()

# examples are slow on a machine that does something else, too: a deadline would make them fail by chance
hypothesis.settings.register_profile("desk", deadline=None, print_blob=True)
# the same examples every time: a change is judged by itself, not by luck
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True, database=None)
hypothesis.settings.register_profile("slow", deadline=None, print_blob=True, max_examples=2000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the long forms: simulations, races, soaks")
    parser.addoption("--seeds", type=int, default=1000, help="how many stories the simulation plays (default: 1000)")
    parser.addoption("--soak", type=float, default=2.0, help="minutes of faults for a whole service (default: 2)")
    parser.addoption("--seed", type=int, default=None, help="play this one story of the simulation, and tell it")


def pytest_configure(config: pytest.Config) -> None:
    if not config.getoption("--hypothesis-profile", default=None):
        slow = "slow" if config.getoption("--slow") else "desk"
        hypothesis.settings.load_profile("ci" if tool_kit.in_ci() and slow == "desk" else slow)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # what takes minutes must not begin last, nor what mostly waits: then there is nothing left to do meanwhile
    items.sort(key=lambda item: item.get_closest_marker("long") is None and "service" not in item.path.parts)
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: runs with --slow"))


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders that are not there yet. Not `mktemp` for each: it looks through all there are for the next number, which
    after thousands of tests takes longer than most of them."""
    base = tmp_path_factory.mktemp("tests")
    return (base / str(number) for number in itertools.count())


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, folders: Iterator[Path]) -> Path:
    """As pytest's own, with the test's name: a folder of its own for each test."""
    folder = next(folders)
    made = folder.with_name(f"{re.sub('[^A-Za-z0-9_]', '_', request.node.name)[:30]}{folder.name}")
    made.mkdir(mode=0o700)
    return made


@pytest.fixture(autouse=True)
def own_home(folders: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a home and a state of its own, and the programs of this very environment first on PATH."""
    home = next(folders)
    home.mkdir(mode=0o700)
    for name in [name for name in os.environ if name.startswith(("CROSSFADE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CROSSFADE_HOME", str(home / "crossfade"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    return home


@pytest.fixture(scope="session")
def logged_secrets() -> Iterator[LoggedSecrets]:
    """Sees every record that is logged in this process."""
    handler = LoggedSecrets()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


@pytest.fixture(autouse=True)
def no_secret_is_logged(logged_secrets: LoggedSecrets) -> Iterator[None]:
    """A test in whose time a secret was logged fails, whatever else it says."""
    yield
    found = logged_secrets.take()
    assert not found, f"a secret was logged: {found}"


@pytest.fixture
def require_tool() -> Callable[[str], str]:
    """`require_tool("redis-server")`: where it is, or this test is skipped; with CI=true it fails."""
    return tool_kit.require_tool


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL that tests share and leave running: one for each process of tests."""
    from postgres_kit import serving

    yield from serving()


@pytest.fixture
def own_postgres() -> Iterator[Server]:
    """A PostgreSQL for one test, which may kill it."""
    from postgres_kit import serving

    yield from serving()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that tests share and leave running: one for each process of tests; every test has a prefix of its own."""
    from redis_kit import RedisServer

    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def make_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RedisServer]]:
    """Makes running servers for one test, which may kill them; takes what `RedisServer` takes but the folder."""
    from redis_kit import RedisServer

    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(RedisServer(tmp_path_factory.mktemp("redis"), **options))


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A Slurm that tests share and leave running, without jobs: one for each process of tests."""
    from slurm_kit import SlurmCluster

    with SlurmCluster(tmp_path_factory.mktemp("slurm"), "shared") as cluster:
        yield cluster


@pytest.fixture
def make_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SlurmCluster]]:
    """Makes running clusters for one test, which may kill their daemons; takes what `SlurmCluster` takes but the
    folder."""
    from slurm_kit import SlurmCluster

    with contextlib.ExitStack() as stack:
        yield lambda name, **options: stack.enter_context(
            SlurmCluster(tmp_path_factory.mktemp("slurm"), name, **options)
        )


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """No job may outlive the tests. Looked at once, when the workers of xdist are done, by the one who leads them."""
    if hasattr(session.config, "workerinput"):
        return
    base = session.config._tmp_path_factory.getbasetemp()
    left = leftovers.end_jobs_below(base, patience=5.0)
    session.config.stash[LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left = config.stash.get(LEFT, [])
    if left:
        terminalreporter.section("processes left behind", red=True, bold=True)
        for line in left:
            terminalreporter.line(line, red=True)
        terminalreporter.line("Tests must end the jobs that they start. These were killed, and the session fails.")
