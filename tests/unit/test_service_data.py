"""What `validate`, `plan` and `submit` say of places and of where data may be, before anything is stored."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site

from broker.clock import VirtualClock
from broker.config import Settings
from broker.errors import RefusedByPolicy, UsageError
from broker.service import Request, Service
from broker.sites import Sites, load_sites, sites_of
from broker.spec import DocumentError, parse_document

SITES = """crossfade: 1
places:
  spot: {path: ./spot}
  data: {path: ./data, clearance: [export_control]}
  cfs: {path: ./cfs}
sites:
  nersc: {profile: local, root: ./nersc, clearance: [export_control]}
  alcf: {profile: local, root: ./alcf}
"""


def service(found: Sites, home: Path) -> Service:
    clock = VirtualClock()
    return Service(settings=Settings(home=home, user="ann"), store=Lab(clock=clock).store, sites=found, clock=clock)


@pytest.fixture
def known(tmp_path: Path) -> Service:
    document = tmp_path / "sites.yaml"
    document.write_text(SITES)
    return service(load_sites(document, home=tmp_path, cwd=tmp_path, env={}), tmp_path)


def request(text: str, **params: str) -> Request:
    return Request(document=parse_document(f"crossfade: 1\nname: t\n{text}", name="t.yaml"), params=params)


def data(rule: str, *, to: str = "cfs") -> Request:
    stages = f"stages: {{c: {{copy: [{{from: 'spot:x', to: '{to}:x'}}]}}, a: {{run: x}}}}\n"
    return request(f"policy: {{data: {rule}}}\n{stages}")


def test_the_places_of_the_site_document_are_known_when_a_document_is_checked(known: Service) -> None:
    with pytest.raises(DocumentError, match="there is no place 'dta'; did you mean `data`"):
        known.compile(data("{}", to="dta"))


def test_without_a_site_document_the_form_is_checked_and_a_submission_refused(tmp_path: Path) -> None:
    alone = service(load_sites(None, home=tmp_path, cwd=tmp_path, env={"HOME": str(tmp_path)}), tmp_path)
    assert alone.compile(data("{}")).stages
    with pytest.raises(RefusedByPolicy, match="stage c names the place spot, which is not in the site document"):
        alone.submit(data("{}"))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("{export_control: true}", "stage c may not bring anything to cfs: data.export_control: the data is under"),
        ("{stay: [nersc, data]}", "stage c may not bring anything to cfs: data.stay: the data stays at nersc, data"),
    ],
)
def test_a_copy_to_where_data_may_not_be_is_refused_before_anything_is_stored(
    known: Service, rule: str, words: str
) -> None:
    for ask in (known.submit, known.plan):
        with pytest.raises(RefusedByPolicy, match=re.escape(words)):
            ask(data(rule))
    assert known.store.runs() == []


def test_what_the_rule_allows_is_taken(known: Service) -> None:
    assert known.submit(data("{export_control: true, stay: [nersc, data]}", to="data")).new


def test_a_delivery_is_asked_about_as_a_copy_is(known: Service) -> None:
    text = "stages: {a: {run: x, policy: {data: {stay: [nersc]}}, outputs: [{path: o, to: 'data:o'}]}}\n"
    with pytest.raises(RefusedByPolicy, match=r"stage a/deliver may not bring anything to data: data\.stay"):
        known.submit(request(text))


def test_a_plan_says_where_stages_start_and_what_is_copied(known: Service) -> None:
    copy, stage = known.plan(data("{export_control: true}", to="data"))
    assert (copy["outcome"], copy["site"]) == ("copy", None)
    assert copy["words"] == ["Copies: it only moves data, to data:x: no site is asked."]
    assert stage["site"] == "nersc"
    assert "the data is under export control, and alcf has no clearance for it" in str(stage["words"])


def test_data_that_may_be_nowhere_can_run_nowhere(known: Service) -> None:
    with pytest.raises(
        RefusedByPolicy, match=r"no site can take stage a: data\.stay: the data stays at cfs, and nersc"
    ):
        known.submit(request("policy: {data: {stay: [cfs]}}\nstages: {a: {run: x}}\n"))


def test_a_name_to_stay_at_that_nobody_has_is_warned_of(known: Service) -> None:
    submitted = known.submit(request("policy: {data: {stay: [nersc, dtaa]}}\nstages: {a: {run: x}}\n"))
    assert any("names 'dtaa', which is no site, facility or profile here" in told for told in submitted.warnings)


def test_no_site_is_given_a_script_for_a_copy(known: Service) -> None:
    asked = data("{}")
    with pytest.raises(UsageError, match="c only moves data: no site is given a script for it"):
        known.planned_script(asked, "nersc", "c")
    assert known.planned_script(asked, "nersc")["stage"] == "a"


def test_no_site_was_given_a_script_for_the_attempt_of_a_copy() -> None:
    lab = Lab(site("nersc"), places=["spot", "cfs"])
    run = lab.submit(Stage("c", copies=[("spot:none", "cfs:x")]))
    lab.settle()
    found = sites_of(parse_document(SITES, name="s"), base=Path("/doc"), where="")
    asked = Service(settings=Settings(home=Path("/doc"), user="ann"), store=lab.store, sites=found, clock=lab.clock)
    with pytest.raises(UsageError, match="c only moves data: no site was given a script for it"):
        asked.attempt_script(f"{run}/c@1")


def test_moving_a_run_leaves_its_copies_alone(known: Service) -> None:
    run = known.submit(data("{}")).run_id
    known.command("move", run, args={"to": "nersc"})
    assert [command.stage for command in known.store.commands(run)] == ["a"]


def test_stored_rows_say_that_a_copy_is_looked_at_at_once(known: Service) -> None:
    run = known.submit(data("{}")).run_id
    rows = {stage.path: stage for stage in known.store.stages(run)}
    assert rows["c"].due_at is not None
    assert rows["a"].due_at is None
    assert json.loads(rows["c"].body)["copy"][0]["to"] == ["cfs:", "x"]
