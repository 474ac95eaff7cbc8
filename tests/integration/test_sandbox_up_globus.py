"""Globus beside the four facilities of `crossfade sandbox up`: told of in the site document, and used by its SDK."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import globus_sdk
import pytest
from globus_sdk.scopes import GCSCollectionScopes, TransferScopes
from globus_sdk.token_storage import MemoryTokenStorage

from broker.sites import Sites, load_sites
from connectors.secrets import secret_from
from sandbox.facilities.live import wall_clock
from sandbox.script import script_of
from sandbox.up import Sandbox, SandboxSettings


@pytest.fixture
def rules() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def sandbox(tmp_path: Path, rules: list[dict[str, Any]]) -> Iterator[Sandbox]:
    settings = SandboxSettings(state=tmp_path / "state", facilities=("nersc", "alcf", "cloud"))
    with Sandbox(settings, script=script_of(*rules, clock=wall_clock)) as made:
        (tmp_path / "sites.yaml").write_text(made.text())
        yield made


@pytest.fixture
def sites(sandbox: Sandbox, tmp_path: Path) -> Sites:
    return load_sites(tmp_path / "sites.yaml", home=tmp_path, cwd=tmp_path, env={})


@pytest.fixture
def client(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> Iterator[globus_sdk.TransferClient]:
    """As a mover makes it from the document."""
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", sites.globus.transfer_url)
    monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", sites.globus.auth_url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    mapped = [sites.configs[name].collection for name in ("nersc", "alcf")]
    scope = TransferScopes.all.with_dependencies([GCSCollectionScopes(one).data_access for one in mapped])
    app = globus_sdk.ClientApp(
        "tests",
        client_id=secret_from(sites.globus.client_id).reveal(),
        client_secret=secret_from(sites.globus.client_secret).reveal(),
        config=globus_sdk.GlobusAppConfig(token_storage=MemoryTokenStorage()),
    )
    with globus_sdk.TransferClient(app=app, app_scopes=[scope]) as made:
        yield made


def until(look: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not look():
        assert time.monotonic() < end
        time.sleep(0.02)


def move(client: globus_sdk.TransferClient, source: str, target: str, path: str, other: str) -> str:
    data = globus_sdk.TransferData(source, target, label="run1/s/a1", verify_checksum=True)
    data.add_item(path, other)
    return str(client.submit_transfer(data)["task_id"])


def test_the_site_document_names_collections_their_tops_a_place_and_a_client(sandbox: Sandbox, sites: Sites) -> None:
    for name in ("nersc", "alcf"):
        config = sites.configs[name]
        assert config.collection
        assert config.collection_base == sandbox.facilities[name].files.root
        assert config.root == f"{config.collection_base}/crossfade"
    assert sites.configs["cloud"].collection == ""
    assert sites.places["beamline"].collection not in {config.collection for config in sites.configs.values()}
    assert sites.globus.client_id.startswith("file:")
    assert sites.globus.transfer_url == sites.globus.auth_url == sandbox.addresses["globus globus"]


def test_a_file_goes_from_the_beamline_to_a_site_and_on_to_another(
    sandbox: Sandbox, sites: Sites, client: globus_sdk.TransferClient, tmp_path: Path
) -> None:
    (tmp_path / "state/beamline/scan.h5").write_bytes(b"x" * 5000)
    nersc, alcf = sites.configs["nersc"], sites.configs["alcf"]
    first = move(client, sites.places["beamline"].collection, nersc.collection, "/scan.h5", "/crossfade/in/scan.h5")
    until(lambda: client.get_task(first)["status"] == "SUCCEEDED")
    assert Path(nersc.root, "in/scan.h5").read_bytes() == b"x" * 5000
    second = move(client, nersc.collection, alcf.collection, "/crossfade/in/scan.h5", "/crossfade/in/scan.h5")
    until(lambda: client.get_task(second)["status"] == "SUCCEEDED")
    assert Path(alcf.root, "in/scan.h5").stat().st_size == 5000
    assert sandbox.globus is not None
    assert sandbox.globus.service.counted["by_label"] == {"run1/s/a1": 2}


def test_a_facility_that_is_lost_has_a_dead_collection_and_globus_goes_on(
    sandbox: Sandbox, sites: Sites, client: globus_sdk.TransferClient, tmp_path: Path
) -> None:
    (tmp_path / "state/beamline/scan.h5").write_bytes(b"x" * 5000)
    beamline = sites.places["beamline"].collection
    sandbox.lose("nersc")
    task_id = move(client, beamline, sites.configs["nersc"].collection, "/scan.h5", "/crossfade/in/scan.h5")
    until(lambda: client.get_task(task_id)["faults"] >= 1)
    task = client.get_task(task_id)
    assert (task["status"], task["nice_status"]) == ("ACTIVE", "CONNECT_FAILED")
    with pytest.raises(globus_sdk.TransferAPIError, match="ConnectFailed"):
        client.operation_ls(sites.configs["nersc"].collection)
    other = move(client, beamline, sites.configs["alcf"].collection, "/scan.h5", "/crossfade/in/scan.h5")
    until(lambda: client.get_task(other)["status"] == "SUCCEEDED")
    assert client.cancel_task(task_id)["code"] == "Canceled"


@pytest.mark.parametrize("rules", [[{"fault": "partition", "facility": "alcf"}]])
def test_a_facility_whose_files_do_not_answer_has_a_dead_collection(
    sites: Sites, client: globus_sdk.TransferClient
) -> None:
    with pytest.raises(globus_sdk.TransferAPIError, match="ConnectFailed"):
        client.operation_ls(sites.configs["alcf"].collection)
    names = [entry["name"] for entry in client.operation_ls(sites.configs["nersc"].collection)["DATA"]]
    assert [name for name in names if not name.startswith(".")] == []
