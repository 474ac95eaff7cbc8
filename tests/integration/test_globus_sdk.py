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


# -- submission ------------------------------------------------------------------------------------------------


def test_the_same_submission_again_is_a_duplicate_of_the_same_task(stage: Stage, client: Any) -> None:
    stage.globus.put("a", "one")
    data = stage.data("/one", submission_id=client.get_submission_id()["value"])
    first, second = client.submit_transfer(data), client.submit_transfer(data)
    assert (first["code"], second["code"], second["task_id"]) == ("Accepted", "Duplicate", first["task_id"])
    assert stage.globus.service.counted["transfers"] == 1


@pytest.mark.parametrize("rules", [[{"fault": "reply_lost", "method": "POST", "path": "/transfer$"}]])
def test_a_lost_answer_is_asked_for_again_by_the_sdk_and_there_is_one_task(stage: Stage, client: Any) -> None:
    stage.globus.put("a", "one")
    assert client.submit_transfer(stage.data("/one"))["code"] == "Duplicate"
    assert stage.globus.service.counted["transfers"] == 1


def test_no_items_is_a_bad_request_with_its_code(client: Any, stage: Stage) -> None:
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        client.submit_transfer(stage.data())
    assert (caught.value.http_status, caught.value.code) == (400, "ClientError.BadRequest.NoTransferItems")


def test_a_deletion_is_submitted(stage: Stage, client: Any) -> None:
    stage.globus.put("b", "d/one")
    data = globus_sdk.DeleteData(endpoint=id_of("b"), recursive=True)
    data.add_item("/d")
    task = wait(client, client.submit_delete(data)["task_id"])
    assert (task["status"], task["type"]) == ("SUCCEEDED", "DELETE")
    assert stage.globus.names("b") == []


def test_a_running_task_is_canceled(stage: Stage, client: Any) -> None:
    stage.globus.put("a", "one", b"x" * 1000)
    stage.globus.collections["b"].rate = 1.0
    task_id = client.submit_transfer(stage.data("/one"))["task_id"]
    assert client.get_task(task_id)["status"] == "ACTIVE"
    assert client.cancel_task(task_id)["code"] == "Canceled"
    assert client.get_task(task_id)["status"] == "FAILED"
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        client.update_task(task_id, {"label": "late"})
    assert caught.value.http_status == 409


def test_large_files_come_over_while_questions_are_answered(stage: Stage, client: Any) -> None:
    path = stage.globus.put("a", "large", b"")
    with path.open("r+b") as file:
        file.truncate(300 << 20)
    task_id = client.submit_transfer(stage.data("/large"))["task_id"]
    seen = set()
    while (task := client.get_task(task_id))["status"] == "ACTIVE":
        seen.add(task["bytes_transferred"])
    assert len(seen) > 2
    assert (task["status"], task["bytes_checksummed"]) == ("SUCCEEDED", 300 << 20)
    assert (stage.globus.collections["b"].folder / "large").stat().st_size == 300 << 20


# -- looking ---------------------------------------------------------------------------------------------------


def test_tasks_are_listed_by_filters_and_in_pages(stage: Stage, client: Any) -> None:
    stage.globus.put("a", "one")
    ids = []
    for number in range(7):
        made = stage.data("/one", label=f"run{number % 2}/s/a{number}")
        ids.append(client.submit_transfer(made)["task_id"])
    for task_id in ids:
        wait(client, task_id)
    assert [task["task_id"] for task in client.task_list(limit=100)] == ids[::-1]
    some = client.task_list(filter={"task_id": [ids[1], ids[2]], "status": ["SUCCEEDED", "FAILED"]})
    assert {task["task_id"] for task in some} == {ids[1], ids[2]}
    labelled = client.task_list(filter={"label": "~RUN0*"}, orderby=["label ASC"], limit=2)
    assert ([task["task_id"] for task in labelled], labelled["total"]) == ([ids[0], ids[2]], 4)
    pages = list(client.paginated.task_list(limit=3, query_params={"limit": 3}).pages())
    assert sum(len(page["DATA"]) for page in pages) == 7
    recent = client.task_list(filter={"request_time": ["2020-01-01", "2020-01-02"], "type": "TRANSFER"})
    assert recent["total"] == 0


