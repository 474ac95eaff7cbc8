"""The numbers of a policy file: strict, bounded, the same in a simulation and in what serves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site
from click.testing import CliRunner
from policy_kit import NOW, rules, silent
from policy_kit import site as facts

from broker.cli.app import app
from broker.config import read_settings
from broker.policy_file import every_number, read_numbers, read_policy_file
from broker.simulate.replay import replay
from broker.simulate.setting import Setting
from broker.simulate.stage import compiled, read_policy, usual_policy
from broker.simulate.uptime import Uptime
from broker.spec import DocumentError
from connectors.errors import Fault
from policies import failover, placement, retry
from policies.forecast import Forecast, Term
from policies.leaving import LeavingNumbers, Prices, Prospect
from policies.model import Failure, Rules, Tries
from policies.numbers import USUAL_NUMBERS
from policies.placement import Candidate
from policies.ranking import RankNumbers
from policies.retry import RetryNumbers
from sandbox.faults import Preemption

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "policy-file.md"


def written(folder: Path, text: str) -> Path:
    path = folder / "ours.yaml"
    path.write_text(text)
    return path


def test_what_a_file_does_not_say_is_as_usual(tmp_path: Path) -> None:
    found = read_numbers(written(tmp_path, "numbers: {failover: {margin: 10m, prices: {normal: 1}}}"))
    assert found.failover == LeavingNumbers(margin=600.0, prices=Prices(normal=1.0))
    assert replace(found, failover=LeavingNumbers()) == USUAL_NUMBERS
    assert read_numbers(written(tmp_path, "numbers: {}")) == USUAL_NUMBERS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numbers: {failovr: {}}", "did you mean `failover`?"),
        ("numbers: {failover: {margn: 1}}", "did you mean `margin`?"),
        ("numbers: {failover: {margin: -1}}", "must lie between 0 and 86400"),
        ("numbers: {failover: {prices: {urgent: 11}}}", "numbers.failover.prices.urgent: must lie between 0 and 10"),
        ("numbers: {retry: {backoff: []}}", "numbers.retry.backoff: must lie"),
        ("numbers: {retry: {backoff: [1s, 2d]}}", "numbers.retry.backoff: must lie"),
        ("numbers: {brake: {per_minute: some}}", "no whole number"),
        ("numbers: []", "expected a map"),
        ("numbers: {}\npolicy: {failover: {max: 1}}", "is a document's to say"),
        ("failover: {after: 7m}", "is a document's to say"),
        ("numbers: {}\nstages: {}", "is no key of a policy file"),
    ],
)
def test_what_cannot_run_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DocumentError) as told:
        read_numbers(written(tmp_path, text))
    assert said in str(told.value)


def test_a_file_to_be_tried_may_have_what_documents_say_as_well(tmp_path: Path) -> None:
    read = read_policy_file(written(tmp_path, "numbers: {failover: {last: 9}}\npolicy: {failover: {max: 1}}"))
    assert (read.numbers.failover.last, read.keys) == (9.0, {"policy": {"failover": {"max": 1}}})
    only = read_policy_file(written(tmp_path, "numbers: {failover: {last: 9}}"))
    assert only.keys == {"policy": {}}


def test_the_reference_names_every_number_with_its_default_and_bounds() -> None:
    told = dict(re.findall(r"^\| `([a-z_.]+)` \| (.+?) \|", PAGE.read_text(), re.M))
    bounds = dict(re.findall(r"^\| `([a-z_.]+)` \| .+? \| (.+?) \|", PAGE.read_text(), re.M))
    wanted = {name: (default, least, most) for name, default, least, most in every_number()}
    assert told.keys() == wanted.keys()
    for name, (default, least, most) in wanted.items():
        several = ", ".join(f"{each:g}" for each in default) if isinstance(default, tuple) else f"{default:g}"
        assert (told[name], bounds[name]) == (several, f"{least:g} to {most:g}"), name


# -- they decide ---------------------------------------------------------------------------------------------


def test_the_dead_band_keeps_a_stage_where_little_is_gained() -> None:
    ahead = Prospect(left=3600, elsewhere=600, rerun=0, site="olcf")

    def outcome(numbers: LeavingNumbers) -> str:
        dark = silent("nersc", seconds=1200)
        told = failover.judge(
            rules(), site=dark, now=NOW, tries=Tries(), elsewhere=[facts("olcf")], stop_before=None, prospect=ahead,
            numbers=numbers,
        )  # fmt: skip
        return told.outcome

    assert outcome(LeavingNumbers()) == "move"
    assert outcome(LeavingNumbers(margin=86_400)) == "stay"


def test_a_narrow_band_lets_a_minute_decide_between_two_sites() -> None:
    def expects(name: str, seconds: float, load: int) -> Candidate:
        return Candidate(
            site=facts(name, load=load), rules=Rules(), forecast=Forecast(site=name, work=Term(seconds, seconds))
        )

    both = [expects("nersc", 3600, 3), expects("olcf", 3630, 0)]
    assert placement.place(both, now=NOW).site == "olcf"  # as good as the same, and emptier
    assert placement.place(both, now=NOW, numbers=RankNumbers(band=0, seconds=0)).site == "nersc"


def test_an_installation_may_wait_longer_before_it_tries_again() -> None:
    failed = Failure(fault=Fault.SITE, site="nersc")
    patient = RetryNumbers(backoff=(60.0,), after_preemption=90.0)
    told = retry.after_failure(rules(), failed, Tries(site_retries=2), now=NOW, numbers=patient)
    assert told.until == NOW + 60_000_000
    taken = Failure(fault=Fault.PREEMPTED, site="nersc")
    assert retry.after_failure(rules(), taken, Tries(), now=NOW, numbers=patient).until == NOW + 90_000_000


def test_what_is_simulated_is_what_runs(tmp_path: Path) -> None:
    patient = read_policy(
        written(tmp_path, "numbers: {retry: {after_preemption: 10m}}\npolicy: {failover: {act: never}}")
    )
    setting = Setting(stage=3600.0, every=600.0, cost=20.0, detection=60.0, move=120.0, limit=6 * 3600.0, starts=1)
    quick = replace(patient, numbers=USUAL_NUMBERS)
    fades = [Uptime("a", [(0.0, 1800.0), (3600.0, 43_200.0)], 43_200.0)]
    spans = [
        replay(fades, setting, compiled(policy, setting), 0.0, numbers=policy.numbers).span
        for policy in (quick, patient)
    ]
    assert spans[0] is not None
    assert spans[1] == pytest.approx(spans[0] + 595, abs=31)

    there = Lab(site("nersc"), numbers=patient.numbers)
    run = there.submit(Stage("a", "seconds=300"))
    there.run_for(60)
    there.sites["nersc"].model.inject(Preemption(start=there.clock(), count=1, requeue=False))
    there.run_for(120)
    row = there.stage(run, "a")
    assert row.not_before is not None
    assert row.not_before - there.clock() > 400_000_000


# -- settings --------------------------------------------------------------------------------------------------


def test_settings_take_the_file_from_the_environment_or_the_command(tmp_path: Path) -> None:
    ours = written(tmp_path, "numbers: {brake: {per_minute: 7}}")
    home = {"CROSSFADE_HOME": str(tmp_path)}
    assert read_settings(home).numbers == USUAL_NUMBERS
    told = read_settings({**home, "CROSSFADE_POLICY": str(ours)})
    assert (told.numbers.brake.per_minute, told.failovers_per_minute) == (7, 7)
    both = read_settings({**home, "CROSSFADE_FAILOVERS_PER_MINUTE": "9"}, policy=ours)
    assert both.failovers_per_minute == 9


def test_serve_refuses_a_policy_file_that_cannot_run(tmp_path: Path) -> None:
    ours = written(tmp_path, "numbers: {failover: {margn: 1}}")
    told = CliRunner(env={"CROSSFADE_HOME": str(tmp_path / "home")}).invoke(app, ["serve", "--policy", str(ours)])
    assert told.exit_code == 2
    assert "did you mean `margin`?" in told.stderr


def test_the_usual_policy_has_the_usual_numbers() -> None:
    assert usual_policy(Setting()).numbers == USUAL_NUMBERS
