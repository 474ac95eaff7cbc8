"""`site check`: each step told, also after a failure; and jobs that are submitted only when asked for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jwt
import pytest

from broker.canary import Patience
from broker.claiming import RUNNERS, race, run_race
from broker.clock import VirtualClock, wall_clock
from broker.ids import random_bits
from broker.logins import keep_secret
from broker.store.base import Installation
from broker.trial import STEPS, Trial, try_site
from connectors.errors import QuotaError, SiteUnreachable
from connectors.local import LocalSite
from connectors.local import make as make_local
from connectors.model import Doubtful, Evidence, Finding, JobSpec, JobState, Listing, Refused, SubmitAnswer
from connectors.registry import SiteConfig
from sandbox.connector import SimulatedSite
from sandbox.faults import Partition
from sandbox.shape import SiteShape
from sandbox.site import SiteModel

INSTALLATION = Installation("test-installation", 0, 0)
Verb = Callable[..., object]


class Local:
    """A local site that can be told to misbehave."""

    def __init__(self, folder: Path, **credentials: str) -> None:
        self.root = folder / "site"
        self.config = SiteConfig(
            name="here", connector="local", root=str(self.root), poll=0.02, credentials=credentials, cores=2
        )
        self.site = make_local(self.config, wall_clock)
        self.site.prepare()

    def tried(self, *, canary: bool = False, seconds: float = 30.0) -> Trial:
        patience = Patience(seconds=seconds, sleep=time.sleep, elapsed=time.monotonic) if canary else None
        return try_site(self.site, self.config, INSTALLATION, clock=wall_clock, bits=random_bits, canary=patience)

    def files(self) -> list[str]:
        below = (*self.root.glob("runs/**/*"), *self.root.glob("spool/*"), *self.root.glob("check/*"))
        return [str(path.relative_to(self.root)) for path in below if path.is_file() and not path.is_symlink()]

    def end_all(self) -> None:
        deadline = time.monotonic() + 10
        keys = [item.key for item in self.site.list_mine(0).items]
        while not all(self.site.cancel(keys).values()):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    local = Local(tmp_path)
    yield local
    local.end_all()


def results(trial: Trial, step: str) -> list[bool | None]:
    found = [finding.ok for finding in trial.findings if finding.step == step]
    assert found, f"nothing is told of {step}"
    return found


def detail(trial: Trial, step: str) -> str:
    return " ".join(f.detail for f in trial.findings if f.step == step)


def test_a_site_that_works_is_told_so_step_by_step_and_keeps_nothing(local: Local) -> None:
    trial = local.tried()
    assert trial.ok
    assert [step for step in STEPS if step in {f.step for f in trial.findings}] == list(STEPS)
    assert {f.step: f.ok for f in trial.findings} | {"status": True, "files": True, "submit": True, "claim": True} == {
        f.step: f.ok for f in trial.findings
    }
    assert results(trial, "canary") == [None]
    assert local.files() == []
    assert list(local.site.list_mine(0).items) == []


def test_a_canary_is_wrapped_ends_well_wins_the_claim_once_and_leaves_no_file(local: Local) -> None:
    trial = local.tried(canary=True)
    assert results(trial, "canary") == [True]
    assert results(trial, "claim") == [True]
    assert "3 jobs raced" in detail(trial, "claim")
    assert local.files() == []


def test_canaries_can_be_flown_again(local: Local) -> None:
    assert local.tried(canary=True).ok
    assert local.tried(canary=True).ok
    assert len(local.site.list_mine(0).items) == 6


def test_a_canary_that_fails_shows_what_it_said(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.canary._RACE", "echo no such module: {name} >&2; exit 3\n")
    trial = local.tried(canary=True)
    assert results(trial, "canary") == [False]
    assert "exit code 3" in detail(trial, "canary")
    assert "no such module" in detail(trial, "canary")


def test_a_canary_that_does_not_end_is_no_failure_and_is_canceled(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.canary._RACE", "sleep 600; : {name}\n")
    trial = local.tried(canary=True, seconds=0.2)
    assert results(trial, "canary") == [None]
    assert trial.ok
    local.end_all()
    assert {item.state for item in local.site.list_mine(0).items} == {JobState.CANCELED}


def test_jobs_that_each_hold_the_claim_are_told(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.canary._RACE", "echo {name} >claimed\n")
    trial = local.tried(canary=True)
    assert results(trial, "claim") == [False]
    assert not trial.ok


@pytest.mark.parametrize("answer", [Refused(reason="no account"), Doubtful(reason="no reply")])
def test_a_canary_that_is_not_accepted_says_why(
    local: Local, monkeypatch: pytest.MonkeyPatch, answer: SubmitAnswer
) -> None:
    def submit(self: LocalSite, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        return {spec.key: answer for spec in specs}

    monkeypatch.setattr(LocalSite, "submit", submit)
    trial = local.tried(canary=True)
    assert results(trial, "canary") == [False]
    assert ("no account" in detail(trial, "canary")) or ("no reply" in detail(trial, "canary"))


# -- failures ------------------------------------------------------------------------------------------------------


def test_after_a_failure_the_walk_goes_on_and_each_failure_has_its_cure(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise QuotaError("the disk is full", site="here")

    monkeypatch.setattr(LocalSite, "write", full)
    trial = local.tried()
    assert results(trial, "files") == [False]
    assert results(trial, "claim") == [True]
    assert not trial.dark
    assert all(f.help for f in trial.findings if f.ok is False)


def test_a_listing_that_is_not_complete_is_a_failure(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = Listing(items=(), complete=False, as_of=0)
    monkeypatch.setattr(LocalSite, "list_mine", lambda *_: partial)
    assert False in results(local.tried(), "status")
    monkeypatch.undo()


def test_a_file_that_does_not_come_back_as_it_was_is_a_failure(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalSite, "read", lambda *_, **__: b"other")
    trial = local.tried()
    assert False in results(trial, "files")
    assert local.files() == []


def test_a_dark_site_is_asked_once_and_the_rest_is_not_tried(local: Local) -> None:
    local.root.rename(local.root.with_name("away"))
    trial = local.tried(canary=True)
    local.root.with_name("away").rename(local.root)
    assert trial.dark
    assert not trial.ok
    assert "gives no answer" in detail(trial, "files")
    assert results(trial, "canary") == [None]


@pytest.mark.parametrize(("ends_in", "ok"), [(-60, False), (3600, True)])
def test_a_credential_that_has_ended_is_told_with_the_login(tmp_path: Path, ends_in: int, ok: bool) -> None:
    keep_secret(tmp_path / "token", jwt.encode({"exp": int(time.time()) + ends_in}, "k" * 32, algorithm="HS256"))
    trial = Local(tmp_path, token=f"file:{tmp_path / 'token'}").tried()
    assert results(trial, "expiry") == [ok]
    assert results(trial, "credentials") == [True]
    if not ok:
        assert next(f.help for f in trial.findings if f.step == "expiry") == "crossfade login here"


def test_a_credential_that_is_missing_is_told(tmp_path: Path) -> None:
    trial = Local(tmp_path, token="file:/nowhere/token").tried()
    assert results(trial, "credentials") == [False]
    assert trial.findings[0].help == "crossfade login here"


# -- connectors that know more -------------------------------------------------------------------------------------


class Knowing(SimulatedSite):
    """Knows of its allocation, and not of its claim."""

    canaries: list[bool]

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        self.canaries = [canary]
        return (
            Finding(step="files", ok=True, detail="files, as I see them"),
            Finding(step="allocation", ok=False, detail="none left"),
        )

    def probe(self) -> Sequence[Evidence]:
        until = self._clock() + 3_600_000_000
        return (
            *super().probe(),
            Evidence(site=self.name, capability="credentials", ok=True, at=self._clock(), until=until),
        )


class Simulated:
    def __init__(self, kind: type[SimulatedSite] = SimulatedSite, **shape: object) -> None:
        self.clock = VirtualClock()
        model = SiteModel(name="sim", shape=SiteShape(**shape), rng=random.Random(1), start=self.clock())  # type: ignore[arg-type]
        self.site = kind(model, self.clock)
        self.config = SiteConfig(name="sim", connector="simulated", poll=1.0)

    def tried(self, *, canary: bool = False, seconds: float = 86_400.0) -> Trial:
        patience = Patience(seconds=seconds, sleep=self.clock.advance, elapsed=lambda: self.clock() / 1e6)
        return try_site(
            self.site,
            self.config,
            INSTALLATION,
            clock=self.clock,
            bits=random_bits,
            canary=patience if canary else None,
        )


@pytest.mark.parametrize("canary", [False, True])
def test_what_a_connector_checks_itself_counts_and_the_rest_is_walked(canary: bool) -> None:
    simulated = Simulated(Knowing)
    trial = simulated.tried(canary=canary)
    assert isinstance(simulated.site, Knowing)
    assert simulated.site.canaries == [canary]
    assert detail(trial, "files") == "files, as I see them"
    assert next(f.help for f in trial.findings if f.step == "allocation")
    assert True in results(trial, "status")
    assert results(trial, "expiry") == [True]
    assert [STEPS.index(f.step) for f in trial.findings] == sorted(STEPS.index(f.step) for f in trial.findings)


def test_at_a_simulated_site_canaries_end_well_and_nothing_is_said_of_a_claim_that_nobody_made() -> None:
    trial = Simulated().tried(canary=True)
    assert results(trial, "canary") == [True]
    assert results(trial, "claim") == [None]


def test_a_check_that_breaks_off_in_the_connector_is_a_dark_site(monkeypatch: pytest.MonkeyPatch) -> None:
    def dark(*_: object, **__: object) -> Sequence[Finding]:
        raise SiteUnreachable("no answer", site="sim")

    monkeypatch.setattr(Knowing, "check", dark)
    trial = Simulated(Knowing).tried()
    assert trial.dark
    assert "no answer" in detail(trial, "status")


def test_a_site_that_goes_dark_under_a_canary_does_not_break_the_check_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.canary._RACE", ": sim seconds=600\n: {name}\n")
    simulated = Simulated()
    simulated.site.model.inject(Partition(start=simulated.clock() + 500_000))
    trial = simulated.tried(canary=True)
    assert trial.dark
    assert results(trial, "canary") == [False]


def test_a_blip_while_a_canary_runs_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.canary._RACE", ": sim seconds=60\n: {name}\n")
    simulated = Simulated()
    begun = simulated.clock()
    simulated.site.model.inject(Partition(start=begun + 500_000, end=begun + 2_500_000))
    trial = simulated.tried(canary=True)
    assert results(trial, "canary") == [True], trial


# -- the claim -----------------------------------------------------------------------------------------------------


class Bucket(SimulatedSite):
    """Conditional puts: `honest` ones, or such that everybody wins."""

    honest = True

    def put_new(self, path: str, content: bytes) -> bool:
        with self._lock:
            if self.honest and self.model.disk.get(path) is not None:
                return False
            self.write(path, content)
            return True


@pytest.mark.parametrize("honest", [True, False])
def test_conditional_puts_are_raced_and_liars_found_out(honest: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bucket, "honest", honest)
    simulated = Simulated(Bucket, claim="conditional_put")
    finding = race(simulated.site, mark="m")
    assert finding.ok is honest
    if not honest:
        assert f"of {RUNNERS} that raced {RUNNERS} won" in finding.detail
    assert simulated.site.list("check") == []


@pytest.mark.parametrize("claim", ["none", "unique_name", "atomic_fs"])
def test_what_cannot_be_raced_from_here_is_not_called_proven(claim: str) -> None:
    finding = race(Simulated(claim=claim).site, mark="m")
    assert finding.ok is None
    assert finding.detail


def test_in_a_race_all_runners_start_at_once_and_each_round_is_its_own() -> None:
    seen: set[tuple[int, int]] = set()

    def attempt(round_: int, runner: int) -> bool:
        seen.add((round_, runner))
        return runner == 0

    assert run_race(attempt, rounds=3) == [1, 1, 1]
    assert len(seen) == 3 * RUNNERS
