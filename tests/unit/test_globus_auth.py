"""Globus Auth as a model and over HTTP in this process: grants, consents, and what they are good for."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import jwt
import pytest
from globus_kit import CLIENT, NATIVE, Globus, id_of

from sandbox.globus.auth import AuthRefused
from sandbox.globus.scopes import TRANSFER_ALL


@pytest.fixture
def globus(tmp_path: Path) -> Globus:
    return Globus(tmp_path, need_data_access=True)


def ask(globus: Globus, client: httpx.Client, **form: str) -> httpx.Response:
    return client.post("/v2/oauth2/token", data=form, auth=(CLIENT.id, CLIENT.secret))


def test_each_resource_server_has_a_token_of_its_own_and_only_roots_are_told(globus: Globus) -> None:
    one = globus.collections["a"]
    scope = f"openid {TRANSFER_ALL}[*{one.scope('data_access')}] {one.scope('https')}"
    with globus.client() as client:
        reply = ask(globus, client, grant_type="client_credentials", scope=scope).json()
    tokens = {token["resource_server"]: token for token in [reply, *reply["other_tokens"]]}
    assert {server: token["scope"] for server, token in tokens.items()} == {
        "auth.globus.org": "openid",
        "transfer.api.globus.org": TRANSFER_ALL,
        id_of("a"): globus.collections["a"].scope("https"),
    }
    kept = globus.auth.token(tokens["transfer.api.globus.org"]["access_token"])
    assert kept is not None
    assert kept.allows(TRANSFER_ALL, globus.collections["a"].scope("data_access"))
    assert not kept.allows(TRANSFER_ALL, globus.collections["b"].scope("data_access"))


def test_an_id_token_is_signed_by_the_published_key_for_the_client(globus: Globus) -> None:
    with globus.client() as client:
        reply = ask(globus, client, grant_type="client_credentials", scope="openid email").json()
        configuration = client.get("/.well-known/openid-configuration").json()
        [key] = client.get("/jwk.json").json()["keys"]
    assert configuration["jwks_uri"] == "http://globus.test/jwk.json"
    claims = jwt.decode(
        reply["id_token"],
        jwt.PyJWK(key),
        algorithms=configuration["id_token_signing_alg_values_supported"],
        audience=CLIENT.id,
        issuer=configuration["issuer"],
        options={"verify_exp": False, "verify_iat": False},  # by the virtual clock
    )
    assert (claims["sub"], claims["preferred_username"]) == (CLIENT.id, f"{CLIENT.id}@clients.auth.globus.org")


def test_consents_are_told_as_a_forest(globus: Globus) -> None:
    scope = f"openid {TRANSFER_ALL}[{globus.collections['a'].scope('data_access')}]"
    grant = globus.auth.by_credentials(CLIENT, scope)
    own = next(token.value for token in grant.tokens if token.server == "auth.globus.org")
    with globus.client() as client:
        path = f"/v2/api/identities/{CLIENT.id}/consents"
        told = client.get(path, headers={"authorization": f"Bearer {own}"}).json()["consents"]
    by_name = {consent["scope_name"]: consent for consent in told}
    root, child = by_name[TRANSFER_ALL], by_name[globus.collections["a"].scope("data_access")]
    assert root["dependency_path"] == [root["id"]]
    assert child["dependency_path"] == [root["id"], child["id"]]
    globus.auth.rescind(CLIENT.id, CLIENT.id)
    assert globus.auth.token(own) is None
    assert globus.auth.consents(CLIENT.id, CLIENT.id) == []


def test_a_native_client_has_no_credentials_of_its_own(globus: Globus) -> None:
    with globus.client() as client:
        form = {"client_id": NATIVE.id, "grant_type": "client_credentials", "scope": TRANSFER_ALL}
        assert client.post("/v2/oauth2/token", data=form).status_code == 401
        assert client.post("/v2/oauth2/token", data=form, auth=(CLIENT.id, "wrong")).status_code == 401
        assert client.post("/v2/oauth2/token", data=form, headers={"authorization": "Basic %"}).status_code == 401
        unknown = client.post("/v2/oauth2/token", data={"grant_type": "magic"}, auth=(CLIENT.id, CLIENT.secret))
    assert unknown.json()["error"] == "unsupported_grant_type"


def test_a_refresh_gives_one_token_and_only_to_its_client(globus: Globus) -> None:
    code = globus.auth.authorize(
        NATIVE.id, scope=f"openid {TRANSFER_ALL}", challenge="", redirect="r", offline=True, session={}
    )
    grant = globus.auth.by_code(NATIVE, code, verifier="", redirect="r")
    refresh = grant.refresh["transfer.api.globus.org"]
    assert [token.server for token in globus.auth.by_refresh(NATIVE, refresh).tokens] == ["transfer.api.globus.org"]
    for client, value in ((CLIENT, refresh), (NATIVE, "nonsense"), (NATIVE, grant.tokens[0].value)):
        with pytest.raises(AuthRefused):
            globus.auth.by_refresh(client, value)
    with globus.client() as http:
        reply = http.get("/v0.10/task_list", headers={"authorization": f"Bearer {refresh}"})
    assert reply.status_code == 401


def test_a_code_ends_after_ten_minutes_and_belongs_to_its_redirect(globus: Globus) -> None:
    def code() -> str:
        return globus.auth.authorize(
            NATIVE.id, scope="openid", challenge="", redirect="there", offline=False, session={}
        )

    with pytest.raises(AuthRefused):
        globus.auth.by_code(NATIVE, code(), verifier="", redirect="elsewhere")
    with pytest.raises(AuthRefused):
        globus.auth.by_code(CLIENT, code(), verifier="", redirect="there")
    late = code()
    globus.go_on(601)
    with pytest.raises(AuthRefused):
        globus.auth.by_code(NATIVE, late, verifier="", redirect="there")


def test_a_program_that_listens_is_told_the_code_where_it_listens(globus: Globus) -> None:
    query = {
        "client_id": NATIVE.id,
        "redirect_uri": "http://localhost:4711/back?x=1",
        "scope": "openid",
        "state": "a&b",
        "response_type": "code",
    }
    with globus.client() as client:
        reply = client.get("/v2/oauth2/authorize", params=query)
        elsewhere = client.get("/v2/oauth2/authorize", params={**query, "redirect_uri": "https://evil.example.org/"})
    assert reply.status_code == 302
    assert reply.headers["location"].startswith("http://localhost:4711/back?x=1&code=")
    assert reply.headers["location"].endswith("&state=a%26b")
    assert (elsewhere.status_code, "location" in elsewhere.headers) == (200, False)


def test_a_token_is_looked_into_by_its_client_alone(globus: Globus) -> None:
    token = globus.auth.by_credentials(CLIENT, TRANSFER_ALL).tokens[0].value
    with globus.client() as client:
        for path in ("introspect", "validate"):
            reply = client.post(f"/v2/oauth2/token/{path}", data={"token": token}, auth=(CLIENT.id, CLIENT.secret))
            assert (reply.json()["active"], reply.json()["sub"]) == (True, CLIENT.id)
        other = {"token": token, "client_id": NATIVE.id}
        assert client.post("/v2/oauth2/token/introspect", data=other).json() == {"active": False}


@pytest.mark.parametrize(
    ("mapped", "assured", "needed"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_only_mapped_collections_without_high_assurance_have_a_data_access_scope(
    globus: Globus, mapped: bool, assured: bool, needed: bool
) -> None:
    one = globus.collections["a"]
    one.need_data_access = None
    one.entity_type = "GCSv5_mapped_collection" if mapped else "GCSv5_guest_collection"
    one.high_assurance = assured
    scope = f"{TRANSFER_ALL}[{one.scope('data_access')}]"
    with globus.client() as client:
        assert ask(globus, client, grant_type="client_credentials", scope=scope).status_code == (200 if needed else 400)
        listing = client.get(f"/v0.10/operation/endpoint/{one.id}/ls")
        assert listing.status_code == (403 if needed else 200)


def test_a_hundred_threads_that_submit_the_same_make_one_task(globus: Globus) -> None:
    for one in globus.collections.values():
        one.need_data_access = False
    globus.put("a", "one")
    order = globus.order(("/one", "/one"))
    found = set()
    with globus.client() as client:

        def submit() -> None:
            found.add(client.post("/v0.10/transfer", json=order).json()["task_id"])

        threads = [threading.Thread(target=submit) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 1
    assert globus.service.counted["transfers"] == 1
