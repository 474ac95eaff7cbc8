"""The NERSC client's key, its assertions, and the tokens that they buy."""

from __future__ import annotations

import base64
import json
import logging
import threading
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as ec_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from nersc_kit import ADDRESS, Rehearsal, Wire, simulated_job

from connectors.errors import BadReply, CredentialError, SiteUnreachable
from connectors.http import Http
from connectors.nersc.token import ClientKey, assertion, client_key, client_tokens
from connectors.tokens import RenewedTokens
from sandbox.faces.http import Request
from sandbox.faces.superfacility import TOKEN


@pytest.fixture
def rehearsal(tmp_path: Path) -> Rehearsal:
    return Rehearsal(tmp_path)


def keep(path: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    path.write_text(text)
    path.chmod(mode)
    return {"key": f"file:{path}"}


def jwk_of(pem: str) -> dict[str, Any]:
    key = client_key_of(pem).key
    return json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key))


def client_key_of(text: str) -> ClientKey:
    import os

    os.environ["NERSC_TEST_KEY"] = text
    try:
        return client_key({"key": "env:NERSC_TEST_KEY"}, site="nersc")
    finally:
        del os.environ["NERSC_TEST_KEY"]


def test_the_key_file_may_be_pem_with_the_client_on_its_first_line(rehearsal: Rehearsal) -> None:
    found = client_key({"key": f"file:{rehearsal.key_file}"}, site="nersc")
    assert found.client_id == rehearsal.client.client_id
    assert found.key.public_key() == rehearsal.client.public_key


def test_the_client_may_be_given_beside_the_key(rehearsal: Rehearsal, tmp_path: Path) -> None:
    bare = rehearsal.key_file.read_text().split("\n", 1)[1]
    given = keep(tmp_path / "bare.pem", bare)
    with pytest.raises(CredentialError, match="no client id"):
        client_key(given, site="nersc")
    (tmp_path / "id").write_text("abcdefghijklm\n")
    (tmp_path / "id").chmod(0o400)
    assert client_key(given | {"client_id": f"file:{tmp_path / 'id'}"}, site="nersc").client_id == "abcdefghijklm"


@pytest.mark.parametrize("as_text", [False, True])
def test_the_key_file_may_be_json_with_a_jwk(rehearsal: Rehearsal, tmp_path: Path, as_text: bool) -> None:
    jwk = jwk_of(rehearsal.key_file.read_text())
    document = {"client_id": " abcdefghijklm ", "secret": json.dumps(jwk) if as_text else jwk}
    found = client_key(keep(tmp_path / "key.json", json.dumps(document)), site="nersc")
    assert found.client_id == "abcdefghijklm"
    assert found.key.public_key() == rehearsal.client.public_key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_key_file_that_others_may_use_is_refused(rehearsal: Rehearsal, mode: int) -> None:
    rehearsal.key_file.chmod(mode)
    with pytest.raises(CredentialError, match="chmod 600"):
        rehearsal.site().status(["cfabc"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "words",
        "abcdefghijklm\n-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "{",
        "{}",
        '{"client_id": "abcdefghijklm", "secret": 7}',
        '{"client_id": "abcdefghijklm", "secret": {"kty": "RSA"}}',
        '{"client_id": "abcdefghijklm", "secret": {"kty": "oct", "k": "c2VjcmV0c2VjcmV0"}}',
        '{"client_id": "abcdefghijklm", "secret": "not json"}',
        "[1]",
        "two words\n" + ec_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    ],
)
def test_a_key_file_that_is_none_is_told_as_that_and_not_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(CredentialError) as caught:
        client_key(keep(tmp_path / "key", text), site="nersc")
    assert "AAAA" not in str(caught.value)
    assert "Iris" in caught.value.help


def test_an_assertion_says_who_for_whom_until_when_and_only_once(rehearsal: Rehearsal) -> None:
    who = client_key({"key": f"file:{rehearsal.key_file}"}, site="nersc")
    made = [assertion(who, audience="https://oidc.test/token", now=1_700_000_000_000_000) for _ in range(2)]
    claims = [jwt.decode(one, options={"verify_signature": False}) for one in made]
    assert jwt.get_unverified_header(made[0])["alg"] == "RS256"
    assert claims[0]["iss"] == claims[0]["sub"] == who.client_id
    assert claims[0]["aud"] == "https://oidc.test/token"
    assert claims[0]["exp"] == 1_700_000_060
    assert claims[0]["jti"] != claims[1]["jti"]


def test_threads_that_need_a_token_at_once_fetch_one(rehearsal: Rehearsal) -> None:
    site = rehearsal.site()
    threads = [threading.Thread(target=site.status, args=(["cfabc"],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rehearsal.face.doorkeeper.given == 1


def test_a_renewed_client_needs_no_restart(rehearsal: Rehearsal) -> None:
    site = rehearsal.site()
    text = rehearsal.key_file.read_text()
    rehearsal.key_file.write_text("aaaaaaaaaaaaa" + text[13:])
    with pytest.raises(CredentialError, match="no such client"):
        site.status(["cfabc"])
    rehearsal.key_file.write_text(text)
    assert site.status(["cfabc"]).complete


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"token_type": "Bearer"}, BadReply),
        ({"access_token": 7}, BadReply),
        ({"access_token": "line\nbreak"}, BadReply),
        ({"access_token": "t" * 20, "token_type": "mac"}, BadReply),
        ([], BadReply),
        (b"<html>", BadReply),
    ],
)
def test_a_token_endpoint_that_gives_no_token_is_told(rehearsal: Rehearsal, reply: Any, error: type[Exception]) -> None:
    body = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
    tokens = _tokens(rehearsal, httpx.MockTransport(lambda _: httpx.Response(200, stream=httpx.ByteStream(body))))
    with pytest.raises(error) as caught:
        tokens.headers()
    assert not caught.value.effect_possible  # type: ignore[attr-defined]
    assert not tokens.refused()


