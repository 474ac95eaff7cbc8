"""`policy test`: the shipped cases hold, and files of cases are read strictly and told readably."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from broker.cases.answers import Expected, differences
from broker.cases.questions import QUESTIONS, Question
from broker.cases.read import files_in, read_cases, shipped
from broker.cases.run import Verdict, asked
from broker.cases.values import NOON, Misfit, made
from broker.cli.app import app
from broker.spec import DocumentError
from policies.evidence import Fact
from policies.model import Decision, Failure, Reason, Rules, SiteFacts

SHIPPED = [case for path in files_in([shipped()]) for case in read_cases(path)]


def cli(*words: str) -> Result:
    return CliRunner().invoke(app, ["policy", "test", *words])


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("case", SHIPPED, ids=lambda case: f"{case.question.name}: {case.name}")
def test_what_the_documentation_says_of_policies_holds(case: object) -> None:
    verdict = asked(case)  # type: ignore[arg-type]
    assert verdict.ok, "\n".join(verdict.differences)


def test_every_case_would_fail_if_its_policy_always_waited() -> None:
    idle = Decision("placement", "tea", (Reason("tea", "for", "it is five"),))
    for case in SHIPPED:
        found = {"outcome": idle.outcome, "reasons": [], "answer": "tea", "status": {}, "placing": {}, "compute": {}}
        with pytest.raises((AssertionError, Misfit)):
            assert not list(differences(case.expect, found, ("expect",), now=NOON))


def test_the_shipped_cases_speak_of_the_policies_that_decide_most() -> None:
    assert {case.question.name for case in SHIPPED} >= {"placement", "failover", "retry", "health", "shipping"}
    assert len(SHIPPED) >= 25
    names = [case.name for case in SHIPPED]
    assert len(set(names)) == len(names)


def test_the_shipped_cases_are_asked_where_no_path_is_named() -> None:
    told = cli()
    assert told.exit_code == 0, told.stderr
    assert "placement.yaml: 14 cases, all as expected" in told.stdout
    assert told.stdout.rstrip().endswith(f"{len(SHIPPED)} cases, 0 failed")


FAILING = """
policy: placement
cases:
  - name: the drained one is taken
    given:
      candidates:
        - site: {name: north, drained: new disks}
        - site: south
    expect:
      site: north
      reasons: [chosen chosen north, {rule: drained, verdict: refused, site: north, says: disks}]
