"""The local site's files against a payload that sets traps in its folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from connectors.errors import NotThere, RequestRefused, UnsafePath
from connectors.local import LocalSite, make
from connectors.model import JobSpec, Refused, SmallFile
from connectors.registry import SiteConfig


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    return folder


@pytest.fixture
def site(tmp_path: Path) -> LocalSite:
    config = SiteConfig(name="here", connector="local", root=str(tmp_path / "site"))
    site = make(config, lambda: time.time_ns() // 1000)
    site.prepare()
    site.write("runs/inside", b"inside")
    return site


@pytest.fixture
def runs(tmp_path: Path, site: LocalSite) -> Path:
    return tmp_path / "site" / "runs"


@pytest.mark.parametrize("absolute", [True, False])
def test_no_verb_follows_a_folder_link_out(site, runs, outside, absolute):
    os.symlink(outside if absolute else "../../outside", runs / "trap")
    assert list(site.list("runs")) == list(site.list("runs", recursive=True))
    assert [info.path for info in site.list("runs")] == ["runs/inside"]
    for ask in (
        lambda: site.read("runs/trap/secret"),
        lambda: site.read_many(["runs/trap/secret"]),
        lambda: site.digests(["runs/trap/secret"]),
        lambda: site.list("runs/trap"),
        lambda: site.write("runs/trap/new", b"x"),
        lambda: site.write("runs/trap/new/deeper", b"x"),
        lambda: site.remove(["runs/trap/secret"]),
    ):
        with pytest.raises(UnsafePath):
            ask()
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_file_link_out_is_not_read_and_writing_replaces_the_link_itself(site, runs, outside):
    os.symlink(outside / "secret", runs / "trap")
    for ask in (lambda: site.read("runs/trap"), lambda: site.digests(["runs/trap"])):
        with pytest.raises(UnsafePath):
            ask()
    site.write("runs/trap", b"mine")
    assert site.read("runs/trap") == b"mine"
    assert (outside / "secret").read_bytes() == b"secret"


def test_removing_a_link_leaves_what_it_points_to(site, runs, outside):
    os.symlink(outside / "secret", runs / "trap")
    site.remove(["runs/trap"])
    assert not (runs / "trap").is_symlink()
    assert (outside / "secret").exists()


def test_a_link_that_stays_inside_is_read(site, runs):
    site.write("runs/deep/result-3", b"three")
    os.symlink("result-3", runs / "deep" / "latest")
    os.symlink("deep", runs / "short")
    assert site.read("runs/deep/latest") == b"three"
    assert site.read("runs/short/latest") == b"three"
    listed = {info.path: info.size for info in site.list("runs/deep")}
    assert listed == {"runs/deep/latest": 5, "runs/deep/result-3": 5}


def test_links_in_a_circle_and_into_nowhere_are_not_there(site, runs):
    os.symlink("round", runs / "round")
    os.symlink("nowhere", runs / "lost")
    assert [info.path for info in site.list("runs", recursive=True)] == ["runs/inside"]
    with pytest.raises(NotThere):
        site.read("runs/lost")
    with pytest.raises((NotThere, UnsafePath)):
        site.read("runs/round")


def test_a_pipe_left_by_a_payload_hangs_nobody(site, runs):
    os.mkfifo(runs / "pipe")
    with pytest.raises(NotThere):
        site.read("runs/pipe")
    assert site.digests(["runs/pipe"]) == {}
    assert [info.path for info in site.list("runs")] == ["runs/inside"]


def test_names_that_nobody_could_ask_for_are_left_out_of_listings(site, runs):
    for name in ("new\nline", "back\\slash", b"\xff\xfe"):
        path = os.path.join(os.fsencode(runs), os.fsencode(name))
        with open(path, "wb"):
            pass
    assert [info.path for info in site.list("runs")] == ["runs/inside"]


def test_the_sites_own_records_are_not_written_to(site):
    for path in ("jobs/cfkey", ".crossfade-site", "./jobs//x", "incoming/x/y"):
        with pytest.raises(UnsafePath):
            site.write(path, b"x")
        with pytest.raises(UnsafePath):
            site.remove([path])


def test_a_folder_is_not_removed(site):
    with pytest.raises((RequestRefused, UnsafePath)):
        site.remove(["runs"])
    assert site.read("runs/inside") == b"inside"


def test_a_failed_write_leaves_no_scrap(site, runs):
    (runs / "folder").mkdir()
    with pytest.raises(RequestRefused):
        site.write("runs/folder", b"x")
    assert sorted(path.name for path in runs.iterdir()) == ["folder", "inside"]


@pytest.mark.parametrize("trap", ["directory", "entry", "file"])
def test_a_job_does_not_follow_a_link_out(site, runs, outside, trap):
    (outside / "job.sh").write_bytes(b"echo escaped > escaped\n")
    (runs / "job").mkdir()
    os.symlink(outside, runs / "job" / "trap")
    os.symlink(outside / "job.sh", runs / "job" / "linked.sh")
    script = SmallFile(path="job.sh", content=b"exit 0\n")
    spec = {
        "directory": JobSpec(key="cftrap", digest="d", directory="runs/job/trap", entry="job.sh"),
        "entry": JobSpec(key="cftrap", digest="d", directory="runs/job", entry="linked.sh", files=(script,)),
        "file": JobSpec(
            key="cftrap",
            digest="d",
            directory="runs/job",
            entry="job.sh",
            files=(script, SmallFile(path="trap/new", content=b"x")),
        ),
    }[trap]
    assert isinstance(site.submit([spec])["cftrap"], Refused)
    assert not site.find(["cftrap"]).items
    assert sorted(path.name for path in outside.iterdir()) == ["job.sh", "secret"]
