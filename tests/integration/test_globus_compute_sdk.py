"""The stand-in for Globus Compute's web service, driven by its own SDK as it is: it must not drift to please us."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from compute_kit import ENDPOINT, ComputeFace
from globus_compute_sdk import Client, ShellFunction
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from globus_sdk import AccessTokenAuthorizer

from sandbox.serving import FaceServer


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    face = ComputeFace(tmp_path / "service")
    face.wait_ready()
    with FaceServer(face) as server:
        # its address is the one thing that the SDK does not let us say
        monkeypatch.setattr("globus_compute_sdk.sdk.client.get_web_service_url", lambda _environment: server.address)
        monkeypatch.setenv("HOME", str(tmp_path))
        # by its text: the worker cannot import a test
        strategy = PureSourceTextInspect()
        client = Client(authorizer=AccessTokenAuthorizer(face.token), code_serialization_strategy=strategy)
        yield client
        for part in (client._compute_web_client.v2, client._compute_web_client.v3):
            part.transport.session.close()
    face.close()


def result(client: Client, task: str) -> object:
    deadline = time.monotonic() + 30
    while client.get_task(task)["pending"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return client.get_result(task)


def double(x: int) -> int:
    return 2 * x


def test_a_function_is_registered_run_and_its_result_read(client: Client) -> None:
    function = client.register_function(double)
    assert result(client, client.run(21, endpoint_id=ENDPOINT, function_id=function)) == 42


def test_a_shell_function_runs_in_a_folder_of_its_own(client: Client) -> None:
    client.fx_serializer = ComputeSerializer()  # an object of the SDK itself goes as it is
    function = client.register_function(ShellFunction("echo {word}; exit 3", return_dict=True))
    told = result(client, client.run(endpoint_id=ENDPOINT, function_id=function, word="hello"))
    assert (told["stdout"], told["returncode"]) == ("hello\n", 3)


def test_a_batch_has_its_group_and_its_states(client: Client) -> None:
    function = client.register_function(double)
    group = "6f0f4a58-3f0e-5d0a-9b64-c1d9a6f0c3e2"
    batch = client.create_batch(task_group_id=group)
    for x in range(3):
        batch.add(function, args=(x,))
    told = client.batch_run(ENDPOINT, batch)
    assert told["task_group_id"] == group
    tasks = told["tasks"][function]
    assert [result(client, task) for task in tasks] == [0, 2, 4]
    assert {client.get_batch_result(tasks)[task]["status"] for task in tasks} == {"success"}
    listed = client._compute_web_client.v2.get_task_group(group)["tasks"]
    assert [one["id"] for one in listed] == tasks


def test_an_exception_there_is_an_exception_here(client: Client) -> None:
    function = client.register_function(double)
    task = client.run({}, endpoint_id=ENDPOINT, function_id=function)
    with pytest.raises(Exception, match="unsupported operand"):
        result(client, task)


def test_the_endpoint_says_how_it_is(client: Client) -> None:
    assert client.get_endpoint_status(ENDPOINT)["status"] == "online"
