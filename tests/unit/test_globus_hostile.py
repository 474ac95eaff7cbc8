"""What a hostile or careless client sends to the Globus stand-in: no path leaves its collection, nothing breaks off."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from globus_kit import CLIENT, Globus, id_of

from sandbox.globus import Limits
from sandbox.globus.scopes import BadScope, read

LS = f"/v0.10/operation/endpoint/{id_of('a')}/ls"
STAT = f"/v0.10/operation/endpoint/{id_of('a')}/stat"
WAYS_OUT = ["/../b/secret", "../b/secret", "/d/../../b/secret", "/~/../b/secret", "/..", "/d/..", "//../b/secret"]


@pytest.fixture
def globus(tmp_path: Path) -> Globus:
    made = Globus(tmp_path)
    made.put("a", "d/one")
    made.put("b", "secret", b"a secret")
    return made


@pytest.mark.parametrize("path", [*WAYS_OUT, "/x\x00y", "/x\ny", "/" + "x" * 300, "/" + "d/" * 3000])
def test_paths_that_lead_out_or_hold_strange_signs_are_refused_everywhere(globus: Globus, path: str) -> None:
    with globus.client() as client:
        for where in (LS, STAT):
            assert 400 <= client.get(where, params={"path": path}).status_code <= 404
        for verb, body in (
            ("mkdir", {"DATA_TYPE": "mkdir", "path": path}),
            ("rename", {"DATA_TYPE": "rename", "old_path": path, "new_path": "/taken"}),
            ("rename", {"DATA_TYPE": "rename", "old_path": "/d/one", "new_path": path}),
        ):
            reply = client.post(LS.replace("/ls", f"/{verb}"), json=body)
            assert 400 <= reply.status_code <= 404, reply.text
        for pair in ((path, "/taken"), ("/d/one", path)):
            reply = client.post("/v0.10/transfer", json=globus.order(pair))
            if reply.status_code == 202:
                task = globus.task(reply.json()["task_id"])
                assert task.trouble is not None
                assert task.trouble.code == "INVALID_PATH_NAME"
    assert globus.names("a") == ["d/one"]
    assert globus.names("b") == ["secret"]


def test_links_that_lead_out_are_neither_read_nor_written_through(globus: Globus) -> None:
    folder = globus.collections["a"].folder
    (folder / "file").symlink_to("../b/secret")
    (folder / "folder").symlink_to("../b")
    (folder / "absolute").symlink_to(globus.collections["b"].folder / "secret")
    (folder / "inside").symlink_to("d/one")
    with globus.client() as client:
        listed = {row["name"]: row for row in client.get(LS).json()["DATA"]}
        assert {name: row["type"] for name, row in listed.items()} == {
            "absolute": "invalid_symlink",
            "d": "dir",
            "file": "invalid_symlink",
            "folder": "invalid_symlink",
            "inside": "file",
        }
        assert (listed["inside"]["link_target"], listed["inside"]["size"]) == ("d/one", 11)
        assert client.get(LS, params={"path": "/folder"}).status_code in (403, 502)
        assert client.get(STAT, params={"path": "/folder/secret"}).status_code == 403
        for source in ("/file", "/folder", "/absolute", "/folder/secret"):
            task_id = globus.submit(client, (source, "/x"))
            assert globus.task(task_id).trouble is not None
        out = globus.order(("/d/one", "/folder/one")) | {"destination_endpoint": id_of("a")}
        task_id = client.post("/v0.10/transfer", json=out).json()["task_id"]
        assert globus.task(task_id).trouble is not None
        link = globus.order(("/file", "/link"))
        link["DATA"][0]["DATA_TYPE"] = "transfer_symlink_item"
        assert globus.task(client.post("/v0.10/transfer", json=link).json()["task_id"]).trouble is not None
        delete = {"DATA_TYPE": "delete", "endpoint": id_of("a"), "recursive": True}
        for number, path in enumerate(("/folder", "/file", "/", "/folder/secret")):
            order = {**delete, "submission_id": f"{number:032x}", "DATA": [{"DATA_TYPE": "delete_item", "path": path}]}
            client.post("/v0.10/delete", json=order)
    assert globus.read("b", "secret") == b"a secret"
    assert globus.names("b") == ["secret"]


@pytest.mark.parametrize("name", ["new\nline", "tab\t", "back\\slash", "quote\"'", "ü ☃", "%2e%2e", "-rf", "*", " x "])
def test_strange_names_in_a_folder_are_listed_as_they_are_and_harm_nobody(globus: Globus, name: str) -> None:
    globus.put("a", f"s/{name}", b"1")
    with globus.client() as client:
        listed = client.get(LS, params={"path": "/s"}).json()["DATA"]
        assert [row["name"] for row in listed] == [name]
        task = globus.task(globus.submit(client, ("/s", "/s")))
    if name in ("new\nline", "tab\t", "back\\slash"):
        assert task.trouble is not None
        assert task.trouble.code == "INVALID_PATH_NAME"
    else:
        assert globus.read("b", f"s/{name}") == b"1"


def test_a_name_that_is_no_utf_8_does_not_break_a_listing(globus: Globus) -> None:
    (Path(os.fsdecode(bytes(globus.collections["a"].folder) + b"/bad\xff"))).write_bytes(b"1")
    with globus.client() as client:
        reply = client.get(LS)
    assert reply.status_code == 200
    assert {row["name"] for row in reply.json()["DATA"]} == {"d", "bad\udcff"}


def test_pipes_and_sockets_are_listed_and_not_copied(globus: Globus) -> None:
    os.mkfifo(globus.collections["a"].folder / "d/pipe")
    with globus.client() as client:
        listed = client.get(LS, params={"path": "/d"}).json()["DATA"]
        assert {row["name"]: row["type"] for row in listed} == {"one": "file", "pipe": "pipe"}
        globus.submit(client, ("/d", "/d"))
        assert globus.task(globus.submit(client, ("/d/pipe", "/pipe"))).trouble is not None
    assert globus.names("b") == ["d/one", "secret"]


def test_a_listing_has_a_limit_and_says_so(tmp_path: Path) -> None:
    globus = Globus(tmp_path, limits=Limits(listing=5))
    assert Limits().listing == 100_000
    for number in range(5):
        globus.put("a", f"{number}")
    with globus.client() as client:
        assert client.get(LS).json()["total"] == 5
        globus.put("a", "5")
        reply = client.get(LS)
    assert (reply.status_code, reply.json()["code"]) == (502, "ExternalError.DirListingFailed.SizeLimit")


@pytest.mark.parametrize(
    "change",
    [
        {"DATA": "text"},
        {"DATA": [1]},
        {"DATA": [{"DATA_TYPE": "transfer_item"}]},
        {"DATA": [{"DATA_TYPE": "other", "source_path": "/d/one", "destination_path": "/x"}]},
        {"DATA_TYPE": "delete"},
        {"submission_id": "no uuid"},
        {"submission_id": None},
        {"source_endpoint": ""},
        {"source_endpoint": id_of("nowhere")},
        {"label": "x" * 129},
        {"label": "two\nlines"},
        {"label": " space"},
        {"label": 7},
        {"deadline": "tomorrow"},
        {"deadline": "2020-01-01T00:00:00"},
        {"sync_level": 4},
        {"sync_level": True},
        {"sync_level": "1"},
        {"verify_checksum": "yes"},
        {"recursive_symlinks": "follow"},
        {"filter_rules": [{"method": "maybe", "name": "*"}]},
        {"filter_rules": [7]},
        {"filter_rules": 7},
    ],
)
def test_submissions_that_make_no_sense_are_refused_and_counted_nowhere(globus: Globus, change: dict[str, Any]) -> None:
    with globus.client() as client:
        reply = client.post("/v0.10/transfer", json=globus.order(("/d/one", "/x")) | change)
    assert reply.status_code in (400, 404), reply.text
    assert set(reply.json()) >= {"code", "message", "request_id", "resource"}
    assert globus.service.counted["transfers"] == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"DATA_TYPE": NaN}'])
def test_bodies_that_are_no_documents_are_bad_requests(globus: Globus, body: bytes) -> None:
    with globus.client() as client:
        for method, path in (("POST", "/v0.10/transfer"), ("POST", "/v0.10/delete"), ("POST", LS[:-3] + "/mkdir")):
            assert client.request(method, path, content=body).status_code == 400
        assert client.post("/v2/oauth2/token", content=body).status_code in (400, 401)


@pytest.mark.parametrize(
    "query",
    [
        "filter=status",
        "filter=nonsense:1",
        "limit=x",
        "limit=1001",
        "offset=-1",
        "orderby=nothing",
        "orderby=label%20SIDEWAYS",
        "filter=request_time:yesterday",
    ],
)
def test_questions_that_make_no_sense_are_bad_requests(globus: Globus, query: str) -> None:
    with globus.client() as client:
        globus.submit(client, ("/d/one", "/x"))
        assert client.get(f"/v0.10/task_list?{query}").status_code == 400


def test_nobody_gets_in_without_the_right_token(globus: Globus) -> None:
    with globus.client() as client:
        ask = lambda token: client.get("/v0.10/task_list", headers={"authorization": token})  # noqa: E731
        openid = globus.auth.by_credentials(CLIENT, "openid").tokens[0].value
        assert (ask("").status_code, ask("").json()["code"]) == (400, "ClientError.AuthenticationFailed")
        assert (ask("Bearer x").status_code, ask("Bearer x").json()["code"]) == (401, "AuthenticationFailed")
        assert ask(f"Bearer {openid}").status_code == 401
        for path in ("/v2/oauth2/userinfo", "/v2/api/identities?ids=x", f"/v2/api/identities/{CLIENT.id}/consents"):
            assert client.get(path).status_code == 401  # a token of Transfer's
        assert client.get(f"/collections/{id_of('a')}/d/one").status_code == 403
        own = {"authorization": f"Bearer {openid}"}
        assert client.get(f"/v2/api/identities/{globus.auth.user.id}/consents", headers=own).status_code == 403


def test_an_access_token_ends(tmp_path: Path) -> None:
    globus = Globus(tmp_path, life=172_800)
    with globus.client() as client:
        assert client.get("/v0.10/task_list").status_code == 200
        globus.go_on(172_801)
        assert client.get("/v0.10/task_list").status_code == 401


@pytest.mark.parametrize("text", ["a[", "a]", "[a]", "a[b[c[d[e[f]]]]]", "x" * 20_001, "a[[b]]"])
def test_scopes_that_cannot_be_read_are_refused(globus: Globus, text: str) -> None:
    with pytest.raises(BadScope):
        read(text)
    form = {"grant_type": "client_credentials", "scope": text}
    with globus.client() as client:
        reply = client.post("/v2/oauth2/token", data=form, auth=(CLIENT.id, CLIENT.secret))
    assert (reply.status_code, reply.json()["error"]) == (400, "invalid_scope")


def test_scopes_are_read_with_what_depends_on_them() -> None:
    found = read("openid a[*b c[d]] a[e]")
    assert list(found) == ["openid", "a"]
    assert found["a"].has("c", "d")
    assert found["a"].has("b")
    assert found["a"].has("e")
    assert not found["a"].has("d")


def test_secrets_are_in_no_representation(globus: Globus) -> None:
    token = globus.auth.by_credentials(CLIENT, "openid").tokens[0]
    assert CLIENT.secret not in repr(CLIENT)
    assert token.value not in repr(token)


def test_nothing_is_told_of_somebody_elses_tasks(globus: Globus) -> None:
    with globus.client() as client:
        task_id = globus.submit(client, ("/d/one", "/x"))
        code = globus.auth.authorize(
            CLIENT.id,
            scope="urn:globus:auth:scope:transfer.api.globus.org:all",
            challenge="",
            redirect="",
            offline=False,
            session={},
        )
        person = globus.auth.by_code(CLIENT, code, verifier="", redirect="").tokens[0].value
        headers = {"authorization": f"Bearer {person}"}
        assert client.get(f"/v0.10/task/{task_id}", headers=headers).status_code == 404
        assert client.post(f"/v0.10/task/{task_id}/cancel", headers=headers).status_code == 404
        assert client.get("/v0.10/task_list", headers=headers).json()["total"] == 0


def test_fault_rules_reach_single_requests(tmp_path: Path) -> None:
    globus = Globus(
        tmp_path,
        {"fault": "consent_required", "path": "/ls$", "collection": "a"},
        {"fault": "session_needed", "path": "/ls$", "nth": 2, "parameters": {"session_required_mfa": True}},
        {"fault": "login_failed", "path": "/ls$", "nth": 3},
        {"fault": "globus_error", "path": "/ls$", "nth": 4, "status": 409, "code": "NoCredException"},
        {"fault": "tokens_revoked", "path": "/task_list"},
    )
    with globus.client() as client:
        codes = [client.get(LS).json().get("code") for _ in range(5)]
        assert client.get("/v0.10/task_list").status_code == 401
    assert codes == [
        "ConsentRequired",
        "PermissionDenied",
        "ExternalError.DirListingFailed.LoginFailed",
        "NoCredException",
        None,
    ]
