"""Globus' own SDK, unmodified, against the stand-in on a socket."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import globus_sdk
import httpx
import pytest
from globus_kit import CLIENT, NATIVE, Globus, id_of, on_a_socket, variables
from globus_sdk.scopes import GCSCollectionScopes
from globus_sdk.token_storage import MemoryTokenStorage

from sandbox.serving import FaceServer


class Stage:
    """The stand-in, and clients of it."""

    def __init__(self, globus: Globus, server: FaceServer) -> None:
        self.globus, self.server = globus, server

    def app(self, **config: Any) -> globus_sdk.ClientApp:
        made = globus_sdk.GlobusAppConfig(token_storage=MemoryTokenStorage(), **config)
        return globus_sdk.ClientApp("tests", client_id=CLIENT.id, client_secret=CLIENT.secret, config=made)

    def client(self, app: globus_sdk.ClientApp | None = None) -> globus_sdk.TransferClient:
        return globus_sdk.TransferClient(app=app or self.app())

    def data(self, *paths: str, **more: Any) -> globus_sdk.TransferData:
        made = globus_sdk.TransferData(id_of("a"), id_of("b"), verify_checksum=True, **more)
        for path in paths:
            made.add_item(path, path)
        return made

    def requests(self, path: str) -> int:
        return sum(path in one for one in self.seen)

    seen: list[str]


@pytest.fixture
def rules() -> list[Mapping[str, Any]]:
    return []


@pytest.fixture
def need_data_access() -> bool:
    return False


@pytest.fixture
def stage(
    tmp_path: Path, rules: list[Mapping[str, Any]], need_data_access: bool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stage]:
    with on_a_socket(tmp_path, *rules, need_data_access=need_data_access) as (globus, server):
        for name, value in variables(server).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        made = Stage(globus, server)
        made.seen = []
        server.on_request = lambda request, status: made.seen.append(f"{request.method} {request.path} {status}")
        yield made


@pytest.fixture
def client(stage: Stage) -> Iterator[globus_sdk.TransferClient]:
    with stage.client() as made:
        yield made


def wait(client: globus_sdk.TransferClient, task_id: str) -> Mapping[str, Any]:
    assert client.task_wait(task_id, timeout=20, polling_interval=1)
    task: Mapping[str, Any] = client.get_task(task_id).data
    return task


def test_a_transfer_is_submitted_waited_for_and_its_manifest_read(stage: Stage, client: Any) -> None:
    for number in range(5):
        stage.globus.put("a", f"in/{number}.bin", bytes([number]) * 1000)
    data = globus_sdk.TransferData(id_of("a"), id_of("b"), label="run7/st3/a1", verify_checksum=True)
    data.add_item("/in", "/out", recursive=True)
    reply = client.submit_transfer(data)
    assert (reply["code"], reply["DATA_TYPE"]) == ("Accepted", "transfer_result")
    task = wait(client, reply["task_id"])
    assert (task["status"], task["files_transferred"], task["bytes_transferred"]) == ("SUCCEEDED", 5, 5000)
    copied = {row["destination_path"]: row["checksum"] for row in client.task_successful_transfers(reply["task_id"])}
    assert copied == {f"/out/{number}.bin": hashlib.md5(bytes([number]) * 1000).hexdigest() for number in range(5)}
    assert [event["code"] for event in client.task_event_list(reply["task_id"])] == ["SUCCEEDED", "STARTED"]
    assert stage.globus.service.counted["by_label"] == {"run7/st3/a1": 1}
