"""The official Kubernetes client, as it is, against the cluster's face on a socket; and kubectl, where there is one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cloud_kit import TOKEN, LiveCloud
from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException

from connectors.contract import new_key
from connectors.kubernetes import KubernetesSite
from connectors.model import JobSpec
from sandbox.faces.http import Request, Response


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[LiveCloud]:
    cloud = LiveCloud(tmp_path)
    yield cloud
    cloud.close()


@pytest.fixture
def kubeconfig(cloud: LiveCloud, tmp_path: Path) -> Path:
    return written_kubeconfig(tmp_path, cloud.api.address, {"token": TOKEN})


def written_kubeconfig(folder: Path, server: str, user: Mapping[str, Any]) -> Path:
    path = folder / "kubeconfig"
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me", "namespace": "default"}}],
        "clusters": [{"name": "lab", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    return path


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(kubeconfig)) as api:
        yield api


def job(name: str, *words: str, **spec: Any) -> client.V1Job:
    container = client.V1Container(name="main", image="busybox", command=["/bin/sh", "-c", *words])
    pod = client.V1PodSpec(containers=[container], restart_policy="Never")
    template = client.V1PodTemplateSpec(spec=pod)
    return client.V1Job(
        metadata=client.V1ObjectMeta(name=name, labels={"app": "test", "name": name}),
        spec=client.V1JobSpec(template=template, backoff_limit=0, **spec),
    )


def test_a_job_is_made_watched_read_and_deleted(api: client.ApiClient) -> None:
    batch, core = client.BatchV1Api(api), client.CoreV1Api(api)
    made = batch.create_namespaced_job("default", job("one", "echo hello from a pod"))
    assert made.metadata.uid
    seen = []
    watcher = watch.Watch()
    for event in watcher.stream(batch.list_namespaced_job, "default", label_selector="name=one", timeout_seconds=20):
        seen.append(event["type"])
        if event["object"].status.succeeded:
            watcher.stop()
    assert seen[0] == "ADDED"
    found = batch.read_namespaced_job("one", "default")
    assert [one.type for one in found.status.conditions] == ["SuccessCriteriaMet", "Complete"]
    assert found.status.completion_time
    (pod,) = core.list_namespaced_pod("default", label_selector="batch.kubernetes.io/job-name=one").items
    assert pod.status.phase == "Succeeded"
    assert pod.status.container_statuses[0].state.terminated.exit_code == 0
    assert core.read_namespaced_pod_log(pod.metadata.name, "default") == "hello from a pod\n"
    batch.delete_namespaced_job("one", "default", propagation_policy="Background")
    with pytest.raises(ApiException) as caught:
        batch.read_namespaced_job("one", "default")
    assert (caught.value.status, json.loads(caught.value.body)["reason"]) == (404, "NotFound")
    assert not core.list_namespaced_pod("default").items


def test_a_name_is_given_once(api: client.ApiClient, cloud: LiveCloud) -> None:
    batch = client.BatchV1Api(api)
    batch.create_namespaced_job("default", job("one", "true"))
    with pytest.raises(ApiException) as caught:
        batch.create_namespaced_job("default", job("one", "true"))
    told = json.loads(caught.value.body)
    assert (caught.value.status, told["reason"], told["kind"]) == (409, "AlreadyExists", "Status")
    assert cloud.face.accepted() == {"one": 1}


def test_a_suspended_job_starts_when_it_is_released(api: client.ApiClient, cloud: LiveCloud) -> None:
    batch, core = client.BatchV1Api(api), client.CoreV1Api(api)
    batch.create_namespaced_job("default", job("later", "exit 4", suspend=True))
    assert [one.type for one in batch.read_namespaced_job("later", "default").status.conditions] == ["Suspended"]
    assert not core.list_namespaced_pod("default").items
    batch.patch_namespaced_job("later", "default", {"spec": {"suspend": False}})

    def failed() -> bool:
        return any(
            one.type == "Failed" for one in batch.read_namespaced_job_status("later", "default").status.conditions or ()
        )

    cloud.wait_until(failed, within=20)
    (pod,) = core.list_namespaced_pod("default", field_selector="status.phase=Failed").items
    assert pod.status.container_statuses[0].state.terminated.exit_code == 4


def test_a_failed_pod_is_replaced_up_to_the_limit(api: client.ApiClient, cloud: LiveCloud) -> None:
    batch, core = client.BatchV1Api(api), client.CoreV1Api(api)
    body = job("again", "exit 1")
    body.spec.backoff_limit = 2
    batch.create_namespaced_job("default", body)

    def reason() -> str:
        found = batch.read_namespaced_job("again", "default").status.conditions or ()
        return next((one.reason for one in found if one.type == "Failed"), "")

    cloud.wait_until(lambda: bool(reason()), within=20)
    assert reason() == "BackoffLimitExceeded"
    assert len(core.list_namespaced_pod("default").items) == 3


def test_lists_come_in_pages_and_by_labels(api: client.ApiClient) -> None:
    batch = client.BatchV1Api(api)
    for number in range(5):
        batch.create_namespaced_job("default", job(f"job{number}", "true", suspend=True))
    first = batch.list_namespaced_job("default", limit=3)
    second = batch.list_namespaced_job("default", limit=3, _continue=first.metadata._continue)
    assert [it.metadata.name for it in first.items + second.items] == [f"job{n}" for n in range(5)]
    chosen = batch.list_job_for_all_namespaces(label_selector="app=test,name notin (job0, job1),name!=job4")
    assert [it.metadata.name for it in chosen.items] == ["job2", "job3"]
    gone = batch.delete_collection_namespaced_job("default", label_selector="name in (job2,job3)")
    assert gone is not None
    assert len(batch.list_namespaced_job("default").items) == 3


def test_a_watch_from_a_forgotten_version_is_told_410(tmp_path: Path) -> None:
    cloud = LiveCloud(tmp_path, {"fault": "watch_gone", "face": "kubernetes"})
    try:
        with config.new_client_from_config(
            str(written_kubeconfig(tmp_path, cloud.api.address, {"token": TOKEN}))
        ) as api:
            batch = client.BatchV1Api(api)
            batch.create_namespaced_job("default", job("one", "true"))
            version = batch.list_namespaced_job("default").metadata.resource_version
            with pytest.raises(ApiException) as caught:
                list(
                    watch.Watch().stream(
                        batch.list_namespaced_job, "default", resource_version=version, timeout_seconds=1
                    )
                )
            assert caught.value.status == 410
            names = {
                event["object"].metadata.name
                for event in watch.Watch().stream(batch.list_namespaced_job, "default", timeout_seconds=1)
            }
            assert names == {"one"}, "a list anew has everything"
    finally:
        cloud.close()


def test_what_no_job_can_be_is_refused_by_name(api: client.ApiClient) -> None:
    batch = client.BatchV1Api(api)
    body = job("one", "true")
    body.spec.template.spec.restart_policy = "Always"
    with pytest.raises(ApiException) as caught:
        batch.create_namespaced_job("default", body)
    assert caught.value.status == 422
    batch.create_namespaced_job("default", job("two", "true", suspend=True))
    with pytest.raises(ApiException) as caught:
        batch.patch_namespaced_job("two", "default", {"spec": {"completions": 2}})
    assert caught.value.status == 422


def test_a_wrong_token_is_refused(cloud: LiveCloud, tmp_path: Path) -> None:
    with config.new_client_from_config(str(written_kubeconfig(tmp_path, cloud.api.address, {"token": "wrong"}))) as api:
        with pytest.raises(ApiException) as caught:
            client.BatchV1Api(api).list_namespaced_job("default")
        assert caught.value.status == 401


@pytest.fixture
def open_cloud(tmp_path: Path) -> Iterator[LiveCloud]:
    """kubectl sends no token without TLS."""
    cloud = LiveCloud(tmp_path, tokens=())
    yield cloud
    cloud.close()


def test_kubectl_works_with_it(open_cloud: LiveCloud, tmp_path: Path) -> None:
    found = shutil.which("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed")
    kubeconfig = written_kubeconfig(tmp_path, open_cloud.api.address, {})

    def kubectl(*words: str, given: str = "") -> str:
        env = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}
        done = subprocess.run(
            [found, *words], env=env, input=given, capture_output=True, text=True, timeout=30, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", "echo from kubectl"]}
    spec = {"restartPolicy": "Never", "containers": [container]}
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "hello"},
        "spec": {"template": {"spec": spec}},
    }
    assert "created" in kubectl("create", "--validate=false", "-f", "-", given=json.dumps(body))
    kubectl("wait", "--for=condition=complete", "--timeout=20s", "job/hello")
    assert "hello" in kubectl("get", "jobs")
    assert kubectl("logs", "job/hello") == "from kubectl\n"
    kubectl("annotate", "job", "hello", "note=x")
    assert json.loads(kubectl("get", "job", "hello", "-o", "json"))["metadata"]["annotations"]["note"] == "x"
    assert "deleted" in kubectl("delete", "job", "hello")


def test_the_connectors_watch_sees_what_the_official_client_does(cloud: LiveCloud, api: client.ApiClient) -> None:
    batch, site = client.BatchV1Api(api), cloud.connect()
    first, second = new_key(), new_key()
    body = {first: simple_job(site, first), second: simple_job(site, second)}
    for one in body.values():
        batch.create_namespaced_job("default", one)
    assert {item.state.final for item in site.status([first, second]).items} == {False}
    heard: list[Request] = []
    answer = cloud.face.handle

    def hear(request: Request) -> Response:
        heard.append(request)
        return answer(request)

    cloud.face.handle = hear  # type: ignore[method-assign]
    batch.patch_namespaced_job(first, "default", {"spec": {"activeDeadlineSeconds": 1}})
    cloud.wait_until(
        lambda: {item.key: item.state for item in site.status([first, second]).items}[first].final, within=30
    )
    asked = [request for request in heard if request.method == "GET"]
    assert asked
    assert all(request.first("watch") == "1" for request in asked), "nothing was listed"
    batch.delete_namespaced_job(second, "default", propagation_policy="Background")
    listing = site.status([first, second])
    assert listing.complete
    assert [item.key for item in listing.items] == [first]


def simple_job(site: KubernetesSite, key: str) -> dict[str, Any]:
    """A Job as the connector makes it, but for what its pod does."""
    spec = JobSpec(key=key, digest="d1", directory=f"runs/{key}", entry="stage.sh")
    body = site.manifest(spec)
    container = {"name": "payload", "image": "busybox", "command": ["/bin/sh", "-c", "sleep 60"]}
    body["spec"]["template"]["spec"]["containers"] = [container]
    return body
