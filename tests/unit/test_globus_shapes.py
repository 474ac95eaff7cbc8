"""The stand-in's documents against those that globus-sdk ships for tests: at least their keys, of the same types."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import globus_sdk.testing.data.transfer as recorded
import httpx
import pytest
from globus_kit import CLIENT, Globus, id_of
from globus_sdk.testing.models import RegisteredResponse, ResponseSet

from sandbox.globus.scopes import TRANSFER_ALL

STALE = {"expire_time", "expires_in"}
"""Of GCSv4, which is over: the SDK's recorded endpoint is one. We have these keys, as GCSv5 has them: null, or -1."""
NULLABLE = {"label", "sync_level", "filter_rules", "completion_time", "organization", "hostname", "default_directory"}
"""Null on one side, a value on the other, as it happens."""
NOT_PLAYED = {
    "create_tunnel", "delete_tunnel", "get_stream_access_point", "get_tunnel", "get_tunnel_events", "list_tunnels",
    "update_tunnel", "set_subscription_admin_verified", "set_subscription_id", "update_endpoint",
    "endpoint_manager_task_list", "endpoint_manager_task_successful_transfers",
}  # fmt: skip
"""Streams, and what only administrators of endpoints do."""


TASK_KEYS = """
DATA_TYPE task_id type status label owner_id request_time completion_time deadline source_endpoint_id
source_endpoint_display_name destination_endpoint_id destination_endpoint_display_name files directories symlinks
files_skipped files_transferred bytes_transferred bytes_checksummed effective_bytes_per_second faults fatal_error
is_ok is_paused nice_status nice_status_short_description nice_status_details nice_status_expires_in subtasks_total
subtasks_pending subtasks_retrying subtasks_succeeded subtasks_failed subtasks_canceled subtasks_expired
subtasks_skipped_errors sync_level verify_checksum encrypt_data preserve_timestamp delete_destination_extra
skip_source_errors fail_on_quota_errors recursive_symlinks filter_rules history_deleted canceled_by_admin
canceled_by_admin_message command username source_endpoint destination_endpoint source_base_path destination_base_path
"""
"""Seen in real ones: SDK's own tests hold a task, active and done, which are no fixtures of its test kit."""


def cases() -> Iterator[tuple[str, str, RegisteredResponse]]:
    """Every recorded reply of Transfer: module, name, and it."""
    for module in pkgutil.iter_modules(recorded.__path__):
        if module.name.startswith("_") or module.ispkg:
            continue
        responses = importlib.import_module(f"{recorded.__name__}.{module.name}").RESPONSES
        assert isinstance(responses, ResponseSet)
        for name, response in responses._data.items():
            if isinstance(response, RegisteredResponse):
                yield module.name, name, response


PLAYED = {f"{module}.{name}": response for module, name, response in cases() if module not in NOT_PLAYED}


@pytest.fixture
def globus(tmp_path: Path) -> Globus:
    made = Globus(tmp_path)
    made.put("a", "file1.txt", b"four")
    made.collections["a"].denied = ["/secret"]
    return made


def ours(globus: Globus, client: httpx.Client, case: str) -> httpx.Response:
    """The reply to what the recorded one was a reply to."""
    operation = f"/v0.10/operation/endpoint/{id_of('a')}"
    match case:
        case "get_submission_id.default":
            return client.get("/v0.10/submission_id")
        case "get_endpoint.default":
            return client.get(f"/v0.10/endpoint/{id_of('a')}")
        case "submit_transfer.default":
            return client.post("/v0.10/transfer", json=globus.order(("/file1.txt", "/x")))
        case "submit_transfer.failure":
            return client.post("/v0.10/transfer", json=globus.order())
        case "submit_delete.default":
            items = [{"DATA_TYPE": "delete_item", "path": "/x"}]
            order = {"DATA_TYPE": "delete", "endpoint": id_of("b"), "submission_id": CLIENT.id, "DATA": items}
            return client.post("/v0.10/delete", json=order)
        case "cancel_task.default":
            return client.post(f"/v0.10/task/{globus.submit(client, ('/absent', '/x'))}/cancel")
        case "task_list.default":
            globus.submit(client, ("/file1.txt", "/x"))
            return client.get("/v0.10/task_list")
        case "operation_mkdir.default":
            return client.post(f"{operation}/mkdir", json={"DATA_TYPE": "mkdir", "path": "/d"})
        case "operation_rename.default":
            names = {"old_path": "/file1.txt", "new_path": "/file2.txt"}
            return client.post(f"{operation}/rename", json={"DATA_TYPE": "rename", **names})
        case "operation_stat.default":
            return client.get(f"{operation}/stat", params={"path": "/file1.txt"})
        case "operation_stat.not_found":
            return client.get(f"{operation}/stat", params={"path": "/foo"})
        case "operation_stat.permission_denied":
            return client.get(f"{operation}/stat", params={"path": "/secret"})
    raise AssertionError(f"nobody has looked at {case} yet")


