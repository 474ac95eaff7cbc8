"""What Globus refuses, as our errors: whose fault, may it have happened, and the command that helps."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from globus_sdk import AuthAPIError, TransferAPIError
from globus_sdk.exc import GlobusConnectionError, GlobusConnectionTimeoutError

from connectors.errors import BadReply, CredentialError, NotThere, QuotaError, SiteBusy, SiteError, SiteUnreachable
from connectors.globus_api.faults import (
    AlreadyThere,
    CannotRename,
    CollectionAway,
    CollectionPaused,
    Gone,
    NeedsLogin,
    NotAllowed,
    Refusal,
    session_command,
    translated,
)
from connectors.secrets import remember

UUID = "6c54cade-bde5-45c1-bdea-f4bd71dba2cc"


def _answer(status: int, document: Any, kind: str = "application/json") -> requests.Response:
    answer = requests.Response()
    answer.status_code = status
    answer.headers["Content-Type"] = kind
    answer._content = document if isinstance(document, bytes) else json.dumps(document).encode()
    answer.request = requests.Request("GET", "https://transfer.example.org/x").prepare()
    answer.url = answer.request.url or ""
    return answer


def _told(status: int, code: str, message: str = "words", **more: Any) -> SiteError:
    document = {"code": code, "message": message, "request_id": "r", "resource": "/x", **more}
    return translated(TransferAPIError(_answer(status, document)), "do something")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "ClientError.NotFound", NotThere),
        (404, "EndpointNotFound", Gone),
        (403, "EndpointPermissionDenied", NotAllowed),
        (403, "PermissionDenied", NotAllowed),
        (403, "ExternalError.DirListingFailed.PermissionDenied", NotAllowed),
        (409, "GCDisconnectedException", CollectionAway),
        (502, "ExternalError.DirListingFailed.GCDisconnected", CollectionAway),
        (502, "ExternalError.DirListingFailed.ConnectFailed", CollectionAway),
        (502, "ExternalError.SomethingNew", CollectionAway),
        (502, "EndpointError", CollectionAway),
        (502, "ExternalError.MkdirFailed.Exists", AlreadyThere),
        (502, "ExternalError.RenameFailed.NotFound", NotThere),
        (409, "NotSupported", CannotRename),
        (409, "OperationPaused", CollectionPaused),
        (409, "Conflict", SiteBusy),
        (429, "TooManyRequests", SiteBusy),
        (400, "ClientError.BadRequest", Refusal),
        (400, "ClientError.AuthenticationFailed", NeedsLogin),
        (401, "AuthenticationFailed", NeedsLogin),
        (409, "NoCredException", NeedsLogin),
        (502, "ExternalError.DirListingFailed.LoginFailed", NeedsLogin),
        (502, "ExternalError.MkdirFailed.QuotaExceeded", QuotaError),
        (500, "InternalError", SiteUnreachable),
        (503, "ServiceUnavailable", SiteUnreachable),
        (418, "", Refusal),
    ],
)
def test_every_code_that_was_seen_has_its_class(status: int, code: str, kind: type[SiteError]) -> None:
    assert type(_told(status, code)) is kind


def test_globus_itself_is_told_from_a_collection_that_is_away() -> None:
    assert not isinstance(_told(503, "ServiceUnavailable"), CollectionAway)
    assert _told(503, "ServiceUnavailable").effect_possible
    assert not _told(502, "ExternalError.DirListingFailed.ConnectFailed").effect_possible


def test_a_missing_consent_is_told_with_its_command() -> None:
    scope = f"urn:globus:auth:scope:transfer.api.globus.org:all[*https://auth.globus.org/scopes/{UUID}/data_access]"
    found = _told(403, "ConsentRequired", required_scopes=[scope])
    assert isinstance(found, CredentialError)
    assert found.help == f"crossfade login globus --consent {UUID}"


@pytest.mark.parametrize(
    ("wanted", "command"),
    [
        ({"session_message": "m"}, ""),
        ({"session_required_single_domain": ["alcf.anl.gov", "b.org"]}, " --domain alcf.anl.gov --domain b.org"),
        ({"session_required_identities": [UUID]}, f" --identity {UUID}"),
        ({"session_required_policies": f"{UUID},{UUID}"}, f" --policy {UUID} --policy {UUID}"),
        ({"session_required_mfa": True}, " --mfa"),
        ({"session_required_single_domain": ["$(rm -rf /)", "a b", "--mfa", 5]}, ""),
    ],
)
def test_a_session_is_told_with_its_command_and_no_foreign_words_in_it(wanted: dict[str, Any], command: str) -> None:
    found = _told(403, "PermissionDenied", authorization_parameters=wanted)
    assert found.help == f"crossfade login globus{command}"
    assert session_command(wanted) == found.help


def test_a_session_that_hides_in_a_bad_gateway_is_found_there() -> None:
    hidden = json.dumps({"authorization_parameters": {"session_required_single_domain": ["olcf.ornl.gov"]}})
    text = f"530-Login incorrect. : GlobusError: v=1 c=LOGIN_DENIED 530-GridFTP-JSON: {hidden} 530 End."
    found = _told(502, "ExternalError.DirListingFailed.LoginFailed", text)
    assert isinstance(found, NeedsLogin)
    assert found.help == "crossfade login globus --domain olcf.ornl.gov"


@pytest.mark.parametrize(
    "text", ['"authorization_parameters": {', '"authorization_parameters"', '"authorization_parameters": ' + "{" * 9999]
)
def test_a_hidden_session_that_is_no_json_does_no_harm(text: str) -> None:
    assert _told(502, "ExternalError.DirListingFailed.LoginFailed", text).help == "crossfade login globus"


def test_what_is_told_has_no_secret_and_no_control_character() -> None:
    remember("a-token-that-is-secret")
    found = str(_told(400, "X", "bad token a-token-that-is-secret\x1b[2J\nnext" + "y" * 9999))
    assert "a-token-that-is-secret" not in found
    assert found.isprintable()
    assert len(found) < 500


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", b"", b"[1, 2]", b"{", b"\xff\xfe"])
def test_an_answer_that_is_none_of_globus_is_no_crash(body: bytes) -> None:
    assert isinstance(translated(TransferAPIError(_answer(502, body)), "x"), SiteUnreachable)
    assert isinstance(translated(TransferAPIError(_answer(400, body)), "x"), Refusal)


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (401, {"error": "invalid_client"}, NeedsLogin),
        (400, {"error": "invalid_grant"}, NeedsLogin),
        (400, {"error": "invalid_scope"}, NeedsLogin),
        (503, {"error": "x"}, SiteUnreachable),
    ],
)
def test_a_token_that_is_not_given_is_told(status: int, document: dict[str, str], kind: type[SiteError]) -> None:
    found = translated(AuthAPIError(_answer(status, document)), "x")
    assert type(found) is kind
    assert not found.effect_possible
    assert getattr(found, "unknown_scope", False) is (document["error"] == "invalid_scope")


def test_a_connection_that_was_never_made_can_have_had_no_effect() -> None:
    cause = requests.ConnectionError("x")
    never = translated(GlobusConnectionTimeoutError("x", cause), "x")
    perhaps = translated(GlobusConnectionError("x", cause), "x")
    assert (never.effect_possible, perhaps.effect_possible) == (False, True)
    assert never.site == perhaps.site == "globus"


def test_anything_else_of_the_sdk_is_a_bad_reply() -> None:
    from globus_sdk import GlobusSDKUsageError

    assert isinstance(translated(GlobusSDKUsageError("x"), "x"), BadReply)
