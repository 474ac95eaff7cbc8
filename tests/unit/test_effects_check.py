"""Nobody is believed on his word alone: outputs and checkpoints are compared with their manifests."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from broker_kit import Lab, Stage, site
from effects_kit import Case, Wire, facts, placed
from simulation.seams import Seam

from broker.effects import Hands, JobCache
from broker.effects.check import Checker
from broker.states import ENDS_WITH_ATTEMPT
from connectors.errors import SiteUnreachable
from connectors.harness import Manifest, format_manifest

FILES = {"x.txt": b"one", "d/y.txt": b"three", "d/e/z": b""}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest(files: dict[str, bytes], *, seq: int = 0) -> bytes:
    return format_manifest(Manifest(files=tuple((n, len(d), sha(d)) for n, d in files.items()), seq=seq, app="v1"))


@pytest.fixture
def ended() -> Case:
    """An attempt whose outputs lie where they should, with their manifest."""
    c = placed(Lab(site("nersc")), Stage("a", outputs=["x.txt", "d/"]))
    here, directory = c.lab.sites["nersc"], c.job.attempt.directory
    for name, data in FILES.items():
        here.write(f"{directory}/{name}", data)
    here.write(f"{directory}/.crossfade/g1/outputs.manifest", manifest(FILES))
    return c


def verified(c: Case, *, digest: str | None = None, generation: int = 1) -> dict[str, Any]:
    payload = json.dumps({"generation": generation, "digest": digest or sha(manifest(FILES))})
    effect = c.effect._replace(kind="verify", payload=payload)
    result = Checker(clock=c.lab.clock).verify(c.lab.sites["nersc"], [(effect, c.job)])
    assert len(result.done) == 1
    told: dict[str, Any] = json.loads(str(facts(result)["verified"]))
    return told


# -- outputs --------------------------------------------------


def test_outputs_that_are_as_they_should_be_are_kept_with_size_and_digest(ended: Case) -> None:
    assert verified(ended) == {"ok": True, "files": [[n, len(d), sha(d)] for n, d in FILES.items()]}


def test_a_manifest_that_was_changed_after_the_exit_record_is_refused(ended: Case) -> None:
    told = verified(ended, digest="0" * 64)
    assert (told["ok"], told["fault"]) == (False, "site")
    assert "not the one that the exit record names" in told["reason"]


@pytest.mark.parametrize("name", FILES)
def test_an_output_that_is_gone_is_named(ended: Case, name: str) -> None:
    ended.lab.sites["nersc"].remove([f"{ended.job.attempt.directory}/{name}"])
    told = verified(ended)
    assert told["ok"] is False
    assert f"{name} should have {len(FILES[name])} bytes" in told["reason"]


@pytest.mark.parametrize("data", [b"", b"on", b"one and more"])
def test_an_output_of_another_size_is_refused(ended: Case, data: bytes) -> None:
    ended.lab.sites["nersc"].write(f"{ended.job.attempt.directory}/x.txt", data)
    assert verified(ended)["reason"].endswith(f"x.txt should have 3 bytes, it has {len(data)}")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"crossfade-manifest 1\nseq 0\n",
        manifest(FILES)[:-1],
        b"\xff\xfe",
        b"crossfade-manifest 1\nseq 0\nfile x\nend\n",
    ],
    ids=["empty", "torn", "cut", "binary", "malformed"],
)
def test_a_manifest_that_cannot_be_read_is_refused_even_if_its_digest_is_right(ended: Case, data: bytes) -> None:
    ended.lab.sites["nersc"].write(f"{ended.job.attempt.directory}/.crossfade/g1/outputs.manifest", data)
    assert verified(ended, digest=sha(data))["ok"] is False


def test_a_manifest_that_points_out_of_its_folder_is_refused(ended: Case) -> None:
    data = f"crossfade-manifest 1\nseq 0\nfile {sha(b'')} 0 ../../secret\nend\n".encode()
    ended.lab.sites["nersc"].write(f"{ended.job.attempt.directory}/.crossfade/g1/outputs.manifest", data)
    told = verified(ended, digest=sha(data))
    assert told["ok"] is False
    assert "without `..`" in told["reason"]


def test_another_generations_manifest_is_not_looked_at(ended: Case) -> None:
    assert verified(ended, generation=2)["ok"] is False


def test_a_site_that_goes_dark_meanwhile_is_asked_again(ended: Case) -> None:
    wire = Wire()
    wire.lose_request("read", error=SiteUnreachable("gone"))
    hands = Hands(
        store=ended.lab.store,
        world=ended.world,
        sites={"nersc": Seam(ended.lab.sites["nersc"], "site:nersc", wire)},
        mover=ended.lab.mover,
        clock=ended.lab.clock,
    )
    payload = json.dumps({"generation": 1, "digest": sha(manifest(FILES))})
    sightings = hands.perform([ended.effect._replace(kind="verify", payload=payload)], JobCache(ended.lab.store))
    assert (sightings.attempts, sightings.effects_done) == ([], [])
    assert json.loads(sightings.effects_again[0].note)["last"] == "gone"


# -- checkpoints --------------------------------------------------

SAVED = {"state.h5": b"halfway", "sub/mesh": b"grid"}


@pytest.fixture
def saved(ended: Case) -> Case:
    here, folder = ended.lab.sites["nersc"], f"{ended.job.attempt.directory}/.crossfade/g1/ckpt/7"
    for name, data in SAVED.items():
        here.write(f"{folder}/files/{name}", data)
    here.write(f"{folder}/manifest", manifest(SAVED, seq=7))
    return ended


def checked(c: Case) -> Any:
    folder = f"{c.job.attempt.directory}/.crossfade/g1/ckpt/7"
    effect = c.effect._replace(kind="check", payload=json.dumps({"generation": 1, "seq": 7, "path": folder}))
    result = Checker(clock=c.lab.clock).check(c.lab.sites["nersc"], [(effect, c.job)])
    (row,) = result.checkpoints
    assert json.loads(result.done[0].outcome)["ok"] is (row.state == "verified")
    return row


def test_a_checkpoint_whose_files_hash_as_promised_is_verified(saved: Case) -> None:
    row = checked(saved)
    assert (row.state, row.site, row.seq, row.bytes, row.reason) == ("verified", "nersc", 7, 7 + 4, "")
    assert row.verified_at == saved.lab.clock()
    assert json.loads(row.manifest)["app"] == "v1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files/state.h5": b"halfwax"}, "state.h5 does not match the manifest"),  # one bit, same size
        ({"files/state.h5": b"half"}, "state.h5 does not match the manifest"),
        ({"files/sub/mesh": None}, "mesh does not match the manifest"),
        ({"manifest": None}, "its manifest cannot be read"),
        ({"manifest": manifest(SAVED, seq=7)[:-4]}, "its manifest cannot be read"),
        ({"manifest": b""}, "its manifest cannot be read"),
    ],
    ids=["tampered", "short", "missing file", "no manifest", "torn manifest", "empty manifest"],
)
def test_a_checkpoint_that_is_not_as_promised_is_bad(saved: Case, change: dict[str, bytes | None], reason: str) -> None:
    here, folder = saved.lab.sites["nersc"], f"{saved.job.attempt.directory}/.crossfade/g1/ckpt/7"
    for name, data in change.items():
        if data is None:
            here.remove([f"{folder}/{name}"])
        else:
            here.write(f"{folder}/{name}", data)
    row = checked(saved)
    assert (row.state, row.verified_at, row.manifest) == ("bad", None, "")
    assert reason in row.reason


# -- the hands --------------------------------------------------


def test_an_effect_about_an_attempt_that_does_not_exist_is_dropped(ended: Case) -> None:
    effect = ended.effect._replace(attempt=99)
    sightings = ended.lab.broker.hands.perform([effect], JobCache(ended.lab.store))
    assert json.loads(sightings.effects_done[0].outcome) == {"dropped": "its attempt does not exist"}


@pytest.mark.parametrize("kind", ENDS_WITH_ATTEMPT)
def test_what_was_wanted_for_an_attempt_that_is_over_is_dropped_without_a_call(ended: Case, kind: str) -> None:
    jobs = JobCache(ended.lab.store)
    job = jobs.get(ended.effect)
    assert job is not None
    jobs.jobs[ended.effect.run_id, ended.effect.n, ended.effect.attempt] = replace(
        job, attempt=job.attempt._replace(open=0)
    )
    wire = Wire()
    hands = ended.lab.new_broker(hook=wire).hands
    sightings = hands.perform([ended.effect._replace(kind=kind)], jobs)
    assert json.loads(sightings.effects_done[0].outcome) == {"dropped": "its attempt is over"}
    assert wire.calls == []


def test_an_effect_for_a_site_that_left_the_document_waits_for_it(ended: Case) -> None:
    effect = ended.effect._replace(site="gone")
    sightings = ended.lab.broker.hands.perform([effect], JobCache(ended.lab.store))
    assert json.loads(sightings.effects_again[0].note)["last"] == "site gone is not in the site document"
