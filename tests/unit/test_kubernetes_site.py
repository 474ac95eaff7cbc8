"""What the Kubernetes connector asks for, and what it makes of the answers, strange ones among them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloud_kit import SECRET, TOKEN, VirtualCloud

from connectors.base import Checkable, Preparable, Scripted
from connectors.contract import new_key
from connectors.errors import BadReply, CredentialError, RequestRefused, SiteBusy, SiteError, SiteUnreachable
from connectors.kubernetes import KubernetesOptions, make
from connectors.kubernetes.access import access_of
from connectors.kubernetes.options import options_of
from connectors.kubernetes.states import seen_of
from connectors.model import Accepted, Doubtful, JobSpec, JobState, JobStatus, Refused, Resources
from connectors.registry import SiteConfig

NOW = 1_800_000_000_000_000


@pytest.fixture
def cloud(tmp_path: Path) -> VirtualCloud:
    return VirtualCloud(tmp_path)


# -- what is asked for ---------------------------------------------------------------------------------------


def test_a_job_is_one_pod_that_is_started_once(cloud: VirtualCloud) -> None:
    spec = replace(
        cloud.job("cf1"),
        image="ghcr.io/lab/recon:2",
        resources=Resources(cores=4, gpus=1, memory=8 << 30, walltime=3600),
        submit={"node_selector": "pool=gpu", "tolerations": "gpu=yes:NoSchedule,spot", "priority_class": "urgent"},
    )
    job = cloud.connect().manifest(spec)
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["name"] == "cf1"
    assert (job["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    assert job["spec"]["ttlSecondsAfterFinished"] >= 86_400
    assert [rule["action"] for rule in job["spec"]["podFailurePolicy"]["rules"]] == ["FailJob", "FailJob"]
    assert pod["activeDeadlineSeconds"] == 3600 + 600
    assert pod["containers"][0]["image"] == "ghcr.io/lab/recon:2"
    asked = pod["containers"][0]["resources"]
    assert asked["limits"] == {"memory": str(8 << 30), "nvidia.com/gpu": "1"}
    assert asked["requests"]["cpu"] == "4"
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
        {"key": "spot", "operator": "Exists"},
    ]
    assert pod["priorityClassName"] == "urgent"
    assert "crossfade here cf1 d1" in job["metadata"]["annotations"]["crossfade/comment"]


def test_the_script_shows_all_but_the_secrets(cloud: VirtualCloud) -> None:
    site = cloud.connect()
    assert isinstance(site, Scripted)
    assert isinstance(site, Preparable)
    assert isinstance(site, Checkable)
    shown = site.script(cloud.job("cf1"))
    assert shown.script.startswith("#!/bin/sh\n# crossfade's errand boy")
    assert shown.request.startswith("POST http://cluster.example.org/apis/batch/v1/namespaces/default/jobs\n")
    json.loads(shown.request.partition("\n\n")[2])
    for secret in (SECRET, TOKEN):
        assert secret not in shown.script + shown.request
    assert not cloud.api.requests


@pytest.mark.parametrize(
    "spoil",
    [
        {"submit": {"qos": "x"}},
        {"submit": {"priority_class": "a\nb"}},
        {"submit": {"node_selector": "pool"}},
        {"submit": {"tolerations": "a=b:Never"}},
        {"image": "x; rm -rf /"},
        {"resources": Resources(nodes=2)},
        {"key": "UPPER"},
        {"entry": "-c"},
    ],
)
def test_what_no_pod_can_be_is_refused_and_never_sent(cloud: VirtualCloud, spoil: Mapping[str, Any]) -> None:
    site = cloud.connect()
    spec: JobSpec = replace(cloud.job("cf1"), **spoil)
    assert isinstance(site.submit([spec])[spec.key], Refused)
    assert not any(method == "POST" for method, _ in cloud.api.requests)


def test_values_of_a_job_never_become_another_variables_value(cloud: VirtualCloud) -> None:
    spec = replace(cloud.job("cf1"), directory="runs/$(CROSSFADE_SECRET_KEY)")
    env = cloud.connect().manifest(spec)["spec"]["template"]["spec"]["containers"][0]["env"]
    plain = {item["name"]: item.get("value") for item in env}
    assert plain["CROSSFADE_DIRECTORY"] == "runs/$$(CROSSFADE_SECRET_KEY)"


# -- one call ------------------------------------------------------------------------------------------------


def test_a_thousand_jobs_are_looked_at_with_one_list_of_jobs_and_one_of_pods(cloud: VirtualCloud) -> None:
    site = cloud.connect()
    keys = [new_key() for _ in range(30)]
    site.submit([cloud.job(key, seconds=600) for key in keys])
    cloud.api.requests.clear()
    listing = site.status(keys + [f"cfabsent{number}" for number in range(1000)])
    assert {item.key for item in listing.items} == set(keys)
    assert [method for method, _ in cloud.api.requests] == ["GET", "GET"]


def test_another_installations_job_is_left_alone(cloud: VirtualCloud) -> None:
    mine, theirs, key = cloud.connect("here"), cloud.connect("there"), new_key()
    theirs.submit([cloud.job(key, seconds=600)])
    assert not mine.find([key]).items
    assert not mine.list_mine(0).items
    assert isinstance(mine.submit([cloud.job(key, seconds=600)])[key], Refused)
    assert mine.cancel([key]) == {key: True}
    assert not theirs.status([key]).items[0].state.final


def test_a_conflict_that_is_not_about_the_name_is_no_adoption(tmp_path: Path) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": "conflict", "job": "."})
    site, key = cloud.connect(), new_key()
    with pytest.raises(SiteError) as caught:
        site.submit([cloud.job(key)])
    assert not caught.value.effect_possible
    assert isinstance(site.submit([cloud.job(key)])[key], Accepted)


def test_a_name_taken_between_look_and_creation_is_compared(cloud: VirtualCloud) -> None:
    site, key = cloud.connect(), new_key()
    rival = cloud.connect()
    inner = cloud.api.inner

    class Race(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST" and not rival_done:
                rival_done.append(True)
                rival.submit([cloud.job(key, seconds=600)])
            return inner.handle_request(request)

    rival_done: list[bool] = []
    cloud.api.inner = Race()
    answer = site.submit([cloud.job(key, seconds=600)])[key]
    assert isinstance(answer, Accepted)
    assert answer.adopted
    assert cloud.face.accepted()[key] == 1


# -- faults --------------------------------------------------------------------------------------------------


def test_a_full_quota_is_no_credentials_fault(tmp_path: Path) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": "refuse", "job": ".", "kind": "limit", "text": "requested: cpu=4"})
    site, key = cloud.connect(), new_key()
    answer = site.submit([cloud.job(key)])[key]
    assert isinstance(answer, Refused)
    assert answer.fault == "quota"


@pytest.mark.parametrize("fault", ["unauthorized", "forbidden"])
def test_a_refused_token_is_a_credentials_fault_and_no_outage(tmp_path: Path, fault: str) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": fault, "face": "kubernetes", "times": 0})
    site, key = cloud.connect(), new_key()
    for verb in (lambda: site.submit([cloud.job(key)]), lambda: site.status([key]), lambda: site.cancel([key])):
        with pytest.raises(CredentialError):
            verb()
    assert not any(evidence.ok for evidence in site.probe() if evidence.capability == "status")


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_a_busy_cluster_is_asked_again_only_for_reading(tmp_path: Path, code: int) -> None:
    rules = [
        {"fault": "status", "code": code, "retry_after": 0, "face": "kubernetes", "method": m} for m in ("GET", "POST")
    ]
    cloud = VirtualCloud(tmp_path, *rules)
    site, key = cloud.connect(), new_key()
    if code == 429:
        with pytest.raises(SiteBusy):
            site.submit([cloud.job(key)])
    else:
        assert isinstance(site.submit([cloud.job(key)])[key], Doubtful)
    assert [method for method, _ in cloud.api.requests].count("POST") == 1
    assert isinstance(site.submit([cloud.job(key)])[key], Accepted)
    assert cloud.face.accepted() == {key: 1}


@pytest.mark.parametrize("fault", ["html", "garbage", "huge", "redirect", "truncated"])
@pytest.mark.parametrize("face", ["kubernetes", "s3"])
def test_nonsense_is_a_clear_error(tmp_path: Path, fault: str, face: str) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": fault, "face": face, "times": 0})
    site, key = cloud.connect(), new_key()
    verbs: list[Callable[[], object]] = [lambda: site.status([key]), lambda: site.cancel([key])]
    if face == "s3":
        verbs = [lambda: site.list("spool"), lambda: site.remove(["x"]), lambda: site.read("x")]
        if fault != "truncated":  # of what has no body nothing is lost
            verbs += [lambda: site.digests(["x"]), lambda: site.write("x", b"x")]
    for verb in verbs:
        if fault == "huge" and face == "kubernetes":
            continue  # lists may be large
        with pytest.raises((BadReply, SiteUnreachable, CredentialError)):
            verb()


def test_a_pod_without_a_node_or_an_image_is_told_as_stuck(tmp_path: Path) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": "unschedulable", "job": "1$"}, {"fault": "image_pull", "job": "2$"})
    site = cloud.connect()
    site.submit([cloud.job("cf1"), cloud.job("cf2")])
    found = {item.key: item for item in site.status(["cf1", "cf2"]).items}
    assert (found["cf1"].state, found["cf1"].stuck_reason) == (JobState.QUEUED, "")
    assert found["cf2"].stuck_reason.startswith("ImagePullBackOff")
    cloud.clock.advance(901)
    (first,) = site.status(["cf1"]).items
    assert first.stuck_reason.startswith("Unschedulable: 0/4 nodes are available")
    assert site.cancel(["cf1"]) == {"cf1": False}
    cloud.wait_until(lambda: site.cancel(["cf1"])["cf1"], within=10)
    assert site.status(["cf1"]).items[0].state is JobState.CANCELED


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ("preempt", JobState.PREEMPTED),
        ("node_fail", JobState.NODE_FAILED),
        ("time_out", JobState.TIMED_OUT),
        ("out_of_memory", JobState.OUT_OF_MEMORY),
    ],
)
def test_what_befalls_a_pod_is_told_in_the_common_words(tmp_path: Path, fault: str, state: JobState) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": fault, "job": ".", "after": 5})
    site, key = cloud.connect(), new_key()
    site.submit([cloud.job(key, seconds=600)])
    cloud.wait_until(lambda: site.status([key]).items[0].state.final, within=60)
    assert site.status([key]).items[0].state is state
    assert cloud.face.accepted() == {key: 1}


def test_a_word_that_nobody_knows_is_kept_as_unknown(tmp_path: Path) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": "unknown_word", "job": ".", "word": "HIBERNATED"})
    site, key = cloud.connect(), new_key()
    site.submit([cloud.job(key, seconds=600)])
    cloud.wait_until(lambda: site.status([key]).items[0].state is JobState.UNKNOWN, within=60)
    assert not site.status([key]).items[0].state.final


def test_a_cancel_that_comes_too_late_leaves_the_success(tmp_path: Path) -> None:
    cloud = VirtualCloud(tmp_path, {"fault": "ignore_cancel", "job": "."})
    site, key = cloud.connect(), new_key()
    site.submit([cloud.job(key, seconds=5)])
    site.cancel([key])
    cloud.wait_until(lambda: site.cancel([key])[key], within=30)
    assert site.status([key]).items[0].state is JobState.SUCCEEDED


def test_a_job_that_has_ended_long_ago_is_absent_from_a_complete_listing(cloud: VirtualCloud) -> None:
    site, key = cloud.connect(), new_key()
    site.submit([cloud.job(key)])
    cloud.wait_until(lambda: site.status([key]).items[0].state.final, within=30)
    cloud.clock.advance(8 * 86_400)
    listing = site.find([key])
    assert listing.complete
    assert not listing.items


# -- held jobs -----------------------------------------------------------------------------------------------


def test_a_job_is_made_held_and_released_when_its_files_are_there(tmp_path: Path) -> None:
    options = KubernetesOptions(image="tools", suspend=True)
    cloud = VirtualCloud(tmp_path, {"fault": "status", "code": 503, "face": "s3", "method": "PUT"}, options=options)
    site, key = cloud.connect(), new_key()
    assert isinstance(site.submit([cloud.job(key)])[key], Doubtful), "its files could not be brought"
    (held,) = site.find([key]).items
    assert held.state is JobState.HELD
    answer = site.submit([cloud.job(key)])[key]
    assert answer == Accepted(native_id=held.native_id, adopted=True)
    cloud.wait_until(lambda: site.status([key]).items[0].state.final, within=30)
    assert cloud.executions(key) == 1


def test_a_job_of_kueue_waits_in_its_queue_and_is_deleted_when_canceled(tmp_path: Path) -> None:
    cloud = VirtualCloud(tmp_path, options=KubernetesOptions(image="tools", queue="lab-queue"))
    site, key = cloud.connect(), new_key()
    site.submit([cloud.job(key)])
    job = next(iter(cloud.face.cluster.jobs.values())).told
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "lab-queue"
    (item,) = site.status([key]).items
    assert (item.state, item.stuck_reason) == (JobState.QUEUED, "")
    assert site.cancel([key]) == {key: True}
    assert not site.find([key]).items
    assert cloud.executions(key) == 0


# -- states, from documents as clusters write them -----------------------------------------------------------


def told(status: Mapping[str, Any], *pods: Any, **spec: Any) -> JobStatus:
    meta = {"uid": "u1", "labels": {"crossfade/key": "cf1"}, "creationTimestamp": "2027-01-01T00:00:00Z"}
    seen = seen_of({"metadata": meta, "spec": spec, "status": status}, pods, now=NOW, stuck_after=900)
    assert seen is not None
    return seen.status


def failed(reason: str, message: str) -> dict[str, Any]:
    return {"conditions": [{"type": "Failed", "status": "True", "reason": reason, "message": message}]}


def test_a_job_whose_pod_is_long_gone_still_tells_how_it_ended() -> None:
    code = failed(
        "PodFailurePolicy",
        "Container payload for pod lab/cf1-x failed with exit code 73 matching FailJob rule at index 1",
    )
    assert (told(code).state, told(code).exit_code) == (JobState.FAILED, 73)
    room = failed("PodFailurePolicy", "Pod lab/cf1-x has condition DisruptionTarget matching FailJob rule at index 0")
    assert told(room).state is JobState.PREEMPTED


def test_a_job_is_over_only_when_no_pod_of_it_lives() -> None:
    target = {"active": 0, "terminating": 1, "conditions": [{"type": "FailureTarget", "status": "True"}]}
    assert told(target).state is JobState.RUNNING
    assert told({"active": 1, "ready": 0}).state is JobState.QUEUED
    assert told({"active": 1, "ready": 1}).state is JobState.RUNNING


def test_a_job_for_which_no_pod_is_made_is_stuck_after_a_while() -> None:
    assert not told({"startTime": "2027-01-15T07:59:00Z"}).stuck_reason
    assert "no pod was made" in told({"startTime": "2027-01-01T00:00:00Z"}).stuck_reason


@pytest.mark.parametrize(
    "odd", [None, 3, "x", [], {"conditions": 3}, {"conditions": [None, 3, {"type": []}]}, {"active": "x"}]
)
def test_documents_of_wrong_types_are_not_believed_and_break_nothing(odd: Any) -> None:
    assert not told(odd, None, 3, {"status": odd}, {"status": {"containerStatuses": odd, "phase": odd}}).state.final


# -- getting in ----------------------------------------------------------------------------------------------


def entry(**more: Any) -> SiteConfig:
    return SiteConfig(name="cloud", connector="kubernetes", root="s3://lab/one", **more)


def test_options_are_checked_by_name() -> None:
    for options in ({"namespce": "x"}, {"ttl": 60}, {"suspend": "yes"}, {"tolerations": "x"}, {"image": "a b"}):
        with pytest.raises(RequestRefused, match=next(iter(options))):
            options_of(entry(options=options))
    with pytest.raises(RequestRefused, match="kubeconfig"):
        make(entry(), lambda: NOW)
    config = replace(entry(options={"server": "http://x"}), root="/scratch")
    with pytest.raises(RequestRefused, match="s3://BUCKET"):
        make(config, lambda: NOW)


def test_a_kubeconfig_is_read_by_the_official_client_an_exec_plugin_included(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    plugin.write_text(
        '#!/bin/sh\necho \'{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'
        '"status":{"token":"from-the-plugin-0123"}}\'\n'
    )
    plugin.chmod(0o700)
    command = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    path = tmp_path / "config"
    document = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443"}}],
        "users": [{"name": "u", "user": {"exec": command}}],
    }
    path.write_text(json.dumps(document))
    path.chmod(0o600)
    config = entry(credentials={"kubeconfig": f"file:{path}"})
    access = access_of(config, options_of(config))
    assert access.server == "https://10.0.0.1:6443"
    assert dict(access.auth.headers()) == {"authorization": "Bearer from-the-plugin-0123"}
    assert access.transport is not None
    access.transport.close()
    path.chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        access_of(config, options_of(config))


def test_a_tokens_end_is_evidence(tmp_path: Path) -> None:
    token = "eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDM2MDB9.c2ln"  # ends an hour after NOW
    path = tmp_path / "token"
    path.write_text(token)
    path.chmod(0o600)
    config = entry(credentials={"token": f"file:{path}"}, options={"server": "http://127.0.0.1:9"})
    access = access_of(config, options_of(config))
    assert access.until() == NOW + 3600 * 1_000_000
    assert re.fullmatch("Bearer .*", access.auth.headers()["authorization"])


def test_a_token_that_was_renewed_in_the_kubeconfig_is_taken_after_a_refusal(tmp_path: Path) -> None:
    cloud = VirtualCloud(tmp_path)
    path = tmp_path / "config"

    def write(token: str) -> None:
        document = {
            "current-context": "a",
            "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "http://cluster.example.org"}}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        path.write_text(json.dumps(document))
        path.chmod(0o600)

    write("an-older-token-012345")
    config = entry(credentials={"kubeconfig": f"file:{path}"})
    access = access_of(config, options_of(config))
    site, key = cloud.connect(auth=access.auth), new_key()
    with pytest.raises(CredentialError):
        site.submit([cloud.job(key)])
    write(TOKEN)
    assert isinstance(site.submit([cloud.job(key)])[key], Accepted)
    assert cloud.face.accepted() == {key: 1}
