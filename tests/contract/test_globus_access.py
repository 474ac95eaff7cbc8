"""Who asks Globus, what is refused before anything is asked of it, and what is no answer of its."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from globus_kit import CLIENT, id_of
from globus_mover_kit import CONTENT, PAIR, Rig, a_rig, moved

from connectors.errors import BadReply, SiteUnreachable
from connectors.globus import make_mover
from connectors.model import Accepted, Refused, Transfer, TransferState
from connectors.registry import GlobusConfig, MoverSetup
from sandbox.globus import GUEST, Pace

# -- who asks ----------------------------------------------------------------------------------------------


def test_a_revoked_token_is_renewed_without_a_word(tmp_path: Path) -> None:
    with a_rig(tmp_path, pace=Pace(rate=100.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        mover.submit([transfer])
        rig.globus.auth.revoke_all()
        rig.globus.go_on(10)
        assert rig.state(mover, "k1") is TransferState.ACTIVE
        rig.globus.auth.revoke_all()
        assert rig.settled(mover, transfer, submit=False).state is TransferState.SUCCEEDED


def test_a_service_client_consents_by_itself(tmp_path: Path) -> None:
    with a_rig(tmp_path, need_data_access=None) as rig:
        assert moved(rig).state is TransferState.SUCCEEDED


def test_collections_without_such_a_scope_are_not_asked_for_it(tmp_path: Path) -> None:
    with a_rig(tmp_path, need_data_access=None) as rig:
        for collection in rig.globus.collections.values():
            collection.entity_type = GUEST
        assert moved(rig).state is TransferState.SUCCEEDED


def test_a_consent_that_turns_out_to_be_missing_is_given_once_and_not_in_a_loop(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "consent_required", "times": 0}, need_data_access=None) as rig:
        rig.globus.collections["a"].entity_type = GUEST
        given = rig.globus.auth.given
        status = moved(rig)
        assert status.state is TransferState.HELD
        assert status.help == f"crossfade login globus --consent {id_of('a')}"
        assert rig.globus.auth.given - given < 8


def test_a_session_that_is_required_is_told_with_the_command_that_makes_it(tmp_path: Path) -> None:
    wanted = {
        "session_message": "Log in at the facility",
        "session_required_single_domain": ["alcf.anl.gov", "x; rm -rf"],
    }
    session = {"fault": "session_required", "collection": "^b", "parameters": wanted}
    with a_rig(tmp_path, session) as rig:
        rig.globus.go_on(1)
        status = moved(rig)
        assert status.state is TransferState.HELD
        assert status.help == "crossfade login globus --domain alcf.anl.gov"
        assert "Log in at the facility" in status.reason
        assert rig.transfers == 0


def test_a_failed_login_in_the_dress_of_a_bad_gateway_is_known_for_what_it_is(tmp_path: Path) -> None:
    with a_rig(tmp_path, {"fault": "login_hidden", "collection": "^b"}) as rig:
        status = moved(rig)
        assert status.state is TransferState.HELD
        assert status.help == "crossfade login globus"


@pytest.mark.fault("F40")
def test_a_login_that_ends_on_the_way_holds_the_transfer_until_somebody_has_logged_in(tmp_path: Path) -> None:
    ended = {"fault": "login_expired", "collection": "^a", "at": 20, "for": 3600}
    with a_rig(tmp_path, ended, pace=Pace(rate=100.0)) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        status = rig.settled(mover, transfer)
        assert status.state is TransferState.HELD
        assert status.help.startswith("crossfade login globus")
        rig.globus.go_on(3700)
        assert rig.settled(mover, transfer, submit=False).state is TransferState.SUCCEEDED


def test_a_secret_that_is_wrong_holds_everything_and_is_tried_again_later(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        secret = tmp_path / "secrets" / "secret"
        right = secret.read_text()
        secret.write_text("another-secret")
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        mover.submit([transfer])
        status = mover.status(["k1"])["k1"]
        assert status.state is TransferState.HELD
        assert status.help == "crossfade login globus"
        assert "another-secret" not in repr(status)
        assert not any(item.ok for item in mover.probe())
        secret.write_text(right)
        assert rig.settled(rig.connect(), transfer).state is TransferState.SUCCEEDED
        assert rig.transfers == 1


# -- what is refused ---------------------------------------------------------------------------------------


def _refused(rig: Rig, transfer: Transfer) -> str:
    mover = rig.connect()
    answer = mover.submit([transfer])[transfer.key]
    assert isinstance(answer, Refused), answer
    assert mover.refuses(transfer) == answer.reason
    assert rig.transfers == 0
    assert rig.notes.get([f"globus:{transfer.key}"]) == {}
    return answer.reason


def test_sides_without_a_collection_are_refused_by_name(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.configs["c"] = replace(rig.configs["a"], name="c", collection="")
        for side, word in (("c", "site c"), ("web:", "place web:"), ("", "broker's own store"), ("x", "site x")):
            assert word in _refused(rig, rig.transfer(PAIR, source_site=side))


def test_a_root_outside_of_its_collection_is_refused(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        for root in ("/home/me", "/lustre2/x", "/lustre/../etc", "relative"):
            rig.configs["b"] = replace(rig.configs["b"], root=root)
            assert "collection" in _refused(rig, rig.transfer(PAIR))


def test_two_items_for_one_name_are_refused_also_where_the_names_only_look_the_same(tmp_path: Path) -> None:
    composed = unicodedata.normalize("NFC", "to/é")
    pairs = (("from/a", composed), ("from/b", unicodedata.normalize("NFD", composed)))
    with a_rig(tmp_path) as rig:
        assert "two items go to" in _refused(rig, rig.transfer(*pairs))
        assert "two items go to" in _refused(rig, rig.transfer(("x", "to/a"), ("y", "to/./a")))
        assert "below it" in _refused(rig, rig.transfer(("x/", "to/"), ("y", "to/a")))


def test_the_folders_of_the_connectors_own_are_no_destination(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        for target in ("incoming/x", "jobs/x", ".crossfade-site"):
            assert "own records" in _refused(rig, rig.transfer(("a", target)))
        inside = rig.transfer(("a", ".crossfade-incoming/x"), destination_site="store:")
        assert "own records" in _refused(rig, inside)


def test_names_that_need_quoting_arrive_as_they_are(tmp_path: Path) -> None:
    names = ("a b", "$(c)", "*?[x]", "ü/é", "~", "-rf", "%2e%2e", "#&=+", "'\"")
    with a_rig(tmp_path) as rig:
        status = moved(rig, *((f"from/{name}", f"to/{name}") for name in names))
        assert status.state is TransferState.SUCCEEDED
        for name in names:
            assert rig.get("b", f"to/{name}") == CONTENT


def test_the_task_carries_what_a_person_would_call_it(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        label = "run/stage\nwith\x00 odd   words " + "x" * 300
        rig.put("a", "from/a", CONTENT)
        answer = rig.connect().submit([rig.transfer(PAIR, label=label)])["k1"]
        assert isinstance(answer, Accepted)
        told = rig.globus.service.tasks(owner=CLIENT.id)[0].label
        assert told.startswith("crossfade k1.1 run/stage with odd words xxx")
        assert len(told) == 128


def test_without_a_client_nothing_is_taken_so_that_small_files_go_another_way(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        setup = MoverSetup(
            sites={},
            configs=rig.configs,
            blobs=tmp_path,
            clock=rig.globus.clock,
            notes=rig.notes,
            places=rig.places,
            globus=GlobusConfig(transfer_url=rig.server.address),
        )
        mover = make_mover(setup)
        assert "none is shipped" in mover.refuses(rig.transfer(PAIR))
        assert isinstance(mover.submit([rig.transfer(PAIR)])["k1"], Refused)
        mover.close()


def test_the_installed_mover_carries_by_its_configuration_alone(tmp_path: Path) -> None:
    with a_rig(tmp_path) as rig:
        rig.put("a", "from/a", CONTENT)
        setup = MoverSetup(
            sites={},
            configs=rig.configs,
            blobs=tmp_path,
            clock=rig.globus.clock,
            notes=rig.notes,
            places=rig.places,
            globus=replace(rig.config, active=7),
        )
        mover = make_mover(setup)
        assert mover.slots == 7
        assert rig.settled(mover, rig.transfer(PAIR)).state is TransferState.SUCCEEDED
        mover.close()


def test_a_reply_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.globus_api.bounded.LARGEST", 1 << 20)
    huge = {"fault": "huge", "bytes": 3 << 20, "times": 0, "path": "/v0.10"}
    with a_rig(tmp_path, huge) as rig, pytest.raises(SiteUnreachable):
        rig.connect().submit([rig.transfer(PAIR)])


def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with (
        a_rig(
            tmp_path, {"fault": "redirect", "to": "https://elsewhere.example.org/", "times": 0, "path": "/v0.10"}
        ) as rig,
        pytest.raises(SiteUnreachable),
    ):
        rig.connect().submit([rig.transfer(PAIR)])


@pytest.mark.parametrize("fault", ["html", "garbage"])
def test_an_answer_that_is_none_of_globus_begins_nothing_twice(tmp_path: Path, fault: str) -> None:
    rule = {"fault": fault, "code": 200, "times": 1, "handled": True, "method": "POST", "path": "/v0.10/transfer$"}
    with a_rig(tmp_path, rule) as rig:
        rig.put("a", "from/a", CONTENT)
        mover, transfer = rig.connect(), rig.transfer(PAIR)
        with pytest.raises(BadReply):
            mover.submit([transfer])
        assert rig.settled(mover, transfer).state is TransferState.SUCCEEDED
        assert rig.transfers == 1
