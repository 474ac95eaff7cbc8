"""Inputs that lie in places: read where they lie, or brought; looked for beforehand, and waited for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from broker_kit import Lab, Stage, site
from effects_kit import Porter, facts, moving_of, placed

from broker.effects.carry import Carrier
from broker.effects.outcome import Result
from broker.effects.placed_inputs import PlacedInputs
from broker.jobs import Job, in_place, inbound, job_spec
from connectors.files.place import FolderPlace
from connectors.model import TransferState, TransferStatus
from connectors.registry import PlaceConfig

CFS = PlaceConfig(name="cfs", path="/global/cfs/als", mounted={"nersc": "/global/cfs/als/"})
DATA = PlaceConfig(name="data", path="/data")
BOTH = ["data:raw/x.h5", "cfs:raw/x.h5"]


def case(*, match: str | None = None, wait: float = 0.0, name: str = "raw.h5", texts: Any = BOTH, at: str = "nersc"):
    """An attempt at a site, of a stage with one input from places, and nothing done about it yet."""
    stage = Stage("a", places=[(name, texts)], wait=wait)
    found = placed(Lab(site(at), places=["cfs", "data"]), stage, kind="stage_in")
    body = json.loads(found.job.stage.body)
    body["inputs"][0]["match"] = match
    job = replace(found.job, stage=found.job.stage._replace(body=json.dumps(body)))
    return replace(found, job=job, world=replace(found.world, places={"cfs": CFS, "data": DATA}))


def bring(found: Any, mover: Porter, **places: FolderPlace) -> Result:
    files = {f"{name}:": place for name, place in places.items()}
    lab, world = found.lab, found.world
    moving = moving_of(lab, world, mover)
    inputs = PlacedInputs(world=world, places=files, clock=lab.clock)
    carrier = Carrier(store=lab.store, world=world, moving=moving, inputs=inputs, clock=lab.clock)
    return carrier.bring(None, [(found.effect, found.job)])  # type: ignore[arg-type]


def links(found: Any) -> list[str]:
    spec = job_spec(found.world, found.job)
    return next((f.content.decode() for f in spec.files if f.path == ".crossfade/links"), "").splitlines()


def test_where_the_place_is_mounted_the_file_is_linked_and_nothing_is_moved() -> None:
    found, mover = case(), Porter(TransferState.UNKNOWN)
    assert inbound(found.world, found.job, products={}) == []
    assert links(found) == ["raw.h5", "/global/cfs/als/raw/x.h5", "", "0"]
    assert json.loads(str(facts(bring(found, mover))["staged"])) == {"ok": True}
    assert mover.asked == []


def test_what_is_not_yet_where_the_place_is_mounted_is_brought_from_the_other_place(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    found, mover = case(), Porter(TransferState.UNKNOWN, TransferState.UNKNOWN, TransferState.SUCCEEDED)
    told = json.loads(str(facts(bring(found, mover, cfs=FolderPlace("cfs:", tmp_path)))["staged"]))
    assert told == {"ok": True, "brought": ["raw.h5"]}
    (transfer,) = mover.asked
    assert (transfer.source_site, transfer.others) == ("data:", ())
    started = replace(found, job=replace(found.job, attempt=found.job.attempt._replace(staged=json.dumps(told))))
    assert links(started) == []


def test_what_was_begun_from_the_other_place_is_gone_on_with_though_it_turns_up_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x.h5").write_text("it has come")
    found, mover = case(), Porter(TransferState.ACTIVE)
    assert bring(found, mover, cfs=FolderPlace("cfs:", tmp_path)).again
    assert mover.asked == []


def test_elsewhere_it_is_one_transfer_that_names_all_who_hold_it() -> None:
    found = case(at="alcf")
    (transfer,) = inbound(found.world, found.job, products={})
    assert (transfer.source_site, transfer.destination_site) == ("data:", "alcf")
    assert [(item.source, item.destination) for item in transfer.items] == [
        ("raw/x.h5", f"{found.job.attempt.directory}/raw.h5")
    ]
    (other,) = transfer.others
    assert (other.site, [item.source for item in other.items]) == ("cfs:", ["raw/x.h5"])
    assert links(found) == []


def test_two_inputs_from_one_place_are_two_transfers_with_keys_of_their_own() -> None:
    stage = Stage("a", places=[("x", ["data:x"]), ("y", ["data:x"])])
    found = placed(Lab(site("nersc"), places=["data"]), stage, kind="stage_in")
    assert len({t.key for t in inbound(found.world, found.job, products={})}) == 2


def test_a_file_that_can_be_seen_to_be_missing_in_its_place_fails_before_a_job_is_asked_for(tmp_path: Path) -> None:
    found = case(texts=["cfs:raw/x.h5"])
    answer = json.loads(
        str(facts(bring(found, Porter(TransferState.SUCCEEDED), cfs=FolderPlace("cfs:", tmp_path)))["staged"])
    )
    assert (answer["ok"], answer["fault"], answer["reason"]) == (False, "staging", "cfs:raw/x.h5 is not there")


def test_a_file_that_is_seen_in_its_place_is_linked(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x.h5").write_text("raw")
    found = case(texts=["cfs:raw/x.h5"])
    staged = facts(bring(found, Porter(TransferState.SUCCEEDED), cfs=FolderPlace("cfs:", tmp_path)))["staged"]
    assert json.loads(str(staged)) == {"ok": True}


def test_an_input_in_place_is_waited_for_without_a_job(tmp_path: Path) -> None:
    found = case(texts=["cfs:raw/x.h5"], wait=240.0)
    result = bring(found, Porter(TransferState.SUCCEEDED), cfs=FolderPlace("cfs:", tmp_path))
    assert result.seen == []
    (later,) = result.again
    assert "waits: cfs:raw/x.h5 is not there" in later.note
    found.lab.clock.advance(241)
    answer = json.loads(
        str(facts(bring(found, Porter(TransferState.SUCCEEDED), cfs=FolderPlace("cfs:", tmp_path)))["staged"])
    )
    assert answer["ok"] is False


def test_where_nobody_can_look_the_wrapper_waits() -> None:
    assert links(case(texts=["cfs:raw/x.h5"], wait=240.0)) == ["raw.h5", "/global/cfs/als/raw/x.h5", "", "240"]


def test_a_transfer_whose_source_is_missing_is_waited_for_but_a_full_disk_is_not() -> None:
    missing = TransferStatus(key="", state=TransferState.FAILED, reason="source missing", fault="staging")
    found = case(at="alcf", wait=240.0)
    assert bring(found, Porter(missing)).seen == []
    full = replace(missing, reason="no space", fault="quota")
    assert json.loads(str(facts(bring(found, Porter(full)))["staged"]))["fault"] == "quota"
    found.lab.clock.advance(241)
    assert json.loads(str(facts(bring(found, Porter(missing)))["staged"]))["reason"] == "source missing"


def test_match_chooses_files_of_a_place_that_can_be_listed(tmp_path: Path) -> None:
    for path in ("d/a.h5", "d/e/b.h5", "d/c.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    found, mover = case(at="alcf", name="in/", texts=["data:d/"], match="*.h5"), Porter(TransferState.UNKNOWN)
    bring(found, mover, data=FolderPlace("data:", tmp_path))
    (transfer,) = mover.asked
    top = found.job.attempt.directory
    assert [(item.source, item.destination) for item in transfer.items] == [
        ("d/a.h5", f"{top}/in/a.h5"),
        ("d/e/b.h5", f"{top}/in/e/b.h5"),
    ]


def test_match_without_a_listing_says_so(tmp_path: Path) -> None:
    found = case(at="alcf", name="in/", texts=["data:d/"], match="*.h5")
    staged = json.loads(str(facts(bring(found, Porter(TransferState.UNKNOWN)))["staged"]))
    assert staged["reason"] == "data: cannot be listed from here yet, so `match` cannot be gone by"
    nothing = json.loads(
        str(facts(bring(found, Porter(TransferState.UNKNOWN), data=FolderPlace("data:", tmp_path)))["staged"])
    )
    assert nothing["reason"] == "nothing in data:d/ matches *.h5"


def test_in_place_the_wrapper_chooses_by_match() -> None:
    found = case(name="in/", texts=["cfs:d/"], match="*.h5")
    assert links(found) == ["in", "/global/cfs/als/d", "*.h5", "0"]


def test_the_first_place_that_is_mounted_is_the_one_that_is_read() -> None:
    world = replace(case().world, places={"cfs": CFS, "data": replace(DATA, mounted={"nersc": "/d"})})
    given = {"places": [["data:", "x"], ["cfs:", "y"]]}
    assert in_place(world, given, "nersc") == ("data:", "x", "/d/x")
    assert in_place(world, given, "alcf") is None


def test_a_site_that_lost_its_clearance_gets_nothing_more() -> None:
    found = case(at="alcf")
    rules = json.loads(found.job.stage.rules) | {"data": {"export_control": True, "stay": []}}
    job = Job(stage=found.job.stage._replace(rules=json.dumps(rules)), attempt=found.job.attempt)
    mover = Porter(TransferState.UNKNOWN)
    answer = json.loads(str(facts(bring(replace(found, job=job), mover))["staged"]))
    assert (answer["fault"], answer["site"]) == ("policy", "alcf")
    assert answer["reason"].startswith("data.export_control: ")
    assert mover.asked == []
