"""No credential is found anywhere but in its file: not in logs, rows, events, errors, scripts or at facilities."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rehearsal_kit import SITES, Served, eventually, put_up, served

from broker.store.base import EffectRow
from connectors import secrets
from connectors.errors import SiteError
from sandbox.facilities.live import wall_clock
from sandbox.script import FaultScript, script_of

LIBRARIES = ("", "broker", "connectors", "sandbox", "httpx", "httpcore", "urllib3", "botocore", "boto3", "kubernetes")
WRONG = "canary-wrong-0123456789abcdef"
"""A credential that no facility knows."""
LATE = 1_000_000
"""Seconds, by the script's own clock, from which on addresses are not welcome."""


@contextlib.contextmanager
def everything_logged(path: Path) -> Iterator[None]:
    """All that anybody logs goes to a file, tracebacks too."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    levels = [logger.level for logger in loggers]
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        loggers[0].removeHandler(handler)
        handler.close()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def secret_lines(folder: Path) -> set[str]:
    """What the credentials' files hold, but for what names a key and what any key file says."""
    lines = {line for path in folder.iterdir() for line in path.read_text().splitlines()}
    return {line for line in lines if len(line) > 20 and not line.startswith("-----")}


def files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def crossfade(*words: str, folder: Path) -> str:
    """What a command tells, on both streams."""
    done = subprocess.run(
        [sys.executable, "-m", "broker.cli", "--sites", str(folder / "sites.yaml"), *words],
        env={**os.environ, "CROSSFADE_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def failures_of(site: Any) -> list[str]:
    """What a site that knows none of our credentials lets us know, in whole."""
    told = []
    for call in (
        site.probe,
        site.check,
        lambda: site.status(["k1"]),
        lambda: site.find(["k1"]),
        lambda: site.list_mine(0),
    ):
        try:
            told.append(repr(call()))
        except SiteError as error:
            told.append("".join(traceback.format_exception(error)) + repr(error.__dict__))
    return told


def submits(running: Served, run: str) -> list[EffectRow]:
    return [effect for effect in running.store.effects(run) if effect.kind == "submit"]


class Leak:
    """A rehearsal of everything that goes wrong with credentials, and all that it left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "debug.log"
        known = set(secrets._known)
        self.late = 0
        rules = [{"fault": "forbidden", "facility": site, "method": "GET", "from": LATE, "times": 0} for site in SITES]
        self.script: FaultScript = script_of(*rules, clock=lambda: wall_clock() + self.late)
        self.told: list[str] = []
        with put_up(folder, self.script) as sandbox, everything_logged(self.log):
            self.credentials = secret_lines(folder / "state" / "credentials")
            with served(folder, sandbox) as running:
                self._run(running)
            self.told.append(crossfade("doctor", folder=folder))
            self.told += [crossfade("site", "check", site, folder=folder) for site in SITES]
        self.given = {value for value in secrets._known - known if len(value) > 20 and not value.startswith("-----")}

    def _run(self, running: Served) -> None:
        runs = {site: running.submit(f"at-{site}", site) for site in SITES}
        self.states = running.ended(*runs.values())
        for run in runs.values():
            self.told.append(
                crossfade("attempt", "show", f"{run}/only@1", "--script", "-o", "json", folder=self.folder)
            )
            self.told += [repr(running.service.timeline(run)), repr(running.service.explain(run))]
        sites = running.embedded._broker.sites
        self.late = 2 * LATE * 1_000_000  # from now on each facility answers 403 to whoever reads
        for site in SITES:
            self.told += failures_of(sites[site])
        self.late = 0
        # a credential that nobody knows (any more): what each connector says of it
        for path in (self.folder / "state" / "credentials").iterdir():
            kept = path.read_text()
            path.write_text(f"{WRONG}-{path.name}\n" if path.suffix != ".key" else kept.replace("A", "B"))
        for site in SITES:
            self.told += failures_of(sites[site])
        waits = running.submit("refused", "alcf")
        eventually(lambda: running.attempts(waits) and any(e.note or e.outcome for e in submits(running, waits)))
        self.told += [repr(running.service.timeline(waits)), repr([running.service.site(site) for site in SITES])]


@pytest.fixture(scope="module")
def leak(tmp_path_factory: pytest.TempPathFactory) -> Leak:
    return Leak(tmp_path_factory.mktemp("leak"))


def test_credentials_failed_and_the_work_was_done_all_the_same(leak: Leak) -> None:
    assert leak.states == ["SUCCEEDED"] * 4
    assert {item.facility for item in leak.script.happened} == set(SITES)
    assert len(leak.credentials) > 20  # keys in lines, tokens
    assert any("401" in text or "not accept" in text or "refuse" in text for text in leak.told)


def test_no_secret_is_in_any_file_but_those_of_credentials(leak: Leak) -> None:
    held = leak.folder / "state" / "credentials"
    canaries = {value.encode() for value in leak.credentials | leak.given | {WRONG}}
    looked = [path for path in files_below(leak.folder) if held not in path.parents]
    assert {path.name for path in looked} >= {"crossfade.db", "debug.log", "sites.yaml"}
    found = {}
    for path in looked:
        content = path.read_bytes()
        if any(canary in content for canary in canaries):
            found[str(path)] = [canary[:12] for canary in canaries if canary in content]
    assert found == {}


def test_no_secret_is_in_what_people_are_told(leak: Leak) -> None:
    canaries = leak.credentials | leak.given | {WRONG}
    assert len(leak.told) > 20
    assert [text for text in leak.told if any(canary in text for canary in canaries)] == []


def test_the_log_was_a_full_one(leak: Leak) -> None:
    text = leak.log.read_text()
    assert "DEBUG httpcore" in text
    assert text.count("HTTP Request:") > 40
