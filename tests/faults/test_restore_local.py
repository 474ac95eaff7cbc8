"""A backup of a home with real processes is restored: they have run, or still run, and are not run again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.audit import Checked, check_all
from broker.config import Settings
from broker.maintenance import Plan, put_back, take_backup
from broker.service import Request, Service, open_service
from broker.serving import serving

pytestmark = pytest.mark.fault("F46")

PATIENCE = 60.0
"""Seconds that a step may take on a busy machine."""


class Home:
    """A home with one local site, and a workflow of two stages whose ends the test decides."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.delenv("CROSSFADE_SITES", raising=False)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "none"))
        self.folder, self.settings = folder, Settings(home=folder / "home", user="ann")
        (folder / "flow.yaml").write_text(
            f"""\
crossfade: 1
name: flow
stages:
  a:
    run: "echo a >>{folder}/log; until [ -e {folder}/go-a ]; do sleep 0.05; done; echo made >x"
    outputs: [{{path: x}}]
  b:
    run: "echo b >>{folder}/log; until [ -e {folder}/go-b ]; do sleep 0.05; done; cat x >y"
    inputs: [{{name: x, from: a}}]
    outputs: [{{path: y}}]
"""
        )

    def let(self, *stages: str) -> None:
        for stage in stages:
            (self.folder / f"go-{stage}").touch()

    @contextmanager
    def service(self) -> Iterator[Service]:
        service = open_service(self.settings)
        try:
            yield service
        finally:
            service.store.close()

    def submit(self) -> str:
        with self.service() as service:
            return service.submit(Request(document=self.folder / "flow.yaml", params={})).run_id

    def serve(self, run: str, *, until: dict[str, str] | str) -> None:
        """Serve until the run is in that state, or the newest attempts of its stages are."""
        with self.service() as service, serving(self.settings, service.sites, service.store):
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                row = service.store.run(run)
                assert row is not None
                names = {stage.n: stage.path for stage in service.store.stages(run)}
                states = {names[a.n]: a.state for a in service.store.attempts(run)}
                if row.state == until or (isinstance(until, dict) and until.items() <= states.items()):
                    return
                time.sleep(0.02)
        raise AssertionError(f"{row.state}, {states} instead of {until}")

    def restore(self, file: Path) -> None:
        done = put_back(self.settings, Plan(file=file, replace=True), agree=lambda _: True)
        assert done is not None
        assert done.sites == ["local"]

    def log(self) -> list[str]:
        return (self.folder / "log").read_text().split()

    def assert_whole(self, run: str) -> None:
        with self.service() as service:
            assert list(check_all(service.store, Checked())) == []
            assert {p.attempt for p in service.store.products(run)} == {1}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    made = Home(tmp_path, monkeypatch)
    yield made
    made.let("a", "b")


def test_what_ended_after_the_backup_is_taken_from_the_site_and_not_run_again(home: Home) -> None:
    run = home.submit()
    home.serve(run, until={"a": "RUNNING"})
    file = take_backup(home.settings, home.folder / "b.db").file
    home.let("a", "b")
    home.serve(run, until="SUCCEEDED")
    home.restore(file)
    home.serve(run, until="SUCCEEDED")
    assert home.log() == ["a", "b"]
    home.assert_whole(run)


def test_a_process_that_was_started_after_the_backup_and_runs_on_is_taken_up(home: Home) -> None:
    run = home.submit()
    home.serve(run, until={"a": "RUNNING"})
    file = take_backup(home.settings, home.folder / "b.db").file
    home.let("a")
    home.serve(run, until={"b": "RUNNING"})
    home.restore(file)
    home.serve(run, until={"b": "RUNNING"})
    home.let("b")
    home.serve(run, until="SUCCEEDED")
    assert home.log() == ["a", "b"]
    home.assert_whole(run)


def test_a_process_of_a_run_that_the_backup_does_not_know_is_ended(home: Home) -> None:
    with home.service() as service, serving(home.settings, service.sites, service.store):
        """The site is known."""
    file = take_backup(home.settings, home.folder / "b.db").file
    lost = home.submit()
    home.serve(lost, until={"a": "RUNNING"})
    home.restore(file)
    again = home.submit()
    home.serve(again, until={"a": "RUNNING"})
    home.let("a", "b")
    home.serve(again, until="SUCCEEDED")
    assert home.log() == ["a", "a", "b"]
    with home.service() as service:
        (stray,) = service.store.strays()
        assert (stray.fate, stray.outcome) == ("cancel", "canceled, surely dead")
