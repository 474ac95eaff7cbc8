"""A job as the body of a submission, field by field; and what replies and tokens say, value by value."""

from __future__ import annotations

from typing import Any

import jwt
import pytest
from olcf_kit import simulated_job

from connectors.errors import RequestRefused, UnsafePath
from connectors.model import Resources
from connectors.olcf.auth import end_of
from connectors.olcf.envelope import envelope_of
from connectors.olcf.health import moment
from connectors.olcf.options import RestOptions
from connectors.olcf.request import body_of, description
from connectors.registry import SiteConfig
from connectors.secrets import Secret

CONFIG = SiteConfig(name="s", connector="olcf", root="/lustre/orion/abc123/", installation="here", umask="007")
OLD = RestOptions.read("s", {"version": "v0.0.38", "user": "me"}, api="slurmrestd")
NEW = RestOptions.read("s", {"version": "v0.0.43", "resource": "defiant"})
NEWEST = RestOptions.read("s", {"version": "v0.0.44", "resource": "defiant"})
KEY = "cf0123456789abc"


def job(options: RestOptions, **more: Any) -> dict[str, Any]:
    return description(simulated_job(KEY, **more), CONFIG, options)


def test_a_job_says_whose_it_is_and_where_it_runs() -> None:
    for options in (OLD, NEW, NEWEST):
        told = job(options)
        assert told["name"] == KEY
        assert told["comment"] == f"crossfade here {KEY} d1"
        assert told["current_working_directory"] == f"/lustre/orion/abc123/runs/{KEY}"
        assert told["standard_output"] == f"/lustre/orion/abc123/runs/{KEY}/.crossfade/wrapper.log"
        assert told["dependency"] == "singleton"
        assert told["environment"]


def test_numbers_are_plain_up_to_22_05_and_wrapped_since() -> None:
    needs = Resources(nodes=2, walltime=61.0, memory=(1 << 20) + 1)
    old, new = job(OLD, resources=needs), job(NEW, resources=needs)
    assert (old["time_limit"], old["memory_per_node"], old["nodes"]) == (2, 2, [2, 2])
    assert new["time_limit"] == {"set": True, "infinite": False, "number": 2}
    assert new["memory_per_node"] == {"set": True, "infinite": False, "number": 2}
    assert (new["minimum_nodes"], new["maximum_nodes"]) == (2, 2)
    assert (old["open_mode"], new["open_mode"]) == ("append", ["APPEND"])
    assert isinstance(old["environment"], dict)
    assert all("=" in one for one in new["environment"])


def test_no_walltime_leaves_it_to_the_partition() -> None:
    assert "time_limit" not in job(NEW, resources=Resources())


def test_a_warning_is_asked_for_where_it_reaches_the_script() -> None:
    new = job(NEW, warn_before=90)
    assert (new["kill_warning_signal"], new["kill_warning_flags"]) == ("USR1", ["BATCH_JOB"])
    assert "signal" not in job(OLD, warn_before=90), "there it would end the steps instead"


@pytest.mark.parametrize(
    ("needs", "tasks"),
    [
        (Resources(), 1),
        (Resources(nodes=4), 4),
        (Resources(nodes=4, ranks_per_node=8), 32),
        (Resources(nodes=2, ranks=5, ranks_per_node=3), 5),
    ],
)
def test_tasks_follow_from_ranks_and_nodes(needs: Resources, tasks: int) -> None:
    assert job(NEW, resources=needs)["tasks"] == job(OLD, resources=needs)["tasks"] == tasks


def test_one_job_stands_alone_or_in_a_list() -> None:
    spec = simulated_job(KEY)
    assert set(body_of(spec, CONFIG, NEW)) == {"script", "job"}
    body = body_of(spec, CONFIG, NEWEST)
    assert set(body) == {"script", "jobs"}
    assert len(body["jobs"]) == 1
    forced = RestOptions.read("s", {"version": "v0.0.44", "resource": "x", "body": "job"})
    assert "job" in body_of(spec, CONFIG, forced)


@pytest.mark.parametrize(
    ("said", "minutes"),
    [("30", 30), ("30:30", 31), ("1:30:00", 90), ("1:30:01", 91), ("2-1", 2940), ("1-0:30", 1470), ("0-0:0:1", 1)],
)
def test_times_are_read_as_slurm_writes_them(said: str, minutes: int) -> None:
    assert job(OLD, submit={"time-min": said})["time_minimum"] == minutes


