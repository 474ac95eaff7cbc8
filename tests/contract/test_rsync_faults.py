"""The rsync mover when lines break, disks are full, names are hostile and files change: through a real sshd."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_kit import SshServer
from rsync_kit import FAR, NEAR, RsyncRig, item, now, server

from connectors.model import Refused, Transfer, TransferState, TransferStatus
from connectors.rsync import RsyncMover
from connectors.rsync.courier import Courier
from connectors.rsync.program import Progress, Run

BIG = 24 << 20


@pytest.fixture(scope="module")
def ssh() -> Iterator[SshServer]:
    with server() as started:
        yield started


@pytest.fixture
def up(tmp_path: Path, ssh: SshServer) -> Iterator[RsyncRig]:
    rig = RsyncRig(tmp_path, ssh, upload=True)
    yield rig
    rig.end()


@pytest.fixture
def down(tmp_path: Path, ssh: SshServer) -> Iterator[RsyncRig]:
    rig = RsyncRig(tmp_path, ssh, upload=False)
    yield rig
    rig.end()


@pytest.fixture(params=["up", "down"])
def rig(request: pytest.FixtureRequest) -> RsyncRig:
    found: RsyncRig = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of files that each run of rsync has sent over the line."""
    counts: list[int] = []
    honest = Run.go

    def go(self: Run, paths: list[str], *, progress: Progress, **more: object) -> None:
        try:
            honest(self, paths, progress=progress, **more)  # type: ignore[arg-type]
        finally:
            counts.append(progress.sent)

    monkeypatch.setattr(Run, "go", go)
    return counts


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that nothing can shorten."""
    return b"".join(hashlib.sha256(f"{seed}.{n}".encode()).digest() for n in range(size // 32))


def half_way(rig: RsyncRig, mover: RsyncMover, transfer: Transfer, *, at: int = 4 << 20) -> None:
    mover.submit([transfer])
    rig.wait_until(lambda: mover.status([transfer.key])[transfer.key].bytes_moved >= at, within=30)


def failed(status: TransferStatus) -> tuple[TransferState, str, str]:
    return status.state, status.fault, status.site


# -- what breaks off ----------------------------------------------------------------------------------------


def test_a_line_that_breaks_in_the_middle_is_gone_on_with_from_there(rig: RsyncRig, sent: list[int]) -> None:
    content = noise(BIG)
    rig.put(rig.source, "from/a", content)
    transfer = rig.transfer(item())
    mover = rig.connect(bwlimit="8m")
    half_way(rig, mover, transfer)
    rig.hang_up()
    rig.settle(mover, transfer.key)
    status = mover.status([transfer.key])[transfer.key]
    assert failed(status) == (TransferState.FAILED, "site", FAR), status
    assert rig.get(rig.destination, "to/a") is None
    again = rig.carry(rig.connect(), transfer)
    assert again.state is TransferState.SUCCEEDED, again
    assert again.bytes_moved == len(content)
    assert rig.get(rig.destination, "to/a") == content
    assert sent[-1] < len(content) - (2 << 20), "the first half was not sent again"


def test_a_line_that_breaks_is_tried_again_by_itself_and_that_is_told(rig: RsyncRig) -> None:
    content = noise(BIG)
    rig.put(rig.source, "from/a", content)
    transfer = rig.transfer(item())
    mover = rig.connect(bwlimit="12m", pauses=[0.1, 0.5, 1.0])
    half_way(rig, mover, transfer)
    rig.hang_up()
    rig.settle(mover, transfer.key)
    status = mover.status([transfer.key])[transfer.key]
    assert status.state is TransferState.SUCCEEDED, status
    assert status.faults >= 1
    assert rig.get(rig.destination, "to/a") == content


def test_files_that_had_arrived_whole_are_not_sent_again(up: RsyncRig, sent: list[int]) -> None:
    for n in range(8):
        up.put(NEAR, f"from/{n}", noise(2 << 20, n))
    mover, transfer = up.connect(bwlimit="6m"), up.transfer(item("from/", "to/"))
    half_way(up, mover, transfer, at=6 << 20)
    mover.close()
    assert up.carry(up.connect(), transfer).state is TransferState.SUCCEEDED
    assert sent[-1] <= 14 << 20
    assert all(up.get(FAR, f"to/{n}") == noise(2 << 20, n) for n in range(8))


def test_progress_is_told_while_it_goes(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", noise(BIG))
    mover, transfer = rig.connect(bwlimit="12m"), rig.transfer(item())
    half_way(rig, mover, transfer, at=1)
    first = mover.status([transfer.key])[transfer.key].bytes_moved
    rig.wait_until(lambda: mover.status([transfer.key])[transfer.key].bytes_moved > first, within=30)
    assert mover.status([transfer.key])[transfer.key].state is TransferState.ACTIVE
    mover.cancel([transfer.key])


def test_a_canceled_one_has_ended_at_both_ends_when_that_is_said(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", noise(BIG))
    mover, transfer = rig.connect(bwlimit="2m"), rig.transfer(item())
    half_way(rig, mover, transfer, at=1)
    rig.wait_until(lambda: mover.cancel([transfer.key])[transfer.key], within=20)
    status = mover.status([transfer.key])[transfer.key]
    assert (status.state, status.reason, status.fault) == (TransferState.FAILED, "canceled", "")
    assert rsyncs_in(rig.folder) == []
    assert rig.names(rig.destination) == [], "what nobody wants takes no room"


def rsyncs_in(folder: Path) -> list[str]:
    """Processes named rsync that work below the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == "rsync" and str(folder) in os.readlink(process / "cwd"):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_what_brokers_have_left_behind_for_weeks_is_removed(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", b"A")
    for name, days in (("cfold", 15), ("cfyoung", 13)):
        rig.put(rig.destination, f"incoming/{name}/in-0123456789abcdef/from/x", b"half")
        rig.put(rig.destination, f"incoming/{name}/lock", b"")
        at = now() / 1e6 - days * 86_400
        os.utime(rig.path(rig.destination, f"incoming/{name}/in-0123456789abcdef"), (at, at))
    assert rig.carry(rig.connect(), rig.transfer(item())).state is TransferState.SUCCEEDED
    left = {path.name for path in rig.path(rig.destination, "incoming").iterdir()}
    assert left == {"cfrsync00000001.done", "cfyoung"}


def test_the_probe_for_processes_sees_one_that_works(up: RsyncRig) -> None:
    up.put(NEAR, "from/a", noise(BIG))
    mover, transfer = up.connect(bwlimit="2m"), up.transfer(item())
    half_way(up, mover, transfer, at=1)
    assert rsyncs_in(up.folder)
    mover.cancel([transfer.key])


def test_two_who_bring_the_same_do_not_write_over_each_other(up: RsyncRig) -> None:
    if shutil.which("flock") is None:
        pytest.skip("there is no flock here")
    up.put(NEAR, "from/a", noise(BIG))
    first, second, transfer = up.connect(bwlimit="4m"), up.connect(), up.transfer(item())
    half_way(up, first, transfer, at=1)
    status = up.carry(second, transfer)
    assert failed(status) == (TransferState.FAILED, "site", FAR)
    assert "another process" in status.reason
    up.settle(first, transfer.key)
    assert first.status([transfer.key])[transfer.key].state is TransferState.SUCCEEDED


def test_who_comes_while_another_one_puts_it_in_place_does_no_harm(
    up: RsyncRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    up.put(NEAR, "from/a", noise(1 << 20))
    transfer = up.transfer(item("from/", "to/"))
    quick: list[TransferStatus] = []

    def overtake() -> None:
        if not quick:
            quick.append(TransferStatus(key="", state=TransferState.ACTIVE))
            quick[0] = up.carry(up.connect(), transfer)

    after(monkeypatch, overtake)
    slow = up.connect()
    status = up.carry(slow, transfer)
    assert quick[0].state is TransferState.SUCCEEDED
    assert failed(status) == (TransferState.FAILED, "site", FAR), "which is asked for again"
    assert up.carry(slow, transfer).state is TransferState.SUCCEEDED
    assert up.get(FAR, "to/a") == noise(1 << 20)
    assert up.names(FAR) == ["incoming/cfrsync00000001.done", "to/a"]


def test_nothing_is_put_in_place_after_its_deadline(up: RsyncRig) -> None:
    up.put(NEAR, "from/a", b"A")
    status = up.carry(up.connect(), up.transfer(item(), deadline=now() - 1))
    assert (status.state, status.fault) == (TransferState.FAILED, "staging")
    assert "time" in status.reason
    assert up.get(FAR, "to/a") is None


# -- what is not as it should be ----------------------------------------------------------------------------


def test_a_source_that_changes_on_the_way_is_told_as_corrupt(rig: RsyncRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.put(rig.source, "from/a", b"before")
    after(monkeypatch, lambda: rig.put(rig.source, "from/a", b"and after"))
    status = rig.carry(rig.connect(), rig.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "staging", rig.source)
    assert "corrupt" in status.reason
    assert "changed" in status.reason
    assert rig.get(rig.destination, "to/a") is None


def test_what_is_damaged_after_its_arrival_is_put_in_no_place_and_brought_anew(
    rig: RsyncRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.put(rig.source, "from/a", b"whole")

    def damage() -> None:
        (arrived,) = rig.roots[rig.destination].glob("incoming/*/in-*/from/a")
        facts = arrived.stat()
        arrived.write_bytes(b"whale")
        os.utime(arrived, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # size and time are no help

    with monkeypatch.context() as patched:
        after(patched, damage)
        status = rig.carry(rig.connect(), rig.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "staging", rig.destination)
    assert "corrupt" in status.reason
    assert rig.names(rig.destination) == []
    assert rig.carry(rig.connect(), rig.transfer(item())).state is TransferState.SUCCEEDED
    assert rig.get(rig.destination, "to/a") == b"whole"


def after(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Do this between rsync's end and the look at both ends."""
    honest = Courier._bring

    def bring(self: Courier, *given: object) -> None:
        honest(self, *given)  # type: ignore[arg-type]
        do()

    monkeypatch.setattr(Courier, "_bring", bring)


def test_holes_arrive_as_holes(up: RsyncRig) -> None:
    content = b"begin" + bytes(8 << 20) + b"end"
    up.put(NEAR, "from/a", content)
    assert up.carry(up.connect(), up.transfer(item())).state is TransferState.SUCCEEDED
    assert up.get(FAR, "to/a") == content
    arrived = next(path for path in up.folder.rglob("to/a") if path.is_file())
    assert arrived.stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize(
    ("code", "words", "fault", "told"),
    [
        (11, 'rsync: [receiver] write failed on "a": No space left on device (28)', "quota", "no space"),
        (11, 'rsync: [receiver] write failed on "a": Disk quota exceeded (122)', "quota", "no space"),
        pytest.param(
            11,
            'rsync: [receiver] write failed on "a": File too large (27)',
            "quota",
            "too large",
            marks=pytest.mark.fault("F49"),
        ),
        (23, 'rsync: [receiver] mkstemp ".a.x" failed: Permission denied (13)', "staging", "Permission denied"),
        (23, 'rsync: [sender] link_stat "/x/a" failed: No such file or directory (2)', "staging", "source missing"),
        (24, "file has vanished: /x/a", "staging", "changed"),
        (1, "rsync: --secluded-args: unknown option", "site", "3.1 or newer"),
        (12, "rsync: connection unexpectedly closed (0 bytes received so far)", "site", "broke"),
        (30, "rsync error: timeout in data send/receive (code 30)", "site", "broke"),
    ],
)
def test_how_rsync_ends_and_what_it_says_is_understood(
    up: RsyncRig, monkeypatch: pytest.MonkeyPatch, code: int, words: str, fault: str, told: str
) -> None:
    up.put(NEAR, "from/a", b"A")
    fake = up.folder / "rsync"
    fake.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit {code}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{up.folder}:{os.environ['PATH']}")  # the server keeps its own
    status = up.carry(up.connect(), up.transfer(item()))
    assert (status.state, status.fault) == (TransferState.FAILED, fault), status
    assert told in status.reason
    assert up.get(FAR, "to/a") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk is mounted")
@pytest.mark.parametrize("upload", [True, False])
def test_a_full_disk_is_a_matter_of_quota(tmp_path: Path, ssh: SshServer, upload: bool) -> None:
    rig = RsyncRig(tmp_path, ssh, upload=upload)
    at = rig.roots[rig.destination]
    if os.system(f"mount -t tmpfs -o size=2m none {at} 2>/dev/null") != 0:
        rig.end()
        pytest.skip("nothing may be mounted here")
    try:
        (at / ".crossfade-site").write_text("0123456789abcdef\n")
        rig.put(rig.source, "from/a", noise(4 << 20))
        status = rig.carry(rig.connect(), rig.transfer(item()))
        assert failed(status) == (TransferState.FAILED, "quota", rig.destination), status
    finally:
        rig.end()
        os.system(f"umount -l {at}")


def test_a_host_that_does_not_let_us_in_is_a_matter_of_credentials(up: RsyncRig) -> None:
    up.put(NEAR, "from/a", b"A")
    authorized = up.ssh.folder / "authorized"
    keys = authorized.read_bytes()
    mover = up.connect()
    up.hang_up()
    authorized.write_bytes(b"")
    try:
        status = up.carry(mover, up.transfer(item()))
    finally:
        authorized.write_bytes(keys)
    assert failed(status) == (TransferState.FAILED, "credential", FAR)
    assert "crossfade login far" in status.reason


# -- who has no rsync ---------------------------------------------------------------------------------------


def test_a_site_without_rsync_is_told_once_and_then_refused_by_name(up: RsyncRig) -> None:
    up.put(NEAR, "from/a", b"A")
    mover, transfer = up.connect(rsync="/opt/nothing/rsync"), up.transfer(item())
    assert mover.refuses(transfer) == ""
    status = up.carry(mover, transfer)
    assert failed(status) == (TransferState.FAILED, "site", FAR)
    assert "no rsync at far" in status.reason
    assert "install" in mover.refuses(transfer)
    assert up.get(FAR, "to/a") is None


def test_without_rsync_here_everything_is_refused(up: RsyncRig, monkeypatch: pytest.MonkeyPatch) -> None:
    mover = up.connect()
    with monkeypatch.context() as patched:
        patched.setenv("PATH", "/nowhere")
        assert "no rsync on this machine" in mover.refuses(up.transfer(item()))
    assert mover.refuses(up.transfer(item())) == ""


@pytest.mark.parametrize(
    ("source", "destination", "told"),
    [
        (FAR, FAR, "both ends are elsewhere"),
        (NEAR, NEAR, "both ends are on this machine"),
        ("mars", NEAR, "mars is reached neither"),
    ],
)
def test_what_is_not_between_here_and_there_is_refused(up: RsyncRig, source: str, destination: str, told: str) -> None:
    transfer = Transfer(key="cfx", source_site=source, destination_site=destination, items=(item(),))
    mover = up.connect()
    assert told in mover.refuses(transfer)
    answer = mover.submit([transfer])["cfx"]
    assert isinstance(answer, Refused)
    assert told in answer.reason


# -- names --------------------------------------------------------------------------------------------------

NAMES = [
    "-e sh",
    "--delete",
    "two  words",
    "it's",
    'a "quote"',
    "$(touch hacked)",
    "`touch hacked`",
    ";touch hacked",
    "#comment",
    "*?[a]",
    "there:x",
    "~root",
    "näme-日本",
    ".hidden",
    "{a,b}",
    "%20&|<>!",
]


@pytest.mark.parametrize("as_folder", [True, False])
def test_names_that_a_shell_would_stumble_over_arrive_as_they_are(rig: RsyncRig, as_folder: bool) -> None:
    for n, name in enumerate(NAMES):
        rig.put(rig.source, f"from/{name}/{name}", str(n).encode())
    if as_folder:
        items = [item("from/", "to x/")]
    else:
        items = [item(f"from/{name}/{name}", f"to x/{name}/{name}") for name in NAMES]
    status = rig.carry(rig.connect(), rig.transfer(*items))
    assert status.state is TransferState.SUCCEEDED, status
    arrived = {name: rig.get(rig.destination, f"to x/{name}/{name}") for name in NAMES}
    assert arrived == {name: str(n).encode() for n, name in enumerate(NAMES)}
    assert not list(rig.folder.rglob("hacked"))
    assert not Path("hacked").exists()


def test_a_folder_with_a_name_of_two_lines_is_refused_whole(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", b"A")
    rig.put(rig.source, "from/two\nlines", b"B")
    status = rig.carry(rig.connect(), rig.transfer(item("from/", "to/")))
    assert failed(status) == (TransferState.FAILED, "staging", rig.source)
    assert "line end" in status.reason
    assert rig.names(rig.destination) == []


@pytest.mark.parametrize("kind", ["out", "folder", "gone"])
def test_links_that_lead_to_no_file_within_the_root_are_not_left_out_in_silence(rig: RsyncRig, kind: str) -> None:
    rig.put(rig.source, "from/a", b"A")
    (rig.folder / "secret").write_bytes(b"S")
    target = {"out": rig.folder / "secret", "folder": rig.path(rig.source, "from"), "gone": "nowhere"}[kind]
    rig.path(rig.source, "from/link").symlink_to(target)
    status = rig.carry(rig.connect(), rig.transfer(item("from/", "to/")))
    assert failed(status) == (TransferState.FAILED, "staging", rig.source)
    assert "link" in status.reason
    if kind == "out":
        assert isinstance(status.reason, str)
        alone = rig.carry(rig.connect(), rig.transfer(item("from/link", "to/a"), key="cfalone"))
        assert failed(alone) == (TransferState.FAILED, "staging", rig.source)
    assert rig.names(rig.destination) == []


def test_a_link_within_the_root_arrives_as_the_file_that_it_leads_to(rig: RsyncRig) -> None:
    rig.put(rig.source, "real/a", b"A")
    rig.path(rig.source, "from").mkdir()
    rig.path(rig.source, "from/link").symlink_to("../real/a")
    assert rig.carry(rig.connect(), rig.transfer(item("from/", "to/"))).state is TransferState.SUCCEEDED
    arrived = rig.path(rig.destination, "to/link")
    assert arrived.read_bytes() == b"A"
    assert not arrived.is_symlink()


def test_nothing_is_written_through_a_link_at_the_destination(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", b"A")
    outside = rig.folder / "outside"
    outside.mkdir()
    rig.path(rig.destination, "to").symlink_to(outside)
    status = rig.carry(rig.connect(), rig.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "staging", rig.destination)
    assert not list(outside.iterdir())


def test_a_pipe_in_a_folder_is_refused_and_not_waited_for(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", b"A")
    os.mkfifo(rig.path(rig.source, "from/pipe"))
    status = rig.carry(rig.connect(), rig.transfer(item("from/", "to/")))
    assert failed(status) == (TransferState.FAILED, "staging", rig.source)
    assert "neither a file nor a folder" in status.reason


# -- how it is put in place ---------------------------------------------------------------------------------


def test_only_the_receipt_stays_in_incoming(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", b"A")
    rig.carry(rig.connect(), rig.transfer(item()))
    assert rig.names(rig.destination) == ["incoming/cfrsync00000001.done", "to/a"]
    assert len(list(rig.path(rig.destination, "incoming").iterdir())) == 1


def test_a_folder_goes_into_one_that_is_there_already_and_empty_ones_travel_too(rig: RsyncRig) -> None:
    for name in ("new", "sub/both"):
        rig.put(rig.source, f"from/{name}", b"new")
    rig.path(rig.source, "from/empty/inner").mkdir(parents=True)
    for name in ("old", "sub/both"):
        rig.put(rig.destination, f"to/{name}", b"old")
    assert rig.carry(rig.connect(), rig.transfer(item("from/", "to/"))).state is TransferState.SUCCEEDED
    contents = {name: rig.get(rig.destination, f"to/{name}") for name in ("new", "sub/both", "old")}
    assert contents == {"new": b"new", "sub/both": b"new", "old": b"old"}
    assert rig.path(rig.destination, "to/empty/inner").is_dir()


def test_one_file_may_go_to_several_places_with_modes_of_their_own(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", b"A")
    rig.path(rig.source, "from/a").chmod(0o4755)
    items = (item(), item(destination="to/b", mode=0o640), item("from/", "all/"))
    assert rig.carry(rig.connect(), rig.transfer(*items)).state is TransferState.SUCCEEDED
    modes = {name: rig.path(rig.destination, name).stat().st_mode & 0o7777 for name in ("to/a", "to/b", "all/a")}
    assert modes == {"to/a": 0o755, "to/b": 0o640, "all/a": 0o755}


def test_what_a_former_try_has_left_does_not_slip_into_a_folder(up: RsyncRig, monkeypatch: pytest.MonkeyPatch) -> None:
    up.put(NEAR, "from/a", b"A")
    up.put(NEAR, "from/b", b"B")

    def die() -> None:
        raise RuntimeError("the broker was killed")

    with monkeypatch.context() as patched:
        after(patched, die)
        assert up.carry(up.connect(), up.transfer(item("from/", "to/"))).state is TransferState.FAILED
    assert len([name for name in up.names(FAR) if "from/b" in name]) == 1
    up.path(NEAR, "from/b").unlink()
    assert up.carry(up.connect(), up.transfer(item("from/", "to/"))).state is TransferState.SUCCEEDED
    assert [name for name in up.names(FAR) if not name.startswith("incoming/")] == ["to/a"]


def test_a_key_of_another_transfer_is_not_taken_for_done(rig: RsyncRig) -> None:
    rig.put(rig.source, "from/a", b"A")
    assert rig.carry(rig.connect(), rig.transfer(item())).state is TransferState.SUCCEEDED
    status = rig.carry(rig.connect(), rig.transfer(item(destination="to/b")))
    assert status.state is TransferState.FAILED
    assert "another transfer" in status.reason


def test_a_thousand_files_take_as_many_calls_as_one(up: RsyncRig) -> None:
    def calls(transfer: Transfer) -> int:
        log = up.ssh.folder / "sshd.log"
        before = len(re.findall(rb"Starting session", log.read_bytes()))
        status = up.carry(up.connect(), transfer)
        assert status.state is TransferState.SUCCEEDED, status
        return len(re.findall(rb"Starting session", log.read_bytes())) - before

    for n in range(400):
        up.put(NEAR, f"many/{n}", b"x")
    assert calls(up.transfer(item("many/", "many/"), key="cfmany")) <= 6