def test_successful_transfers_are_paged_by_markers(stage: Stage, client: Any) -> None:
    for number in range(250):
        stage.globus.put("a", f"d/{number:03d}", b"x")
    made = stage.data()
    made.add_item("/d", "/d")
    task_id = client.submit_transfer(made)["task_id"]
    assert wait(client, task_id)["files"] == 250
    pages = list(client.paginated.task_successful_transfers(task_id).pages())
    assert [len(page["DATA"]) for page in pages] == [100, 100, 50]


def test_folders_are_listed_as_asked(stage: Stage, client: Any) -> None:
    for name in ("b.txt", "a.h5", ".hidden", "d/x"):
        stage.globus.put("a", name, b"x" * len(name))
    listing = client.operation_ls(id_of("a"), path="/", show_hidden=False)
    assert [(row["name"], row["type"]) for row in listing] == [("d", "dir"), ("a.h5", "file"), ("b.txt", "file")]
    assert (listing["endpoint"], listing["absolute_path"], listing["rename_supported"]) == (id_of("a"), "/", True)
    by_size = client.operation_ls(id_of("a"), orderby=["size DESC"], filter={"type": "file", "name": "~*.*"})
    assert [row["name"] for row in by_size] == [".hidden", "b.txt", "a.h5"]
    second = client.operation_ls(id_of("a"), limit=1, offset=1)
    assert ([row["name"] for row in second], second["total"]) == ([".hidden"], 4)
    large = client.operation_ls(id_of("a"), filter=[{"size": ">5"}, {"name": "!.hidden"}, {"type": "file"}])
    assert [row["name"] for row in large] == []


def test_folders_are_made_and_things_renamed_and_asked_after(stage: Stage, client: Any) -> None:
    stage.globus.put("a", "one", b"123")
    assert client.operation_mkdir(id_of("a"), "/new")["code"] == "DirectoryCreated"
    assert client.operation_rename(id_of("a"), "/one", "/new/two")["code"] == "FileRenamed"
    facts = client.operation_stat(id_of("a"), "/new/two")
    assert (facts["name"], facts["type"], facts["size"]) == ("two", "file", 3)
    with pytest.raises(globus_sdk.TransferAPIError) as again:
        client.operation_mkdir(id_of("a"), "/new")
    assert (again.value.http_status, again.value.code) == (502, "ExternalError.MkdirFailed.Exists")
    with pytest.raises(globus_sdk.TransferAPIError) as absent:
        client.operation_stat(id_of("a"), "/one")
    assert (absent.value.http_status, absent.value.code) == (404, "NotFound")
    with pytest.raises(globus_sdk.TransferAPIError) as over:
        client.operation_rename(id_of("a"), "/new", "/absent/new")
    assert over.value.http_status == 404


def test_a_collection_tells_what_it_is(stage: Stage, client: Any) -> None:
    found = client.get_endpoint(id_of("a"))
    assert (found["display_name"], found["entity_type"]) == ("a", "GCSv5_mapped_collection")
    assert found["https_server"] == f"{stage.server.address}/collections/{id_of('a')}"
    assert [one["id"] for one in client.endpoint_search("b")] == [id_of("b")]
    pages = list(client.paginated.endpoint_search("a").pages())
    assert [page["has_next_page"] for page in pages] == [False]
    with pytest.raises(globus_sdk.TransferAPIError) as unknown:
        client.get_endpoint(id_of("nowhere"))
    assert (unknown.value.http_status, unknown.value.code) == (404, "EndpointNotFound")


