"""What a task at Globus copies, verifies, leaves out and deletes, as the model does it under a virtual clock."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from globus_kit import CLIENT, DAY, HOUR, Globus, codes, id_of, told


@pytest.fixture
def globus(tmp_path: Path) -> Globus:
    return Globus(tmp_path)


def test_a_file_comes_over_and_its_task_succeeds(globus: Globus) -> None:
    globus.put("a", "x/one.bin", b"12345")
    with globus.client() as client:
        task = told(client, globus.submit(client, ("/x/one.bin", "/y/two.bin")))
    assert globus.read("b", "y/two.bin") == b"12345"
    assert (task["status"], task["files"], task["files_transferred"], task["bytes_transferred"]) == (
        "SUCCEEDED",
        1,
        1,
        5,
    )
    assert (task["is_ok"], task["nice_status"], task["nice_status_expires_in"]) == (None, None, None)
    assert globus.names("b") == ["y/two.bin"]


def test_what_is_absent_at_first_is_found_at_a_later_try(globus: Globus) -> None:
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        assert told(client, task_id)["subtasks_retrying"] == 1
        globus.put("a", "one")
        globus.go_on(300)
        task = told(client, task_id)
    assert (task["status"], task["faults"]) == ("SUCCEEDED", 1)
    assert codes(globus, task_id) == ["STARTED", "FILE_NOT_FOUND", "SUCCEEDED"]


def test_a_bit_that_changes_on_the_way_is_found_and_the_file_comes_again(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "corrupt"})
    globus.put("a", "one", b"12345")
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"), verify_checksum=True)
        assert globus.names("b") == []
        globus.go_on(HOUR)
        task = told(client, task_id)
    assert (task["status"], task["faults"], task["bytes_transferred"]) == ("SUCCEEDED", 1, 10)
    assert "VERIFY_CHECKSUM" in codes(globus, task_id)
    assert globus.read("b", "one") == b"12345"


def test_without_verification_nobody_notices(tmp_path: Path) -> None:
    globus = Globus(tmp_path, {"fault": "corrupt"})
    globus.put("a", "one", b"12345")
    with globus.client() as client:
        assert told(client, globus.submit(client, ("/one", "/one")))["status"] == "SUCCEEDED"
    assert globus.read("b", "one") == b"02345"


@pytest.mark.parametrize(("algorithm", "name"), [("", "md5"), ("SHA256", "sha256"), ("SHA512", "sha512")])
def test_a_given_checksum_is_compared_and_told(globus: Globus, algorithm: str, name: str) -> None:
    globus.put("a", "one", b"12345")
    order = globus.order(("/one", "/one"))
    digest = hashlib.new(name, b"12345").hexdigest()
    order["DATA"][0] |= {"external_checksum": digest} | ({"checksum_algorithm": algorithm} if algorithm else {})
    with globus.client() as client:
        task_id = client.post("/v0.10/transfer", json=order).json()["task_id"]
        assert told(client, task_id)["status"] == "SUCCEEDED"
        [row] = client.get(f"/v0.10/task/{task_id}/successful_transfers").json()["DATA"]
    assert (row["checksum"], row["checksum_algorithm"], row["size"]) == (digest, algorithm or "MD5", 5)


def test_another_checksum_than_the_given_one_fails_the_whole_task(globus: Globus) -> None:
    globus.put("a", "one", b"12345")
    globus.put("a", "two", b"12345")
    order = globus.order(("/one", "/one"), ("/two", "/two"))
    order["DATA"][0]["external_checksum"] = "0" * 32
    with globus.client() as client:
        task = told(client, client.post("/v0.10/transfer", json=order).json()["task_id"])
    assert (task["status"], task["fatal_error"]["code"]) == ("FAILED", "EXTERNAL_CHECKSUM_MISMATCH")
    assert globus.names("b") == []


def test_a_source_that_grows_while_it_is_read_is_read_again(globus: Globus) -> None:
    path = globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"))
        globus.go_on(10)
        path.write_bytes(b"y" * 150)
        globus.go_on(HOUR)
        assert told(client, task_id)["status"] == "SUCCEEDED"
    assert "FILE_SIZE_CHANGED" in codes(globus, task_id)
    assert globus.read("b", "one") == b"y" * 150


@pytest.mark.parametrize("fatal", [True, False])
def test_a_full_disk_fails_the_task_only_where_that_is_wanted(globus: Globus, fatal: bool) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.put("b", "old", b"x" * 80)
    globus.collections["b"].room = 50
    with globus.client() as client:
        task_id = globus.submit(client, ("/one", "/one"), fail_on_quota_errors=fatal)
        task = told(client, task_id)
        assert (task["status"], task["faults"]) == ("FAILED" if fatal else "ACTIVE", 1)
        assert globus.names("b") == ["old"]
        delete = {"DATA_TYPE": "delete", "endpoint": id_of("b"), "submission_id": CLIENT.id}
        client.post("/v0.10/delete", json={**delete, "DATA": [{"DATA_TYPE": "delete_item", "path": "/old"}]})
        globus.go_on(HOUR)
        assert told(client, task_id)["status"] == ("FAILED" if fatal else "SUCCEEDED")


def test_errors_at_the_source_are_skipped_where_that_is_wanted_and_listed(globus: Globus) -> None:
    globus.put("a", "one")
    with globus.client() as client:
        task_id = globus.submit(client, ("/absent", "/absent"), ("/one", "/one"), skip_source_errors=True)
        task = told(client, task_id)
        [row] = client.get(f"/v0.10/task/{task_id}/skipped_errors").json()["DATA"]
    assert (task["status"], task["subtasks_skipped_errors"], task["files_transferred"]) == ("SUCCEEDED", 1, 1)
    assert (row["error_code"], row["source_path"], row["is_directory"]) == ("FILE_NOT_FOUND", "/absent", False)
    assert "SKIPPED_ERRORS" in codes(globus, task_id)


@pytest.mark.parametrize(
    ("level", "copied"),
    [
        (None, {"same", "other", "older", "longer", "new"}),
        (0, {"new"}),
        (1, {"longer", "new"}),
        (2, {"longer", "older", "new"}),
        (3, {"longer", "other", "older", "new"}),
    ],
)
def test_sync_levels_copy_what_differs(globus: Globus, level: int | None, copied: set[str]) -> None:
    sources = {"same": b"12345", "other": b"abcde", "older": b"vwxyz", "longer": b"123456", "new": b"1"}
    for name, content in sources.items():
        os.utime(globus.put("a", f"d/{name}", content), (2_000_000, 2_000_000))
    for name in ("same", "other", "older", "longer"):
        at = 1_000_000 if name == "older" else 3_000_000
        os.utime(globus.put("b", f"d/{name}", b"12345"), (at, at))
    with globus.client() as client:
        order = globus.order(("/d", "/d"), sync_level=level) if level is not None else globus.order(("/d", "/d"))
        task_id = client.post("/v0.10/transfer", json=order).json()["task_id"]
        task = told(client, task_id)
        rows = client.get(f"/v0.10/task/{task_id}/successful_transfers").json()["DATA"]
    assert task["status"] == "SUCCEEDED"
    assert {row["source_path"].rpartition("/")[2] for row in rows} == copied
    assert task["files_skipped"] == len(sources) - len(copied)


def test_a_folder_comes_over_with_what_the_filters_let_through(globus: Globus) -> None:
    for path in ("d/a.h5", "d/b.tmp", "d/deep/c.h5", "d/scratch/d.h5", "d/deep/e.log"):
        globus.put("a", path)
    (globus.collections["a"].folder / "d/empty").mkdir()
    rules = [
        {"DATA_TYPE": "filter_rule", "method": "exclude", "type": "dir", "name": "scratch"},
        {"DATA_TYPE": "filter_rule", "method": "include", "type": "file", "name": "*.h5"},
        {"DATA_TYPE": "filter_rule", "method": "exclude", "type": "file", "name": "*"},
    ]
    with globus.client() as client:
        task = told(client, globus.submit(client, ("/d", "/d"), filter_rules=rules))
    assert globus.names("b") == ["d/a.h5", "d/deep/c.h5"]
    assert (task["files"], task["directories"], task["filter_rules"][0]["name"]) == (2, 3, "scratch")
    assert (globus.collections["b"].folder / "d/empty").is_dir()


@pytest.mark.parametrize(
    ("way", "names"), [("ignore", ["d/file"]), ("keep", ["d/file", "d/link"]), ("copy", ["d/file", "d/link"])]
)
def test_links_in_folders_are_left_out_kept_or_looked_through(globus: Globus, way: str, names: list[str]) -> None:
    globus.put("a", "d/file", b"12")
    (globus.collections["a"].folder / "d/link").symlink_to("file")
    with globus.client() as client:
        assert told(client, globus.submit(client, ("/d", "/d"), recursive_symlinks=way))["status"] == "SUCCEEDED"
    assert globus.names("b") == names
    assert (globus.collections["b"].folder / "d/link").is_symlink() == (way == "keep")


def test_what_the_source_does_not_have_is_deleted_only_where_that_is_wanted(globus: Globus) -> None:
    globus.put("a", "d/one")
    globus.put("b", "d/extra")
    with globus.client() as client:
        globus.submit(client, ("/d", "/d"))
        assert globus.names("b") == ["d/extra", "d/one"]
        globus.submit(client, ("/d", "/d"), delete_destination_extra=True)
    assert globus.names("b") == ["d/one"]


def test_timestamps_are_preserved_where_that_is_wanted(globus: Globus) -> None:
    os.utime(globus.put("a", "one"), (1_000_000, 1_000_000))
    with globus.client() as client:
        globus.submit(client, ("/one", "/kept"), preserve_timestamp=True)
        globus.submit(client, ("/one", "/fresh"))
    folder = globus.collections["b"].folder
    assert (folder / "kept").stat().st_mtime == 1_000_000
    assert (folder / "fresh").stat().st_mtime > 1_000_000_000


@pytest.mark.parametrize(
    ("recursive", "path", "code"),
    [(False, "/d", "IS_A_DIRECTORY"), (True, "/one", "NOT_A_DIRECTORY"), (True, "/d", ""), (False, "/one", "")],
)
def test_recursive_must_fit_what_lies_there(globus: Globus, recursive: bool, path: str, code: str) -> None:
    globus.put("a", "d/file")
    globus.put("a", "one")
    order = globus.order((path, "/target"))
    order["DATA"][0]["recursive"] = recursive
    with globus.client() as client:
        task = told(client, client.post("/v0.10/transfer", json=order).json()["task_id"])
    assert (task["nice_status"] or "") == code


def test_a_partial_file_is_seen_only_where_the_collection_shows_it(globus: Globus) -> None:
    globus.put("a", "one", b"x" * 100)
    globus.collections["b"].rate = 1.0
    with globus.client() as client:
        globus.submit(client, ("/one", "/hidden"))
        globus.collections["b"].visible_partial = True
        shown = globus.submit(client, ("/one", "/shown"))
        listing = client.get(f"/v0.10/operation/endpoint/{id_of('b')}/ls").json()
        assert [row["name"] for row in listing["DATA"]] == ["shown"]
        globus.go_on(1)
        client.post(f"/v0.10/task/{shown}/cancel")
        globus.run_out()
    assert globus.names("b") == ["hidden", "shown"]


def test_two_paths_to_one_destination_are_taken_as_the_service_takes_them(globus: Globus) -> None:
    """Refusing such a plan is the client's business."""
    globus.put("a", "one", b"1")
    globus.put("a", "two", b"2")
    with globus.client() as client:
        task = told(client, globus.submit(client, ("/one", "/x"), ("/two", "/x")))
    assert (task["status"], task["files_transferred"]) == ("SUCCEEDED", 2)


