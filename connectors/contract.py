"""The tests that every connector and every mover must pass, to be used from anywhere.

A connector's own test file supplies a *rig*, which knows how to make the site, take it away and let time pass, and
inherits the tests:

    pytest.register_assert_rewrite("connectors.contract")   # before the import, for readable failures
    from connectors.contract import SiteContract

    class TestMySite(SiteContract):
        @pytest.fixture
        def rig(self, tmp_path):
            return MyRig(tmp_path)

Nothing in here sleeps or asks for the time: a site under a virtual clock passes as well as a real one.
See docs/howto/write-a-connector.md.
"""
# ruff: noqa: S101 - a test kit is made of asserts

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import pytest

from connectors.base import ComputeSite, HealthSource, Mover, Site, SiteFiles
from connectors.errands import MISSING
from connectors.errors import NotThere, SiteError, SiteUnreachable, UnsafePath
from connectors.model import (
    Accepted,
    Doubtful,
    JobSpec,
    JobState,
    JobStatus,
    Refused,
    SmallFile,
    SubmitAnswer,
    Ticket,
    Transfer,
    TransferItem,
    TransferState,
    TransferStatus,
)

CLAIMS = frozenset({"atomic_fs", "unique_name", "conditional_put", "none"})
CAPABILITIES = frozenset({"submit", "status", "files", "transfer", "compute", "credentials"})

UNSAFE_PATHS = (
    "../outside",
    "inside/../../outside",
    "inside/..",
    "/etc/passwd",
    "//etc/passwd",
    "nul\0byte",
    "new\nline",
    "carriage\rreturn",
    "escape\x1b[2J",
    "back\\slash",
    "..\\outside",
    "n" * 300,
    "deep/" * 400 + "file",
    "lone\udc80surrogate",
)
"""None of these may be read, written, listed, hashed, removed, or named by a job or a transfer."""


