"""Waivers over HTTP, and persons who ask under names of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_kit import TOKEN, Face, open_face

from broker.api.people import NOBODY, People, read_people
from broker.client import Client
from broker.config import Settings, read_settings
from broker.errors import UsageError

BOB = "bobs-own-token-" + "b" * 32
DOCUMENT = "crossfade: 1\nname: p\npolicy: {data: {export_control: true}}\nstages: {fit: {run: 'true'}}\n"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture
def face(tmp_path: Path) -> Iterator[Face]:
    with open_face(tmp_path, people=People({digest(BOB): "bob"})) as made:
        made.service.person = "ann"
        yield made


def held(face: Face) -> str:
    answer = face.post("/v1/runs", {"document": DOCUMENT, "hold": True})
    assert answer.status_code == 201, answer.text
    assert "crossfade waiver ask" in answer.json()["warnings"][0]
    return str(answer.json()["run"])


def asked(face: Face, run: str, **said: object) -> str:
    answer = face.post(f"/v1/runs/{run}/waivers", {"site": "here", "reason": "cleared since May", **said})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["waiver"])


def test_two_persons_agree_over_http(face: Face) -> None:
    run = held(face)
    waiver = asked(face, run)
    body = {"reason": "seen the letter"}
    same = face.post(f"/v1/waivers/{waiver}/confirm", body)
    assert (same.status_code, same.json()["type"]) == (403, "urn:crossfade:problem:refused")
    assert "ann has asked for it, and two persons must agree" in same.json()["detail"]
    confirmed = face.post(f"/v1/waivers/{waiver}/confirm", body, token=BOB)
    assert confirmed.status_code == 200, confirmed.text
    assert (confirmed.json()["state"], confirmed.json()["confirmed_by"]) == ("in_force", "bob")
    assert face.get(f"/v1/runs/{run}/waivers").json() == face.get("/v1/waivers").json() == [confirmed.json()]
    withdrawn = face.post(f"/v1/waivers/{waiver}/withdraw", {}, token=BOB)
    assert (withdrawn.json()["state"], withdrawn.json()["withdrawn_by"]) == ("withdrawn", "bob")


def test_a_submission_that_is_not_held_is_refused_by_the_rules_name(face: Face) -> None:
    answer = face.post("/v1/runs", {"document": DOCUMENT})
    assert answer.status_code == 403
    assert "data.export_control" in answer.json()["detail"]


def test_what_a_person_asks_for_is_told_under_the_persons_name(face: Face) -> None:
    answer = face.post("/v1/runs", {"document": DOCUMENT, "hold": True}, token=BOB)
    run = answer.json()["run"]
    assert face.get(f"/v1/runs/{run}/timeline").json()[0]["actor"] == "bob"
    assert face.service.actor == "ann"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"site": "here"}, 422),
        ({"site": "here", "reason": ""}, 422),
        ({"site": "here", "reason": "x", "rule": "cores"}, 422),
        ({"site": "here", "reason": "x", "seconds": 1e9}, 422),
        ({"site": "there", "reason": "x"}, 404),
        ({"site": "here", "reason": "x", "rule": "stay"}, 409),
    ],
)
def test_a_wrong_wish_is_refused_and_nothing_kept(face: Face, body: object, status: int) -> None:
    run = held(face)
    assert face.post(f"/v1/runs/{run}/waivers", body).status_code == status
    assert face.get("/v1/waivers").json() == []


def test_a_waiver_is_found_by_its_whole_id_alone(face: Face) -> None:
    waiver = asked(face, held(face))
    for ident in (waiver[:9], "w", "..%2F"):
        assert face.post(f"/v1/waivers/{ident}/confirm", {"reason": "x"}, token=BOB).status_code == 404


@pytest.mark.parametrize("token", [BOB[:-1], BOB + "b", digest(BOB), "bob"])
def test_nearly_a_persons_token_is_nobodys(face: Face, token: str) -> None:
    assert face.get("/v1/runs", token=token).status_code == 401


def test_the_client_says_the_same() -> None:
    seen: list[tuple[str, str, object]] = []

    def server(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, request.url.path, json.loads(request.content) if request.content else None))
        return httpx.Response(200, json=[] if request.method == "GET" else {"waiver": "w1"})

    with Client("http://localhost:1", TOKEN, transport=httpx.MockTransport(server)) as client:
        assert client.waivers() == client.waivers("r") == []
        assert client.ask_waiver("r", "here", reason="x", rule="stay", seconds=60.0) == {"waiver": "w1"}
        client.confirm_waiver("w1", reason="y")
        client.withdraw_waiver("w1")
    assert seen == [
        ("GET", "/v1/waivers", None),
        ("GET", "/v1/runs/r/waivers", None),
        ("POST", "/v1/runs/r/waivers", {"site": "here", "rule": "stay", "reason": "x", "seconds": 60.0}),
        ("POST", "/v1/waivers/w1/confirm", {"reason": "y"}),
        ("POST", "/v1/waivers/w1/withdraw", {"reason": ""}),
    ]


# -- the file of persons -------------------------------------------------------------------------------------------


def people(tmp_path: Path, text: str, mode: int = 0o644) -> Settings:
    (tmp_path / "people").write_text(text)
    (tmp_path / "people").chmod(mode)
    return Settings(home=tmp_path)


def test_persons_are_told_by_the_digests_of_their_tokens(tmp_path: Path) -> None:
    other = "x" * 40
    found = read_people(
        people(tmp_path, f"# who may ask\n\nbob  {digest(BOB)}\nbob {digest(other).upper()} # laptop\n")
    )
    assert found.who(f"Bearer {BOB}".encode()) == found.who(f"bearer {other}".encode()) == "bob"
    for header in (b"", b"Bearer", BOB.encode(), b"Bearer " + digest(BOB).encode(), b"Bearer short"):
        assert found.who(header) is None
    assert "bob" not in repr(found)


def test_a_token_too_short_to_be_one_is_nobodys_whatever_the_file_says(tmp_path: Path) -> None:
    assert read_people(people(tmp_path, f"eve {digest('secret')}\n")).who(b"Bearer secret") is None


def test_without_the_file_there_is_nobody(tmp_path: Path) -> None:
    assert read_people(Settings(home=tmp_path)) is NOBODY
    settings = read_settings({"CROSSFADE_HOME": str(tmp_path), "CROSSFADE_PEOPLE_FILE": str(tmp_path / "p")})
    assert settings.people == tmp_path / "p"


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_file_that_others_may_change_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match="others may change"):
        read_people(people(tmp_path, "", mode))


@pytest.mark.parametrize(
    "text", ["bob\n", f"bob {'0' * 63}\n", f"b b {'0' * 64}\n", f"{'0' * 64} bob\n", f"é {'0' * 64}\n"]
)
def test_a_line_that_means_nothing_is_refused_by_its_number(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="people:1: write NAME and the SHA-256"):
        read_people(people(tmp_path, text))


def test_a_token_of_two_persons_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="people:2: two persons have the same token"):
        read_people(people(tmp_path, f"bob {digest(BOB)}\nann {digest(BOB)}\n"))