# -- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rules", [[{"fault": "status", "code": 503, "retry_after": 1, "path": "/task_list", "times": 2}]]
)
def test_the_sdk_waits_as_long_as_it_is_told_to(stage: Stage, client: Any) -> None:
    client.get_submission_id()  # the token comes before
    before = time.monotonic()
    assert client.task_list()["total"] == 0
    assert time.monotonic() - before >= 2.0
    assert stage.requests("/task_list") == 3


def test_a_dead_endpoints_listing_is_an_external_error_and_not_retried(stage: Stage, client: Any) -> None:
    stage.globus.collections["a"].down = "CONNECT_FAILED"
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        client.operation_ls(id_of("a"))
    assert caught.value.code == "ExternalError.DirListingFailed.ConnectFailed"
    assert stage.requests("/ls") == 1


def test_revoked_tokens_are_renewed_without_the_caller_noticing(stage: Stage, client: Any) -> None:
    client.task_list()
    stage.globus.auth.revoke_all()
    assert client.task_list()["total"] == 0
    assert any("/task_list 401" in one for one in stage.seen)


def test_a_purged_task_is_not_found(stage: Stage, client: Any) -> None:
    stage.globus.put("a", "one")
    task_id = client.submit_transfer(stage.data("/one"))["task_id"]
    wait(client, task_id)
    assert stage.globus.service.purge() == 1
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        client.get_task(task_id)
    assert (caught.value.http_status, caught.value.code) == (404, "ClientError.NotFound")


def test_a_wrong_secret_is_an_invalid_client(stage: Stage) -> None:
    app = globus_sdk.ClientApp("tests", client_id=CLIENT.id, client_secret="wrong")
    with pytest.raises(globus_sdk.AuthAPIError) as caught, globus_sdk.TransferClient(app=app) as client:
        client.task_list()
    assert caught.value.http_status == 401


def test_a_session_that_has_ended_is_told_with_what_a_login_must_meet(stage: Stage, client: Any) -> None:
    stage.globus.collections["a"].session = {"session_message": "Use your key", "session_required_mfa": True}
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        client.operation_ls(id_of("a"))
    told = caught.value.info.authorization_parameters
    assert (told.session_message, told.session_required_mfa) == ("Use your key", True)


def test_a_hidden_reauthentication_says_so_only_in_its_text(stage: Stage, client: Any) -> None:
    stage.globus.collections["a"].login_hidden = True
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        client.operation_ls(id_of("a"))
    assert (caught.value.http_status, caught.value.code) == (502, "ExternalError.DirListingFailed.LoginFailed")
    assert not caught.value.info.authorization_parameters
    assert "530" in caught.value.message
    assert "authorization_parameters" in caught.value.message


# -- consents --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need_data_access", [True])
def test_a_consent_that_is_missing_is_named_and_a_new_login_cures_it(stage: Stage) -> None:
    app = stage.app()
    with stage.client(app) as client:
        with pytest.raises(globus_sdk.TransferAPIError) as caught:
            client.operation_ls(id_of("a"))
        assert (caught.value.http_status, caught.value.code) == (403, "ConsentRequired")
        [wanted] = caught.value.info.consent_required.required_scopes
        assert wanted.endswith(f"[*{GCSCollectionScopes(id_of('a')).data_access}]")
        with pytest.raises(globus_sdk.TransferAPIError):
            client.submit_transfer(stage.data("/one"))
        client.add_app_data_access_scope([id_of("a"), id_of("b")])
        app.login(force=True)
        assert client.operation_ls(id_of("a"))["DATA"] == []


@pytest.mark.parametrize("need_data_access", [True])
def test_a_scope_that_is_added_later_is_not_asked_for_where_the_sdk_does_not_know_who_it_is(stage: Stage) -> None:
    """What makes movers name all scopes at the beginning: a first token that came by itself has no id_token beside
    it, and so the SDK goes on with it."""
    with stage.client() as client:
        client.task_list()
        client.add_app_data_access_scope(id_of("a"))
        with pytest.raises(globus_sdk.TransferAPIError, match="ConsentRequired"):
            client.operation_ls(id_of("a"))