@pytest.mark.parametrize("life", [None, "soon", 0, -5, True, 1e99])
def test_a_life_that_is_none_is_taken_for_a_bounded_one(rehearsal: Rehearsal, life: Any) -> None:
    given: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        given.append(1)
        body = json.dumps({"access_token": "t" * 20, "expires_in": life}).encode()
        return httpx.Response(200, stream=httpx.ByteStream(body))

    tokens = _tokens(rehearsal, httpx.MockTransport(answer))
    tokens.headers()
    tokens.headers()
    assert len(given) == 1
    rehearsal.clock.advance(86_400)
    tokens.headers()
    assert len(given) == 2


def test_no_secret_is_in_what_is_raised_or_logged(rehearsal: Rehearsal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    def echo(request: httpx.Request) -> httpx.Response:
        seen.append(request.read().decode())
        body = json.dumps({"error_description": f"bad assertion {dict(httpx.QueryParams(seen[-1]))}"}).encode()
        return httpx.Response(401, stream=httpx.ByteStream(body))

    with pytest.raises(CredentialError) as caught:
        _tokens(rehearsal, httpx.MockTransport(echo)).headers()
    sent = dict(httpx.QueryParams(seen[0]))["client_assertion"]
    assert sent.split(".")[2] not in str(caught.value)
    site = rehearsal.site()
    site.prepare()
    site.submit([simulated_job("cfabc")])
    token = next(iter(rehearsal.face.doorkeeper._tokens))
    texts = [caplog.text, repr(site), str(vars(site)), repr(client_key({"key": f"file:{rehearsal.key_file}"}, site=""))]
    assert not any(token in text or sent in text or "PRIVATE KEY" in text for text in texts)
    assert token not in site.script(simulated_job("cfabc")).request


def test_a_token_that_somebody_else_renews_can_be_given(rehearsal: Rehearsal, tmp_path: Path) -> None:
    rehearsal.site().status(["cfabc"])
    token = next(iter(rehearsal.face.doorkeeper._tokens))
    given = keep(tmp_path / "token", f"{token}\n")
    assert rehearsal.site(credentials={"token": given["key"]}).status(["cfabc"]).complete


def test_a_dark_token_endpoint_was_asked_twice_and_nothing_more(rehearsal: Rehearsal) -> None:
    wire = Wire(rehearsal.transport)
    wire.cut = True
    with pytest.raises(SiteUnreachable):
        _tokens(rehearsal, wire).headers()
    assert rehearsal.face.doorkeeper.given == 0


# -- the face's side: it must not be easier to please than the real one ---------------------------------------


def _ask(rehearsal: Rehearsal, **changes: Any) -> tuple[int, str]:
    """One request for a token, with claims or form fields changed."""
    who = client_key({"key": f"file:{rehearsal.key_file}"}, site="nersc")
    now = rehearsal.now() // 1_000_000
    claims = {"iss": who.client_id, "sub": who.client_id, "aud": ADDRESS + TOKEN, "exp": now + 60, "jti": "once"}
    claims |= changes.pop("claims", {})
    claims = {name: value for name, value in claims.items() if value is not None}
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode(claims, who.key, algorithm="RS256"),
    } | changes
    body = str(httpx.QueryParams(form)).encode()
    response = rehearsal.face.handle(Request(method="POST", path=TOKEN, body=body, host=ADDRESS))
    return response.status, response.body.decode()


def test_an_assertion_is_taken_once(rehearsal: Rehearsal) -> None:
    assert _ask(rehearsal)[0] == 200
    status, text = _ask(rehearsal)
    assert (status, "used before" in text) == (401, True)
    assert _ask(rehearsal, claims={"jti": "twice"})[0] == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://elsewhere.test/token"},
        {"iss": "nobodynobody1"},
        {"sub": "somebody"},
        {"exp": 1},
        {"exp": 1 << 40},
        {"exp": None},
        {"jti": None},
        {"nbf": 1 << 40},
    ],
    ids=str,
)
def test_a_wrong_assertion_buys_nothing(rehearsal: Rehearsal, claims: dict[str, Any]) -> None:
    status, text = _ask(rehearsal, claims=claims)
    assert (status, json.loads(text)["error"]) == (401, "invalid_client")


def test_an_unsigned_or_foreign_assertion_buys_nothing(rehearsal: Rehearsal) -> None:
    claims = {"iss": rehearsal.client.client_id, "sub": rehearsal.client.client_id, "aud": ADDRESS + TOKEN, "jti": "x"}
    claims["exp"] = str(rehearsal.now() // 1_000_000 + 60)
    part = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in ({"alg": "none"}, claims)
    ]
    for forged in (".".join([*part, ""]), jwt.encode(claims, "k" * 40, algorithm="HS256"), "", "a.b.c", "é"):
        assert _ask(rehearsal, client_assertion=forged)[0] == 401
    assert _ask(rehearsal, grant_type="password")[0] == 400
    assert _ask(rehearsal, client_assertion_type="x")[0] == 401


def _tokens(rehearsal: Rehearsal, transport: httpx.BaseTransport) -> RenewedTokens:
    http = Http(ADDRESS + TOKEN, site="nersc", transport=transport, sleep=rehearsal.sleep)
    reference = {"key": f"file:{rehearsal.key_file}"}
    return client_tokens(
        http=http,
        token_url=ADDRESS + TOKEN,
        read_key=lambda: client_key(reference, site="nersc"),
        clock=rehearsal.now,
    )