def test_a_folder_is_not_copied_into_itself(globus: Globus) -> None:
    globus.put("a", "d/one")
    order = globus.order(("/d", "/d/e")) | {"destination_endpoint": id_of("a")}
    with globus.client() as client:
        task = told(client, client.post("/v0.10/transfer", json=order).json()["task_id"])
    assert task["nice_status"] == "INVALID_PATH_NAME"
    assert globus.names("a") == ["d/one"]


def test_a_step_that_breaks_off_is_a_fault_and_no_success(
    globus: Globus, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    globus.put("a", "one")

    def broken(*_: object) -> None:
        raise ValueError("a mistake of ours")

    with globus.client() as client, monkeypatch.context() as patched:
        patched.setattr("sandbox.globus.copying.write_all", broken)
        task_id = globus.submit(client, ("/one", "/one"))
        assert told(client, task_id)["nice_status"] == "INTERNAL_ERROR"
    assert globus.names("b") == []
    assert "a step broke off" in caplog.text
    globus.go_on(HOUR)
    assert globus.read("b", "one") == b"some words\n"
    assert globus.task(task_id).status.value == "SUCCEEDED"


def test_deletions_take_patterns_and_say_what_is_missing_unless_that_is_fine(globus: Globus) -> None:
    for path in ("a.tmp", "b.tmp", "c.h5", "odd/x*y", "odd/xzy"):
        globus.put("b", path)

    def delete(client: Any, number: int, path: str, **more: Any) -> str:
        order = {"DATA_TYPE": "delete", "endpoint": id_of("b"), "submission_id": f"{number:032x}", **more}
        order["DATA"] = [{"DATA_TYPE": "delete_item", "path": path}]
        return str(client.post("/v0.10/delete", json=order).json()["task_id"])

    with globus.client() as client:
        delete(client, 1, "/*.tmp", interpret_globs=True)
        assert globus.names("b") == ["c.h5", "odd/x*y", "odd/xzy"]
        delete(client, 2, "/odd/x*y")
        assert globus.names("b") == ["c.h5", "odd/xzy"]
        assert told(client, delete(client, 3, "/absent", ignore_missing=True))["status"] == "SUCCEEDED"
        assert told(client, delete(client, 4, "/absent"))["nice_status"] == "FILE_NOT_FOUND"
        assert told(client, delete(client, 5, "/odd"))["nice_status"] == "IS_A_DIRECTORY"
        task_id = delete(client, 6, "/..x", deadline="2026-01-01T01:00:00+00:00")
        globus.go_on(DAY + 60)
        assert {told(client, one)["status"] for one in (task_id,)} == {"FAILED"}