@pytest.mark.parametrize("need_data_access", [True])
def test_after_a_login_the_consents_are_looked_at_before_a_token_is_used_again(stage: Stage) -> None:
    app = stage.app()
    with stage.client(app) as client:
        app.login()
        client.task_list()
        client.add_app_data_access_scope(id_of("a"))
        assert client.operation_ls(id_of("a"))["DATA"] == []
    assert stage.requests("/consents") >= 1


@pytest.mark.parametrize("need_data_access", [True])
def test_the_sdk_cures_it_by_itself_where_it_may(stage: Stage) -> None:
    with stage.client(stage.app(auto_redrive_gares=True)) as client:
        assert client.operation_ls(id_of("a"))["DATA"] == []


def test_a_scope_that_a_collection_does_not_have_is_unknown(stage: Stage) -> None:
    with stage.client() as client:
        client.add_app_data_access_scope(id_of("a"))
        with pytest.raises(globus_sdk.AuthAPIError, match="Unknown scope"):
            client.task_list()


# -- a person --------------------------------------------------------------------------------------------------


def login(stage: Stage, storage: Any, **config: Any) -> globus_sdk.UserApp:
    """As a person does who follows the address, without a browser."""

    class Follows(globus_sdk.login_flows.CommandLineLoginFlowManager):
        def print_authorize_url(self, authorize_url: str) -> None:
            self.code = httpx.get(authorize_url, trust_env=False).text

        def prompt_for_code(self) -> str:
            return self.code.strip()

    made = globus_sdk.GlobusAppConfig(token_storage=storage, login_flow_manager=Follows, **config)
    return globus_sdk.UserApp("tests", client_id=NATIVE.id, config=made)


@pytest.mark.parametrize("need_data_access", [True])
def test_a_person_logs_in_and_the_sdk_checks_the_id_token_and_the_consents(stage: Stage) -> None:
    storage = MemoryTokenStorage()
    with login(stage, storage) as app, globus_sdk.TransferClient(app=app) as client:
        client.add_app_data_access_scope(id_of("a"))
        app.login()
        assert client.operation_ls(id_of("a"))["DATA"] == []
        assert storage.get_token_data("auth.globus.org").identity_id == stage.globus.auth.user.id
        assert not app.login_required()
        client.add_app_data_access_scope(id_of("b"))
        assert app.login_required()


def test_refresh_tokens_outlive_access_tokens(stage: Stage) -> None:
    with (
        login(stage, MemoryTokenStorage(), request_refresh_tokens=True) as app,
        globus_sdk.TransferClient(app=app) as client,
    ):
        app.login()
        stage.globus.auth.revoke_all()
        assert client.task_list()["total"] == 0
        stage.globus.auth.revoke_all(refresh_too=True)
        with pytest.raises(globus_sdk.AuthAPIError) as caught:
            client.task_list()
    assert "invalid_grant" in caught.value.text


def test_a_login_meets_what_a_session_needs(stage: Stage) -> None:
    wanted = {"session_message": "Use your key", "session_required_mfa": True}
    stage.globus.collections["a"].session = wanted
    with login(stage, MemoryTokenStorage()) as app, globus_sdk.TransferClient(app=app) as client:
        app.login()
        with pytest.raises(globus_sdk.TransferAPIError) as caught:
            client.operation_ls(id_of("a"))
        gare = globus_sdk.gare.to_gare(caught.value)
        assert gare is not None
        app.login(auth_params=gare.authorization_parameters)
        assert client.operation_ls(id_of("a"))["DATA"] == []


def test_who_somebody_is_can_be_asked(stage: Stage) -> None:
    with login(stage, MemoryTokenStorage()) as app, globus_sdk.AuthClient(app=app) as client:
        client.add_app_scope(["openid", "profile", "email"])
        user = stage.globus.auth.user
        assert client.userinfo()["sub"] == user.id
        [found] = client.get_identities(usernames=[user.username])
        assert found["id"] == user.id