def test_every_recorded_reply_is_compared_or_left_out_by_name() -> None:
    assert {module for module, _, _ in cases()} >= NOT_PLAYED
    assert len(PLAYED) == 12


@pytest.mark.parametrize("case", PLAYED)
def test_a_document_has_the_recorded_keys_with_values_of_the_recorded_types(globus: Globus, case: str) -> None:
    theirs = PLAYED[case]
    with globus.client() as client:
        reply = ours(globus, client, case)
    recorded_status = theirs.status
    assert reply.status_code == recorded_status or (reply.status_code, recorded_status) == (202, 200)
    assert differences(theirs.json, reply.json(), "") == []


@pytest.mark.parametrize("case", [case for case in PLAYED if not case.startswith(("get_endpoint", "task_list"))])
def test_codes_and_kinds_are_the_recorded_ones(globus: Globus, case: str) -> None:
    theirs: Any = PLAYED[case].json
    with globus.client() as client:
        reply = ours(globus, client, case).json()
    for key in ("code", "DATA_TYPE"):
        if key in theirs:
            assert reply[key] == theirs[key]


def differences(theirs: Any, own: Any, where: str) -> list[str]:
    """What is missing in ours, or of another type."""
    if isinstance(theirs, dict):
        if not isinstance(own, dict):
            return [f"{where}: not an object"]
        missing = [f"{where}.{key}: missing" for key in theirs if key not in own]
        below = [differences(value, own[key], f"{where}.{key}") for key, value in theirs.items() if key in own]
        return missing + [one for some in below for one in some]
    if isinstance(theirs, list):
        if not isinstance(own, list):
            return [f"{where}: not a list"]
        return differences(theirs[0], own[0], f"{where}[]") if theirs and own else []
    key = where.rpartition(".")[2]
    if key in STALE or (key in NULLABLE and (theirs is None or own is None)):
        return []
    return [] if type(theirs) is type(own) else [f"{where}: {type(own).__name__}, recorded as {type(theirs).__name__}"]


def test_the_comparison_itself_finds_what_is_missing_or_of_another_type() -> None:
    theirs = {"a": 1, "b": [{"c": "x"}], "label": None}
    assert differences(theirs, {"a": 2, "b": [{"c": "y"}], "label": "z"}, "") == []
    assert differences(theirs, {"a": "2", "b": [{}], "label": None}, "") == [
        ".a: str, recorded as int",
        ".b[].c: missing",
    ]


def test_a_task_has_every_key_that_was_seen_in_real_ones(globus: Globus) -> None:
    keys = TASK_KEYS.split()
    with globus.client() as client:
        for path in ("/absent", "/file1.txt"):
            document = client.get(f"/v0.10/task/{globus.submit(client, (path, '/x'))}").json()
            assert [key for key in keys if key not in document] == []


def test_an_answer_of_the_token_endpoint_has_the_recorded_shape(globus: Globus) -> None:
    from globus_sdk.testing.data.auth.oauth2_client_credentials_tokens import RESPONSES

    form = {"grant_type": "client_credentials"}
    with globus.client() as client:
        for name, scope in (("default", TRANSFER_ALL), ("openid", "openid")):
            theirs = RESPONSES.lookup(name)
            assert isinstance(theirs, RegisteredResponse)
            reply = client.post("/v2/oauth2/token", data={**form, "scope": scope}, auth=(CLIENT.id, CLIENT.secret))
            assert differences(theirs.json, reply.json(), "") == []
            assert reply.json()["scope"] == scope