class SiteRig(Protocol):
    """What the kit needs to know of a site."""

    def connect(self) -> Site:
        """A new connector object for the same site, as after a restart of the broker."""
        ...

    def job(self, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1") -> JobSpec:
        """A job that runs about so long and ends so, in a folder `runs/KEY`. When canceled, it ends at once."""
        ...

    def executions(self, key: str) -> int:
        """How often the payload of this key has begun to run, from the site's own memory."""
        ...

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        """Let time pass, really or virtually, until it holds; AssertionError after so many seconds."""
        ...

    def darken(self) -> None:
        """Make the site unreachable. Its jobs go on."""
        ...

    def brighten(self) -> None:
        """Bring it back as it is."""
        ...

    def lose_next_reply(self, site: Site) -> bool:
        """Let the next submission through `site` reach the site and its answer be lost. False: no way to do that."""
        ...


class MoverRig(Protocol):
    """What the kit needs to know of a mover between two places."""

    source: str
    destination: str
    """Their names."""

    def connect(self) -> Mover:
        """A new mover over the same places, as after a restart of the broker."""
        ...

    def put(self, site: str, path: str, content: bytes) -> None:
        """Write a file there."""
        ...

    def get(self, site: str, path: str) -> bytes | None:
        """What is in a file there; None: nothing."""
        ...

    def wait_until(self, predicate: Callable[[], bool], *, within: float) -> None:
        """As in SiteRig."""
        ...

    def darken(self, site: str) -> None:
        """Make one side unreachable."""
        ...


_serial = itertools.count()
_letters = random.Random(20260101)  # noqa: S311 - no secret: keys that look like ours, the same in every run


def new_key() -> str:
    """A submit key that was not used before in this process."""
    tail = "".join(_letters.choices("abcdefghijklmnopqrstuvwxyz234567", k=9))
    return f"cf{next(_serial):04d}{tail}"


class ComputeContract:
    """Jobs: submitted once, found again, ended, never confused with one another."""

    within = 30.0
    """Seconds (of the site's time) that a short job may take to end."""

    def test_a_site_says_what_it_is(self, rig: SiteRig) -> None:
        site = rig.connect()
        assert isinstance(site, ComputeSite)
        assert isinstance(site, SiteFiles)
        assert isinstance(site, HealthSource)
        assert site.name
        assert site.claim in CLAIMS
        assert isinstance(site.inline, bool)

    def test_a_job_is_accepted_and_found_by_its_key(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key, seconds=600)
        for look in (site.find, site.status):
            listing = look([key])
            assert listing.complete
            assert [item.key for item in listing.items] == [key]
            assert listing.items[0].native_id
            assert not listing.items[0].state.final

    def test_exit_code_zero_is_success(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key)
        status = self._ended(rig, site, key)
        assert status.state is JobState.SUCCEEDED
        assert status.exit_code in {0, None}
        assert rig.executions(key) == 1

    def test_another_exit_code_is_failure_and_is_told(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key, exit_code=3)
        status = self._ended(rig, site, key)
        assert status.state is JobState.FAILED
        assert status.exit_code == 3

    def test_an_end_stays_as_it_was_told(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key, exit_code=4)
        first = self._ended(rig, site, key)
        assert _only(site.status([key]).items) == first
        assert _only(site.find([key]).items) == first

    def test_a_key_submitted_twice_runs_once(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        first = self._submit(rig, site, key, seconds=600)
        again = site.submit([rig.job(key, seconds=600)])[key]
        assert isinstance(again, Accepted)
        assert again.adopted
        assert again.native_id == first.native_id
        assert len(site.find([key]).items) == 1
        self._cancel(rig, site, key)
        assert rig.executions(key) <= 1

    def test_a_key_submitted_again_after_its_end_does_not_run_again(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key)
        self._ended(rig, site, key)
        again = site.submit([rig.job(key)])[key]
        assert isinstance(again, Accepted)
        assert again.adopted
        assert self._ended(rig, site, key).state is JobState.SUCCEEDED
        assert rig.executions(key) == 1

    def test_a_key_twice_in_one_batch_runs_once(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        answers = site.submit([rig.job(key), rig.job(key)])
        assert isinstance(answers[key], (Accepted, Ticket))
        self._ended(rig, site, key)
        assert rig.executions(key) == 1

    def test_a_key_held_by_a_job_with_another_digest_is_not_adopted(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key, digest="d1")
        self._ended(rig, site, key)
        answer = site.submit([rig.job(key, digest="d2")])[key]
        assert isinstance(answer, Refused)
        assert key in answer.reason
        assert rig.executions(key) == 1

    def test_a_lost_reply_leaves_a_job_that_is_found_and_adopted(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        if not rig.lose_next_reply(site):
            pytest.skip("this rig cannot lose a reply: the call does not leave the process")
        assert _is_doubtful(lambda: site.submit([rig.job(key, seconds=600)])[key])
        rig.wait_until(lambda: len(site.find([key]).items) == 1, within=self.within)
        again = site.submit([rig.job(key, seconds=600)])[key]
        assert isinstance(again, Accepted)
        assert again.adopted
        assert len(site.find([key]).items) == 1

    def test_an_unknown_key_is_absent_from_a_complete_listing(self, rig: SiteRig) -> None:
        site, known, unknown = rig.connect(), new_key(), new_key()
        self._submit(rig, site, known, seconds=600)
        for listing in (site.find([known, unknown]), site.status([known, unknown])):
            assert listing.complete
            assert {item.key for item in listing.items} == {known}

    def test_all_jobs_are_listed_the_ended_too(self, rig: SiteRig) -> None:
        site, ended, living = rig.connect(), new_key(), new_key()
        self._submit(rig, site, ended)
        self._submit(rig, site, living, seconds=600)
        self._ended(rig, site, ended)
        listing = site.list_mine(0)
        assert listing.complete
        assert {ended, living} <= {item.key for item in listing.items}

    def test_jobs_that_ended_long_ago_may_be_left_out_but_no_living_one(self, rig: SiteRig) -> None:
        site, living = rig.connect(), new_key()
        self._submit(rig, site, living, seconds=600)
        as_of = site.status([living]).as_of
        assert living in {item.key for item in site.list_mine(as_of).items}

    def test_a_batch_is_answered_key_by_key(self, rig: SiteRig) -> None:
        site, keys = rig.connect(), [new_key() for _ in range(12)]
        answers = site.submit([rig.job(key) for key in keys])
        assert set(answers) == set(keys)
        for key in keys:
            assert isinstance(answers[key], (Accepted, Ticket))
            assert self._ended(rig, site, key).state is JobState.SUCCEEDED
        assert {item.key for item in site.status(keys).items} == set(keys)
        assert [rig.executions(key) for key in keys] == [1] * len(keys)

    def test_an_unfit_job_in_a_batch_does_not_hold_up_the_others(self, rig: SiteRig) -> None:
        site, good, bad = rig.connect(), new_key(), new_key()
        answers = site.submit([replace(rig.job(bad), directory="../outside"), rig.job(good)])
        assert isinstance(answers[bad], Refused)
        assert isinstance(answers[good], (Accepted, Ticket))
        assert self._ended(rig, site, good).state is JobState.SUCCEEDED

    def test_empty_batches_are_fine(self, rig: SiteRig) -> None:
        site = rig.connect()
        assert dict(site.submit([])) == {}
        assert site.find([]).complete
        assert not site.status([]).items
        assert dict(site.cancel([])) == {}

    def test_the_jobs_files_are_there_when_it_is_accepted(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        job = rig.job(key, seconds=600)
        extra = SmallFile(path="notes/a b $(c).txt", content=b"\x00\xffwords\n")
        site.submit([replace(job, files=(*job.files, extra))])
        assert site.read(f"{job.directory}/{extra.path}") == extra.content

    @pytest.mark.parametrize("path", UNSAFE_PATHS)
    @pytest.mark.parametrize("where", ["directory", "entry", "file"])
    def test_a_job_with_an_unsafe_path_is_refused_and_leaves_nothing(self, rig: SiteRig, where: str, path: str) -> None:
        site, key = rig.connect(), new_key()
        job = rig.job(key)
        spoiled = {
            "directory": replace(job, directory=path),
            "entry": replace(job, entry=path),
            "file": replace(job, files=(*job.files, SmallFile(path=path, content=b"x"))),
        }[where]
        answer = site.submit([spoiled])[key]
        assert isinstance(answer, Refused)
        assert answer.reason
        assert not site.find([key]).items
        assert rig.executions(key) == 0

    def test_a_canceled_job_ends_and_is_canceled(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key, seconds=600)
        self._cancel(rig, site, key)
        assert self._ended(rig, site, key).state is JobState.CANCELED

    def test_canceling_again_is_harmless(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        self._submit(rig, site, key, seconds=600)
        self._cancel(rig, site, key)
        assert site.cancel([key])[key]
        assert self._ended(rig, site, key).state is JobState.CANCELED

    def test_canceling_an_ended_job_changes_nothing(self, rig: SiteRig) -> None:
        site, good, bad = rig.connect(), new_key(), new_key()
        self._submit(rig, site, good)
        self._submit(rig, site, bad, exit_code=5)
        before = [self._ended(rig, site, key) for key in (good, bad)]
        assert site.cancel([good, bad]) == {good: True, bad: True}
        assert [self._ended(rig, site, key) for key in (good, bad)] == before

    def test_canceling_an_unknown_key_is_done_at_once(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        assert site.cancel([key]) == {key: True}
        assert rig.executions(key) == 0

    def test_canceling_one_job_leaves_the_others_alone(self, rig: SiteRig) -> None:
        site, doomed, other = rig.connect(), new_key(), new_key()
        self._submit(rig, site, doomed, seconds=600)
        self._submit(rig, site, other, seconds=600)
        self._cancel(rig, site, doomed)
        assert not _only(site.status([other]).items).state.final

    def test_a_new_connector_object_finds_the_jobs_again(self, rig: SiteRig) -> None:
        key = new_key()
        first = self._submit(rig, rig.connect(), key, seconds=600)
        site = rig.connect()
        assert _only(site.find([key]).items).native_id == first.native_id
        again = site.submit([rig.job(key, seconds=600)])[key]
        assert isinstance(again, Accepted)
        assert again.adopted
        self._cancel(rig, site, key)
        assert self._ended(rig, site, key).state is JobState.CANCELED

    def test_a_new_connector_object_learns_how_a_job_ended(self, rig: SiteRig) -> None:
        key = new_key()
        self._submit(rig, rig.connect(), key, exit_code=6)
        status = self._ended(rig, rig.connect(), key)
        assert (status.state, status.exit_code) == (JobState.FAILED, 6)

    # -- helpers ---------------------------------------------------------------------------------------

    def _submit(
        self, rig: SiteRig, site: Site, key: str, *, seconds: float = 0.0, exit_code: int = 0, digest: str = "d1"
    ) -> JobStatus:
        """Submit and wait until the site shows the job."""
        answer = site.submit([rig.job(key, seconds=seconds, exit_code=exit_code, digest=digest)])[key]
        assert isinstance(answer, (Accepted, Ticket)), answer
        rig.wait_until(lambda: bool(site.find([key]).items), within=self.within)
        status = _only(site.find([key]).items)
        if isinstance(answer, Accepted):
            assert not answer.adopted
            assert answer.native_id == status.native_id
        return status

    def _ended(self, rig: SiteRig, site: Site, key: str) -> JobStatus:
        rig.wait_until(lambda: all(item.state.final for item in site.status([key]).items), within=self.within)
        return _only(site.status([key]).items)

    def _cancel(self, rig: SiteRig, site: Site, key: str) -> None:
        rig.wait_until(lambda: site.cancel([key])[key], within=self.within)


_VERBS: dict[str, Callable[[Site, JobSpec], object]] = {
    "submit": lambda site, job: site.submit([job]),
    "find": lambda site, job: site.find([job.key]),
    "status": lambda site, job: site.status([job.key]),
    "list_mine": lambda site, _: site.list_mine(0),
    "cancel": lambda site, job: site.cancel([job.key]),
    "read": lambda site, _: site.read("some/file"),
    "read_many": lambda site, _: site.read_many(["some/file"]),
    "write": lambda site, _: site.write("some/file", b"new"),
    "list": lambda site, _: site.list("some"),
    "digests": lambda site, _: site.digests(["some/file"]),
    "remove": lambda site, _: site.remove(["some/file"]),
}


class DarknessContract:
    """A site that cannot be asked is never taken for one that has nothing."""

    within = 30.0

    @pytest.mark.parametrize("verb", sorted(_VERBS))
    @pytest.mark.parametrize("fresh", [False, True], ids=["known", "fresh"])
    def test_a_dark_site_is_unreachable_by_every_verb(self, rig: SiteRig, verb: str, fresh: bool) -> None:
        site, key = rig.connect(), new_key()
        site.write("some/file", b"old")
        site.status([key])
        rig.darken()
        asked = rig.connect() if fresh else site
        with pytest.raises(SiteUnreachable) as caught:
            _VERBS[verb](asked, rig.job(key))
        assert caught.value.transient
        rig.brighten()
        assert asked.read("some/file") == b"old"
        assert asked.status([key]).complete

    def test_a_job_goes_on_in_the_dark_and_is_found_afterwards(self, rig: SiteRig) -> None:
        site, key = rig.connect(), new_key()
        site.submit([rig.job(key, seconds=0.3)])
        rig.darken()
        with pytest.raises(SiteUnreachable):
            site.status([key])
        rig.brighten()
        rig.wait_until(lambda: all(item.state.final for item in site.status([key]).items), within=self.within)
        assert _only(site.status([key]).items).state is JobState.SUCCEEDED
        assert rig.executions(key) == 1


class FilesContract:
    """Small files, and the walls around them."""

    def test_several_files_are_written_together(self, rig: SiteRig) -> None:
        site = rig.connect()
        files = [SmallFile(path=f"many/{i}/f {i}.bin", content=bytes([i, 0, 10, 255]), mode=0o600) for i in range(5)]
        site.write_many(files)
        site.write_many([replace(files[0], content=b"newer")])
        site.write_many([])
        found = site.read_many([file.path for file in files])
        assert found == {file.path: file.content for file in files} | {files[0].path: b"newer"}

    @pytest.mark.parametrize("path", UNSAFE_PATHS)
    def test_of_several_files_none_is_written_outside(self, rig: SiteRig, path: str) -> None:
        site = rig.connect()
        with pytest.raises(UnsafePath):
            site.write_many([SmallFile(path=path, content=b"x")])

    def test_what_was_written_is_read(self, rig: SiteRig) -> None:
        site, content = rig.connect(), bytes(range(256)) * 3
        site.write("deep/er/file.bin", content)
        assert site.read("deep/er/file.bin") == content
        site.write("deep/er/file.bin", b"")
        assert site.read("deep/er/file.bin") == b""

    def test_a_part_of_a_file_is_read(self, rig: SiteRig) -> None:
        site = rig.connect()
        site.write("f/digits", b"0123456789")
        assert site.read("f/digits", limit=4) == b"0123"
        assert site.read("f/digits", offset=4, limit=3) == b"456"
        assert site.read("f/digits", offset=-3) == b"789"
        assert site.read("f/digits", offset=-3, limit=2) == b"78"
        assert site.read("f/digits", offset=-99) == b"0123456789"
        assert site.read("f/digits", offset=99) == b""

    def test_an_absent_file_is_not_there(self, rig: SiteRig) -> None:
        site = rig.connect()
        site.write("f/file", b"x")
        for path in ("f/absent", "absent/file", "f/file/below"):
            with pytest.raises(NotThere):
                site.read(path)

    def test_a_folder_is_not_a_file(self, rig: SiteRig) -> None:
        site = rig.connect()
        site.write("f/file", b"x")
        with pytest.raises((NotThere, UnsafePath)):
            site.read("f")

    def test_many_files_are_read_and_missing_ones_left_out(self, rig: SiteRig) -> None:
        site = rig.connect()
        site.write("f/a", b"A")
        site.write("f/b", b"BBBB")
        assert site.read_many(["f/a", "f/absent", "f/b"], limit=2) == {"f/a": b"A", "f/b": b"BB"}
        assert site.read_many([]) == {}

    def test_a_folder_is_listed_by_path(self, rig: SiteRig) -> None:
        site = rig.connect()
        for path in ("l/b", "l/a", "l/sub/c"):
            site.write(path, b"12345")
        flat = site.list("l")
        assert [(info.path, info.is_dir) for info in flat] == [("l/a", False), ("l/b", False), ("l/sub", True)]
        assert flat[0].size == 5
        files = [info.path for info in site.list("l", recursive=True) if not info.is_dir]
        assert files == ["l/a", "l/b", "l/sub/c"]

    def test_an_absent_folder_is_empty(self, rig: SiteRig) -> None:
        site = rig.connect()
        assert list(site.list("no/such/folder")) == []
        assert list(site.list("no/such/folder", recursive=True)) == []

    def test_digests_are_those_of_the_contents(self, rig: SiteRig) -> None:
        site, content = rig.connect(), b"words" * 100_000
        site.write("d/big", content)
        site.write("d/empty", b"")
        assert site.digests(["d/big", "d/absent", "d/empty"]) == {
            "d/big": (len(content), hashlib.sha256(content).hexdigest()),
            "d/empty": (0, hashlib.sha256(b"").hexdigest()),
        }

    def test_files_are_removed_and_absent_ones_are_fine(self, rig: SiteRig) -> None:
        site = rig.connect()
        site.write("r/a", b"x")
        site.write("r/b", b"x")
        site.remove(["r/a", "r/absent", "absent/a", "r/b/below"])
        assert [info.path for info in site.list("r")] == ["r/b"]

    @pytest.mark.parametrize("path", UNSAFE_PATHS)
    @pytest.mark.parametrize("verb", ["read", "read_many", "write", "list", "digests", "remove"])
    def test_an_unsafe_path_is_refused_by_every_verb(self, rig: SiteRig, verb: str, path: str) -> None:
        site = rig.connect()
        calls: dict[str, Callable[[], object]] = {
            "read": lambda: site.read(path),
            "read_many": lambda: site.read_many([path]),
            "write": lambda: site.write(path, b"x"),
            "list": lambda: site.list(path),
            "digests": lambda: site.digests([path]),
            "remove": lambda: site.remove([path]),
        }
        with pytest.raises(UnsafePath):
            calls[verb]()


class HealthContract:
    """Evidence, also of the bad."""

    def test_a_probe_of_a_healthy_site_has_only_good_news(self, rig: SiteRig) -> None:
        site = rig.connect()
        evidence = site.probe()
        assert evidence
        for item in evidence:
            assert item.site == site.name
            assert item.capability in CAPABILITIES
            assert item.ok, item
            assert item.latency >= 0

    def test_a_probe_of_a_dark_site_says_so_and_does_not_raise(self, rig: SiteRig) -> None:
        site = rig.connect()
        rig.darken()
        bad = [item for item in site.probe() if not item.ok]
        rig.brighten()
        assert bad
        assert all(item.detail for item in bad)


class SiteContract(ComputeContract, DarknessContract, FilesContract, HealthContract):
    """All of it."""


class MoverContract:
    """Files arrive whole and once, or not at all, and whose fault that was is told."""

    within = 30.0

    def test_a_mover_is_one(self, rig: MoverRig) -> None:
        assert isinstance(rig.connect(), Mover)

    def test_a_file_arrives(self, rig: MoverRig) -> None:
        content = bytes(range(256)) * 50
        rig.put(rig.source, "from/a.bin", content)
        item = TransferItem(
            source="from/a.bin",
            destination="to/deep/b.bin",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
        status = self._moved(rig, [item])
        assert status.state is TransferState.SUCCEEDED, status
        assert status.bytes_moved == len(content)
        assert rig.get(rig.destination, "to/deep/b.bin") == content

    def test_a_large_file_arrives(self, rig: MoverRig) -> None:
        content = b"0123456789abcdef" * (5 << 16)
        rig.put(rig.source, "from/large", content)
        assert self._moved(rig, [_item("from/large", "to/large")]).state is TransferState.SUCCEEDED
        assert rig.get(rig.destination, "to/large") == content

    def test_an_empty_file_arrives(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/empty", b"")
        assert self._moved(rig, [_item("from/empty", "to/empty")]).state is TransferState.SUCCEEDED
        assert rig.get(rig.destination, "to/empty") == b""

    def test_a_folder_arrives_with_all_below_it(self, rig: MoverRig) -> None:
        contents = {"a": b"A", "sub/b": b"B", "sub/sub/c": b"C" * 1000}
        for path, content in contents.items():
            rig.put(rig.source, f"from/{path}", content)
        rig.put(rig.source, "from-elsewhere/d", b"D")
        assert self._moved(rig, [_item("from/", "to/")]).state is TransferState.SUCCEEDED
        assert {path: rig.get(rig.destination, f"to/{path}") for path in contents} == contents
        assert rig.get(rig.destination, "to/d") is None

    def test_a_file_that_is_there_already_is_replaced(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/a", b"new")
        rig.put(rig.destination, "to/a", b"old and longer")
        assert self._moved(rig, [_item("from/a", "to/a")]).state is TransferState.SUCCEEDED
        assert rig.get(rig.destination, "to/a") == b"new"

    def test_a_missing_source_fails_the_whole_and_publishes_nothing(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/a", b"A")
        status = self._moved(rig, [_item("from/a", "to/a"), _item("from/absent", "to/b")])
        assert status.state is TransferState.FAILED
        assert status.fault == "staging"
        assert status.site == rig.source
        assert "from/absent" in status.reason
        assert rig.get(rig.destination, "to/a") is None

    @pytest.mark.parametrize("wrong", ["size", "sha256"])
    def test_a_file_that_is_not_what_was_promised_is_not_published(self, rig: MoverRig, wrong: str) -> None:
        rig.put(rig.source, "from/a", b"damaged")
        right = _item("from/a", "to/a")
        item = replace(right, size=6) if wrong == "size" else replace(right, sha256="0" * 64)
        status = self._moved(rig, [item])
        assert status.state is TransferState.FAILED
        assert status.fault == "staging"
        assert "corrupt" in status.reason
        assert rig.get(rig.destination, "to/a") is None

    @pytest.mark.parametrize("wrong", ["missing", "size", "sha256", "folder"])
    def test_of_several_files_exactly_the_one_at_fault_is_named(self, rig: MoverRig, wrong: str) -> None:
        for name in "abc":
            rig.put(rig.source, f"from/{name}", name.encode())
        first, second, third = (_item(f"from/{name}", f"to/{name}") for name in "abc")
        bad = {
            "missing": _item("from/absent", "to/b"),
            "size": replace(second, size=7),
            "sha256": replace(second, sha256="0" * 64),
            "folder": _item("from/absent/", "to/b/"),
        }[wrong]
        status = self._moved(rig, [first, bad, third])
        assert status.state is TransferState.FAILED
        assert list(status.bad_items) == [bad.source]
        assert status.reason.startswith(MISSING) == (wrong in {"missing", "folder"})

    def test_a_key_asked_for_twice_moves_once(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/a", b"first")
        mover, transfer = rig.connect(), _transfer(rig, [_item("from/a", "to/a")])
        self._settled(rig, mover, transfer)
        rig.put(rig.source, "from/a", b"second")
        assert self._settled(rig, mover, transfer).state is TransferState.SUCCEEDED
        assert rig.get(rig.destination, "to/a") == b"first"

    def test_an_unknown_key_is_unknown(self, rig: MoverRig) -> None:
        key = new_key()
        assert rig.connect().status([key])[key].state is TransferState.UNKNOWN

    def test_after_a_restart_the_same_key_leads_to_the_same_end(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/a", b"A")
        transfer = _transfer(rig, [_item("from/a", "to/a")])
        self._settled(rig, rig.connect(), transfer)
        mover = rig.connect()
        assert mover.status([transfer.key])[transfer.key].state in {
            TransferState.SUCCEEDED,
            TransferState.UNKNOWN,
        }
        assert self._settled(rig, mover, transfer).state is TransferState.SUCCEEDED
        assert rig.get(rig.destination, "to/a") == b"A"

    def test_a_failed_key_may_be_asked_for_again(self, rig: MoverRig) -> None:
        mover, transfer = rig.connect(), _transfer(rig, [_item("from/late", "to/late")])
        assert self._settled(rig, mover, transfer).state is TransferState.FAILED
        rig.put(rig.source, "from/late", b"L")
        assert self._settled(rig, mover, transfer).state is TransferState.SUCCEEDED
        assert rig.get(rig.destination, "to/late") == b"L"

    def test_a_batch_is_answered_key_by_key(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/a", b"A")
        good, bad = (_transfer(rig, [_item(f"from/{name}", f"to/{name}")]) for name in ("a", "absent"))
        mover = rig.connect()
        assert set(mover.submit([good, bad])) == {good.key, bad.key}
        assert self._settled(rig, mover, good).state is TransferState.SUCCEEDED
        assert set(mover.status([good.key, bad.key])) == {good.key, bad.key}

    def test_canceling_what_is_done_or_unknown_is_done_at_once(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/a", b"A")
        mover, transfer, unknown = rig.connect(), _transfer(rig, [_item("from/a", "to/a")]), new_key()
        self._settled(rig, mover, transfer)
        assert mover.cancel([transfer.key, unknown]) == {transfer.key: True, unknown: True}
        assert rig.get(rig.destination, "to/a") == b"A"

    def test_canceling_under_way_ends_it_one_way_or_the_other(self, rig: MoverRig) -> None:
        rig.put(rig.source, "from/large", b"x" * (24 << 20))
        mover, transfer = rig.connect(), _transfer(rig, [_item("from/large", "to/large")])
        mover.submit([transfer])
        rig.wait_until(lambda: mover.cancel([transfer.key])[transfer.key], within=self.within)
        status = mover.status([transfer.key])[transfer.key]
        arrived = rig.get(rig.destination, "to/large")
        assert (status.state is TransferState.SUCCEEDED) == (arrived is not None)

    @pytest.mark.parametrize("path", UNSAFE_PATHS)
    @pytest.mark.parametrize("side", ["source", "destination"])
    def test_an_unsafe_path_is_refused(self, rig: MoverRig, side: str, path: str) -> None:
        rig.put(rig.source, "from/a", b"A")
        right = _item("from/a", "to/a")
        item = replace(right, source=path) if side == "source" else replace(right, destination=path)
        transfer = _transfer(rig, [item])
        assert isinstance(rig.connect().submit([transfer])[transfer.key], Refused)
        assert rig.get(rig.destination, "to/a") is None

    @pytest.mark.parametrize("side", ["source", "destination"])
    def test_a_dark_side_fails_the_transfer_and_is_named(self, rig: MoverRig, side: str) -> None:
        rig.put(rig.source, "from/a", b"A")
        mover = rig.connect()
        dark = rig.source if side == "source" else rig.destination
        rig.darken(dark)
        transfer = _transfer(rig, [_item("from/a", "to/a")])
        status = self._settled(rig, mover, transfer)
        assert status.state is TransferState.FAILED
        assert (status.fault, status.site) == ("site", dark)

    # -- helpers ---------------------------------------------------------------------------------------

    def _moved(self, rig: MoverRig, items: Sequence[TransferItem]) -> TransferStatus:
        return self._settled(rig, rig.connect(), _transfer(rig, items))

    def _settled(self, rig: MoverRig, mover: Mover, transfer: Transfer) -> TransferStatus:
        """Ask for it and wait for its end."""
        answer = mover.submit([transfer])[transfer.key]
        assert isinstance(answer, (Accepted, Ticket)), answer

        def settled() -> bool:
            return mover.status([transfer.key])[transfer.key].state is not TransferState.ACTIVE

        rig.wait_until(settled, within=self.within)
        return mover.status([transfer.key])[transfer.key]


def _is_doubtful(submit: Callable[[], SubmitAnswer]) -> bool:
    """Does it say that the job may or may not be there?"""
    try:
        return isinstance(submit(), Doubtful)
    except SiteError as error:
        return error.effect_possible


def _item(source: str, destination: str) -> TransferItem:
    return TransferItem(source=source, destination=destination)


def _transfer(rig: MoverRig, items: Sequence[TransferItem]) -> Transfer:
    return Transfer(key=new_key(), source_site=rig.source, destination_site=rig.destination, items=tuple(items))


def _only(items: Sequence[JobStatus]) -> JobStatus:
    assert len(items) == 1, items
    return items[0]