def test_a_code_is_good_once_and_only_with_its_verifier(stage: Stage) -> None:
    native = globus_sdk.NativeAppAuthClient(NATIVE.id)
    native.oauth2_start_flow(requested_scopes=globus_sdk.TransferClient.scopes.all)
    code = httpx.get(native.oauth2_get_authorize_url(), trust_env=False).text.strip()
    tokens = native.oauth2_exchange_code_for_tokens(code)
    assert list(tokens.by_resource_server) == ["transfer.api.globus.org"]
    with pytest.raises(globus_sdk.AuthAPIError):
        native.oauth2_exchange_code_for_tokens(code)
    code = httpx.get(native.oauth2_get_authorize_url(), trust_env=False).text.strip()
    native.oauth2_start_flow(requested_scopes=globus_sdk.TransferClient.scopes.all)
    with pytest.raises(globus_sdk.AuthAPIError):
        native.oauth2_exchange_code_for_tokens(code)
    token = tokens.by_resource_server["transfer.api.globus.org"]["access_token"]
    native.oauth2_revoke_token(token)
    assert stage.globus.auth.token(token) is None


# -- a collection's own server -----------------------------------------------------------------------------------


def test_single_files_are_had_over_https_with_the_collections_own_scope(stage: Stage) -> None:
    scope = GCSCollectionScopes(id_of("a")).https
    confidential = globus_sdk.ConfidentialAppAuthClient(CLIENT.id, CLIENT.secret)
    tokens = confidential.oauth2_client_credentials_tokens(requested_scopes=scope)
    token = tokens.by_resource_server[id_of("a")]["access_token"]
    with stage.client() as client:
        base = client.get_endpoint(id_of("a"))["https_server"]
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(trust_env=False, headers=headers) as http:
        assert http.put(f"{base}/d/one%20file", content=b"0123456789").status_code == 200
        assert stage.globus.read("a", "d/one file") == b"0123456789"
        assert http.get(f"{base}/d/one%20file").content == b"0123456789"
        part = http.get(f"{base}/d/one%20file", headers={"range": "bytes=2-4"})
        assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
        assert http.get(f"{base}/d/one%20file", headers={"range": "bytes=-3"}).content == b"789"
        assert http.get(f"{base}/d/one%20file", headers={"range": "bytes=10-"}).status_code == 416
        assert http.head(f"{base}/d/one%20file").headers["content-length"] == "10"
        assert http.get(f"{base}/../b/secret").status_code in (403, 404)
        assert http.get(base.replace(id_of("a"), id_of("b")) + "/x").status_code == 403
        assert http.delete(f"{base}/d/one%20file").status_code == 204
        assert http.get(f"{base}/d/one%20file").status_code == 404
    assert httpx.get(f"{base}/d", trust_env=False).status_code == 401


# -- virtual time ------------------------------------------------------------------------------------------------


def test_the_sdk_sees_a_day_of_a_dead_endpoint_in_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_a_socket(tmp_path, virtual=True) as (globus, server):
        for name, value in variables(server).items():
            monkeypatch.setenv(name, value)
        stage = Stage(globus, server)
        globus.put("a", "one")
        globus.collections["b"].down = "CONNECT_FAILED"
        app = stage.app()
        with stage.client(app) as client:
            app.login()  # with an id_token, which the SDK judges by real time
            task_id = client.submit_transfer(stage.data("/one"))["task_id"]
            globus.go_on(23 * 3600)
            assert client.get_task(task_id)["status"] == "ACTIVE"
            globus.go_on(3600)
            assert client.get_task(task_id)["status"] == "FAILED"


@pytest.mark.parametrize("rules", [[{"fault": "token_expiry", "path": "/token$", "in": 30}]])
def test_a_token_that_ends_soon_is_renewed_before_it_does(stage: Stage, client: Any) -> None:
    """The SDK renews a minute before the end."""
    for _ in range(3):
        client.task_list()
    assert stage.globus.auth.given == 2