@pytest.mark.parametrize("said", ["1:2:3:4", "-5", "1-", "x", "1-2-3", "1.5"])
def test_times_that_are_none_are_refused(said: str) -> None:
    with pytest.raises(RequestRefused):
        job(OLD, submit={"time-min": said})


@pytest.mark.parametrize(("said", "megabytes"), [("2G", 2048), ("512", 512), ("512M", 512), ("1T", 1 << 20), ("1K", 1)])
def test_sizes_are_read_as_slurm_writes_them(said: str, megabytes: int) -> None:
    assert job(NEW, submit={"mem": said})["memory_per_node"]["number"] == megabytes


def test_gpus_are_said_in_each_versions_words() -> None:
    assert job(OLD, resources=Resources(gpus=4))["gpus_per_node"] == "4"
    assert job(NEW, resources=Resources(gpus=4))["tres_per_node"] == "gres/gpu:4"
    assert job(NEW, submit={"gres": "gpu:a100:2"})["tres_per_node"] == "gres/gpu:a100:2"


@pytest.mark.parametrize(("options", "field"), [(OLD, "exclusive"), (NEW, "shared")])
def test_whole_nodes(options: RestOptions, field: str) -> None:
    assert job(options, resources=Resources(exclusive=True))[field] in ("exclusive", ["none"])
    assert job(options, submit={"exclusive": "user"})[field] in ("user", ["user"])


def test_a_word_without_a_field_in_this_version_is_refused_by_name() -> None:
    with pytest.raises(RequestRefused, match=r"'exclude'.*v0\.0\.38"):
        job(OLD, submit={"exclude": "node7"})
    assert job(NEW, submit={"exclude": "node7,node8"})["excluded_nodes"] == ["node7", "node8"]


def test_a_stage_cannot_say_what_is_the_brokers_to_say() -> None:
    for word in ("comment", "job-name", "chdir", "dependency", "hold", "environment"):
        with pytest.raises(RequestRefused):
            body_of(simulated_job(KEY, submit={word: "x"}), CONFIG, NEW)


def test_a_folder_that_leaves_the_root_is_refused() -> None:
    with pytest.raises(UnsafePath):
        body_of(simulated_job(KEY, directory="../elsewhere"), CONFIG, NEW)


@pytest.mark.parametrize(
    ("document", "numbers", "text"),
    [
        ({"errors": [{"error_code": 2000, "error": "Invalid partition"}]}, [2000], "Invalid partition"),
        ({"errors": [{"error": "Unspecified error", "errno": -1}]}, [-1], "Unspecified error"),
        (
            {"errors": [{"description": "Unable to find JobId=9", "error_number": 2017, "error": "Invalid job id"}]},
            [2017],
            "Invalid job id: Unable to find JobId=9",
        ),
        ({"errors": [{"description": 'Unknown key "x"', "source": "hsearch_r"}]}, [-1], 'Unknown key "x"'),
        ({"errors": ["a word\nand another"]}, [-1], "a word and another"),
        ({"errors": []}, [], "HTTP 200"),
    ],
)
def test_errors_are_read_in_all_their_shapes(document: dict[str, Any], numbers: list[int], text: str) -> None:
    found = envelope_of(document, 200)
    assert found is not None
    assert [one.number for one in found.errors] == numbers
    assert found.text == text


def test_what_is_no_reply_of_slurms_is_none() -> None:
    assert envelope_of([], 200) is None
    assert envelope_of({"errors": {}}, 200) is None
    assert envelope_of({"detail": "gateway"}, 502) is None
    assert envelope_of({"jobs": []}, 200) is not None


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("2026-05-31T08:00:00Z", 1780214400),
        ("2026-05-31T08:00:00", 1780214400),
        ("2026-05-31T04:00:00-04:00", 1780214400),
        (1780214400, 1780214400),
        ({"set": True, "infinite": False, "number": 1780214400}, 1780214400),
        ("soon", None),
        ("", None),
        (None, None),
        (-1, None),
        (10**15, None),
        (["2026"], None),
    ],
)
def test_moments_are_read_as_services_write_them(said: object, seconds: int | None) -> None:
    assert moment(said) == (None if seconds is None else seconds * 1_000_000)


@pytest.mark.parametrize(("claims", "end"), [({"exp": 1780214400}, 1780214400), ({}, None), ({"exp": 1e12}, None)])
def test_a_tokens_own_end_is_read(claims: dict[str, Any], end: int | None) -> None:
    token = jwt.encode(claims, "k" * 32)
    assert end_of(Secret(token)) == (None if end is None else end * 1_000_000)
    assert end_of(Secret("no-jwt-at-all-0123")) is None