"""


def test_a_case_that_fails_is_told_with_its_line_and_the_reasons_side_by_side(tmp_path: Path) -> None:
    told = cli(str(written(tmp_path, FAILING)))
    assert told.exit_code == 7
    assert "FAILED  placement: the drained one is taken (mine.yaml:4)" in told.stdout
    assert "site: expected 'north', was 'south'" in told.stdout
    lines = told.stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip() == "reasons:")
    assert [line.strip() for line in lines[at + 1 : at + 4]] == [
        "- chosen chosen north",
        "drained refused north: north is drained: new disks",
        "+ chosen chosen south: 0 of 8 places taken",
    ]


def test_programs_get_every_verdict(tmp_path: Path) -> None:
    told = cli(str(written(tmp_path, FAILING)), "-o", "json")
    assert told.exit_code == 7
    view = json.loads(told.stdout)
    assert (view["cases"], view["failed"]) == (1, 1)
    assert view["verdicts"][0]["line"] == 4
    assert view["verdicts"][0]["differences"][0] == "site: expected 'north', was 'south'"


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("{name: a, given: {site: {name: n, drainedd: x}}, expect: {outcome: stay}}", "did you mean `drained`?"),
        ("{name: a, given: {elswhere: []}, expect: {outcome: stay}}", "did you mean `elsewhere`?"),
        ("{name: a, given: {site: n}, expect: {outcom: stay}}", "did you mean `outcome`?"),
        ("{name: a, given: {site: n}, expct: {outcome: stay}}", "did you mean `expect`?"),
        ("{name: a, policy: failovr, expect: {outcome: stay}}", "did you mean `failover`?"),
        ("{name: a, given: {site: {load: 3}}, expect: {outcome: stay}}", "`name` must be said"),
        ("{name: a, given: {}, expect: {outcome: stay}}", "`site` must be said"),
        ("{name: a, given: {site: n, now: soon}, expect: {outcome: stay}}", "no whole number"),
        ("{name: a, given: {site: n, rules: {required: 1}}, expect: {outcome: stay}}", "expected true or false"),
        ("{name: a, given: {site: n}}", "expects nothing"),
        ("{given: {site: n}, expect: {outcome: stay}}", "has no name"),
        ("{name: a, given: {site: n}, expect: {reasons: [one]}}", "is no reason"),
        ("{name: a, given: {site: n}, expect: {reasons: [{rule: a, verdict: b, fact: c}]}}", "no part of a reason"),
    ],
)
def test_what_a_case_cannot_say_is_refused_with_its_line(tmp_path: Path, case: str, said: str) -> None:
    told = cli(str(written(tmp_path, f"policy: failover\ncases:\n  - {case}\n")))
    assert told.exit_code == 2
    assert said in told.stderr
    assert "mine.yaml:3:" in told.stderr


def test_every_case_that_cannot_be_read_is_named_at_once(tmp_path: Path) -> None:
    case = "  - {name: a, given: {sit: n}, expect: {outcome: stay}}\n"
    with pytest.raises(DocumentError) as told:
        read_cases(written(tmp_path, f"policy: failover\ncases:\n{case}{case}"))
    assert len(told.value.problems) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"), [(["no/such"], 3, "there is no"), (["{empty}"], 3, "no file of cases")]
)
def test_a_path_without_cases_is_told(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    told = cli(*(word.format(empty=tmp_path) for word in words))
    assert told.exit_code == code
    assert said in told.stderr


def test_a_file_without_a_list_of_cases_is_refused(tmp_path: Path) -> None:
    told = cli(str(written(tmp_path, "policy: retry\ncases: {}\n")))
    assert told.exit_code == 2
    assert "must be a list of cases" in told.stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Tea:
    """An input that no policy has yet."""

    kind: str
    minutes: float = 180.0
    at: int | None = None
    cups: Mapping[int, Sequence[str]] | None = None


def test_a_field_that_an_input_gains_can_be_written_without_new_code() -> None:
    asks = Question("tea", drink)
    given = asks.made({"tea": {"kind": "green", "minutes": "2m", "at": "+1h", "cups": {"4": ["ada"]}}}, ())
    assert given == {
        "tea": Tea(kind="green", minutes=120.0, at=NOON + 3_600_000_000, cups={4: ("ada",)}),
        "now": NOON,
        "sugar": None,
    }
    assert drink(**given) == "green"


def drink(tea: Tea, *, now: int, sugar: float | None) -> str:
    return tea.kind


def test_facts_need_only_say_what_matters() -> None:
    assert made(SiteFacts, "north", (), now=NOON) == SiteFacts(name="north", facility="north", slots=8, load=0, share=8)
    busy = made(SiteFacts, {"name": "north", "load": 7, "memory": "64GB"}, (), now=NOON)
    assert (busy.share, busy.memory) == (1, 64_000_000_000)
    assert made(Rules, {}, (), now=NOON) == Rules()
    assert made(Failure, {"site": "north", "fault": "SITE"}, (), now=NOON).fault.value == "site"
    row = made(Fact, {"site": "north", "at": "-5m", "ok": False}, (), now=NOON)
    assert row == ("north", NOON - 300_000_000, "status", False, 0, "", "", "", "", None)


def test_a_policy_that_stumbles_over_the_facts_has_failed_its_case() -> None:
    case = next(case for case in SHIPPED if case.question.name == "retry")
    broken = Question("retry", lambda **_given: 1 / 0)
    verdict = asked(type(case)(**{**fields(case), "question": broken}))
    assert verdict == Verdict(verdict.case, ["it could not be asked: ZeroDivisionError: division by zero"])


def fields(case: object) -> dict[str, object]:
    return {name: getattr(case, name) for name in ("name", "question", "given", "expect", "raw", "path")}


def test_some_reasons_may_stand_among_others_but_only_in_their_order() -> None:
    found = {"among": [Reason("a", "for", ""), Reason("b", "for", ""), Reason("c", "for", "", "north")]}
    assert list(differences({"among": ["a for", "c for north"]}, found, ("expect",), now=NOON)) == []
    assert list(differences({"among": ["c for", "a for"]}, found, ("expect",), now=NOON))
    assert Expected("c", "for").fits(found["among"][2])
    assert not Expected("c", "for", "south").fits(found["among"][2])


def test_every_policy_that_can_be_asked_says_what_it_takes() -> None:
    for question in QUESTIONS.values():
        assert question.wanted, question.name
