"""The copy mover when something goes wrong half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.copy import CopyMover
from connectors.copy.courier import Courier
from connectors.errands import Canceled, TransferFailure
from connectors.errors import Fault, SiteUnreachable
from connectors.folders.failure import destination_side, source_side
from connectors.model import Accepted, Refused, Transfer, TransferItem, TransferState, TransferStatus

REPOSITORY = Path(__file__).parents[2]
KEY = "cfcopy0000000001"


def now() -> int:
    return time.time_ns() // 1000


class Places:
    """Two roots and the movers between them."""

    def __init__(self, folder: Path) -> None:
        self.east, self.west = folder / "east", folder / "west"
        self.east.mkdir()
        self.west.mkdir()
        self.movers: list[CopyMover] = []

    def mover(self, **roots: object) -> CopyMover:
        self.movers.append(CopyMover({"east": self.east, "west": self.west, **roots}, now))
        return self.movers[-1]


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    places = Places(tmp_path)
    yield places
    for mover in places.movers:
        mover.close()


def transfer(*items: tuple[str, str], key: str = KEY, **facts: object) -> Transfer:
    spelled = tuple(TransferItem(source=source, destination=to, **facts) for source, to in items)
    return Transfer(key=key, source_site="east", destination_site="west", items=spelled)


def settle(mover: CopyMover, wanted: Transfer) -> TransferStatus:
    answer = mover.submit([wanted])[wanted.key]
    assert isinstance(answer, Accepted), answer
    deadline = time.monotonic() + 20
    while (status := mover.status([wanted.key])[wanted.key]).state is TransferState.ACTIVE:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    return status


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


# -- small and large -----------------------------------------------------------------------------------


def test_a_small_transfer_is_done_when_submit_returns(places):
    (places.east / "a").write_bytes(b"A")
    mover = places.mover()
    mover.submit([transfer(("a", "b"))])
    assert mover.status([KEY])[KEY].state is TransferState.SUCCEEDED


def test_only_the_receipt_stays_in_incoming(places):
    (places.east / "a").write_bytes(b"A")
    settle(places.mover(), transfer(("a", "b")))
    assert names(places.west) == ["b", f"incoming/{KEY}.done"]
    assert [path.name for path in (places.west / "incoming").iterdir()] == [f"{KEY}.done"]


def test_an_executable_stays_one_and_a_given_mode_wins(places):
    for name in ("tool", "data"):
        (places.east / name).write_bytes(b"x")
        (places.east / name).chmod(0o4755)
    mover = places.mover()
    settle(mover, transfer(("tool", "tool")))
    settle(mover, transfer(("data", "data"), key="cfmode", mode=0o640))
    assert (places.west / "tool").stat().st_mode & 0o7777 == 0o755
    assert (places.west / "data").stat().st_mode & 0o7777 == 0o640


def test_a_folder_goes_into_one_that_is_there_already(places):
    for name in ("new", "sub/both"):
        (places.east / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (places.east / "from" / name).write_bytes(b"east")
    (places.east / "from" / "empty").mkdir()
    (places.west / "to" / "sub").mkdir(parents=True)
    for name in ("old", "sub/both"):
        (places.west / "to" / name).write_bytes(b"west")
    assert settle(places.mover(), transfer(("from/", "to"))).state is TransferState.SUCCEEDED
    contents = {name: (places.west / "to" / name).read_bytes() for name in names(places.west / "to")}
    assert contents == {"new": b"east", "sub/both": b"east", "old": b"west"}
    assert (places.west / "to" / "empty").is_dir()


def test_a_folder_without_its_slash_is_refused_in_words(places):
    (places.east / "from").mkdir()
    status = settle(places.mover(), transfer(("from", "to")))
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "east")
    assert "not a regular file" in status.reason


# -- damage --------------------------------------------------------------------------------------------


def carry(places: Places, wanted: Transfer, *, on_bytes=lambda count: None) -> None:
    courier = Courier(
        wanted,
        source=source_side("east", places.east),
        destination=destination_side("west", places.west),
        stop=threading.Event(),
    )
    courier.carry(progress=on_bytes, at=now)


@pytest.mark.parametrize("change", ["grown", "shrunk", "rewritten"])
def test_a_source_changed_while_it_is_read_is_noticed(places, change):
    file = places.east / "a"
    file.write_bytes(b"x" * (3 << 20))

    def disturb(_: int) -> None:
        if change == "grown":
            with file.open("ab") as more:
                more.write(b"more")
        elif change == "shrunk":
            os.truncate(file, 1 << 20)
        else:
            with file.open("r+b") as other:
                other.write(b"other")

    with pytest.raises(TransferFailure, match="changed while") as caught:
        carry(places, transfer(("a", "b")), on_bytes=disturb)
    assert (caught.value.fault, caught.value.site) == (Fault.STAGING, "east")
    assert names(places.west) == []


def test_a_destination_damaged_before_it_was_verified_is_noticed(places):
    (places.east / "a").write_bytes(b"x" * (2 << 20))

    def damage(_: int) -> None:
        (staged,) = (places.west / "incoming" / KEY).glob("*/0")
        with staged.open("r+b") as file:
            file.write(b"bit rot")

    with pytest.raises(TransferFailure, match="did not arrive intact") as caught:
        carry(places, transfer(("a", "b")), on_bytes=damage)
    assert caught.value.site == "west"
    assert names(places.west) == []


def test_a_destination_renamed_away_meanwhile_gets_no_receipt(places):
    (places.east / "a").write_bytes(b"x")
    away = places.west.with_name("away")
    with pytest.raises(TransferFailure, match="gone") as caught:
        carry(places, transfer(("a", "b")), on_bytes=lambda _: places.west.rename(away))
    assert (caught.value.fault, caught.value.site) == (Fault.SITE, "west")
    assert names(away) == []


def test_a_source_site_that_says_it_is_dark_is_named(places):
    def dark() -> Path:
        raise SiteUnreachable("no answer", site="east")

    status = settle(places.mover(east=dark), transfer(("a", "b")))
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "site", "east")


def test_a_full_destination_is_a_quota(places):
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(places.west)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        (places.east / "a").write_bytes(b"x" * 500_000)
        status = settle(places.mover(), transfer(("a", "b")))
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "quota", "west")
        assert names(places.west) == []
    finally:
        subprocess.run(["umount", str(places.west)], check=True)


# -- traps ---------------------------------------------------------------------------------------------


def test_a_link_that_leaves_the_source_is_not_followed(places, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    (places.east / "from").mkdir()
    os.symlink(tmp_path / "secret", places.east / "from" / "trap")
    mover = places.mover()
    for number, items in enumerate([("from/", "to/"), ("from/trap", "to")]):
        status = settle(mover, transfer(items, key=f"cftrap{number}"))
        assert (status.state, status.fault, status.site) == (TransferState.FAILED, "staging", "east")
    assert names(places.west) == []


def test_a_link_that_stays_in_the_source_arrives_as_what_it_points_to(places):
    (places.east / "from").mkdir()
    (places.east / "from" / "real").write_bytes(b"R")
    os.symlink("real", places.east / "from" / "link")
    settle(places.mover(), transfer(("from/", "to/")))
    assert (places.west / "to" / "link").read_bytes() == b"R"
    assert not (places.west / "to" / "link").is_symlink()


@pytest.mark.parametrize("trap", ["pipe", "loop", "line"])
def test_what_cannot_be_copied_fails_instead_of_being_left_out(places, trap):
    (places.east / "from").mkdir()
    if trap == "pipe":
        os.mkfifo(places.east / "from" / "pipe")
    elif trap == "loop":
        os.symlink(".", places.east / "from" / "loop")
    else:
        (places.east / "from" / "new\nline").touch()
    status = settle(places.mover(), transfer(("from/", "to/")))
    assert (status.state, status.fault) == (TransferState.FAILED, "staging")
    assert names(places.west) == []


def test_a_link_at_the_destination_is_not_followed(places, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (places.east / "from").mkdir()
    (places.east / "from" / "a").write_bytes(b"A")
    os.symlink(outside, places.west / "trap")
    mover = places.mover()
    for number, items in enumerate([("from/a", "trap/a"), ("from/", "trap/"), ("from/", "trap/deep/")]):
        assert settle(mover, transfer(items, key=f"cftrap{number}")).state is TransferState.FAILED
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("target", ["jobs/x", "incoming/x", ".crossfade-site"])
def test_a_sites_own_records_are_no_destination(places, target):
    (places.east / "a").write_bytes(b"A")
    assert isinstance(places.mover().submit([transfer(("a", target))])[KEY], Refused)


def test_a_key_of_another_transfer_is_refused(places):
    (places.east / "a").write_bytes(b"A")
    settle(places.mover(), transfer(("a", "b")))
    answer = places.mover().submit([transfer(("a", "c"))])[KEY]
    assert isinstance(answer, Refused)
    assert not (places.west / "c").exists()


def test_an_unknown_site_is_refused_with_those_there_are(places):
    wanted = Transfer(key=KEY, source_site="moon", destination_site="west", items=())
    answer = places.mover().submit([wanted])[KEY]
    assert isinstance(answer, Refused)
    assert "east, west" in answer.reason


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"digest": 1}', b"\xff", b"[" * 4000])
def test_a_receipt_that_makes_no_sense_is_none(places, content):
    (places.east / "a").write_bytes(b"A")
    (places.west / "incoming").mkdir()
    (places.west / "incoming" / f"{KEY}.done").write_bytes(content)
    mover = places.mover()
    assert mover.status([KEY])[KEY].state is TransferState.UNKNOWN
    assert settle(mover, transfer(("a", "b"))).state is TransferState.SUCCEEDED


# -- killed, raced, canceled ---------------------------------------------------------------------------

WORKER = """
import sys, os, signal, threading, time
from pathlib import Path
from connectors.copy.courier import Courier
from connectors.folders.failure import destination_side, source_side
from connectors.model import Transfer, TransferItem

folder, die = Path(sys.argv[1]), sys.argv[2] == "die"
items = (TransferItem(source="from/", destination="to/"),)
wanted = Transfer(key=sys.argv[3], source_site="east", destination_site="west", items=items)
seen = 0
def progress(count):
    global seen
    seen += 1
    if die and seen == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Courier(
    wanted,
    source=source_side("east", folder / "east"),
    destination=destination_side("west", folder / "west"),
    stop=threading.Event(),
).carry(progress=progress, at=lambda: 1)
"""


def worker(folder: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, str(folder), how, KEY], cwd=REPOSITORY)


def fill(places: Places) -> dict[str, bytes]:
    contents = {f"sub{number % 3}/file{number}": bytes([number]) * 200_000 for number in range(8)}
    for name, content in contents.items():
        (places.east / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (places.east / "from" / name).write_bytes(content)
    return contents


def test_what_a_killed_process_left_is_swept_and_done_anew(places, tmp_path):
    contents = fill(places)
    assert worker(tmp_path, "die").wait(30) == -signal.SIGKILL
    assert not (places.west / "to").exists()
    assert len(list((places.west / "incoming" / KEY).iterdir())) == 1
    mover = places.mover()
    assert mover.status([KEY])[KEY].state is TransferState.UNKNOWN
    assert settle(mover, transfer(("from/", "to/"))).state is TransferState.SUCCEEDED
    assert {name: (places.west / "to" / name).read_bytes() for name in contents} == contents
    assert [path.name for path in (places.west / "incoming").iterdir()] == [f"{KEY}.done"]


def test_processes_that_carry_the_same_transfer_at_once_do_no_harm(places, tmp_path):
    contents = fill(places)
    workers = [worker(tmp_path, "live") for _ in range(3)]
    assert [started.wait(30) for started in workers] == [0, 0, 0]
    assert {name: (places.west / "to" / name).read_bytes() for name in contents} == contents
    assert [path.name for path in (places.west / "incoming").iterdir()] == [f"{KEY}.done"]
    assert json.loads((places.west / "incoming" / f"{KEY}.done").read_bytes())["moved"] == 1_600_000


def test_a_copy_that_is_told_to_stop_stops_at_the_next_block(places):
    (places.east / "a").write_bytes(b"x" * (4 << 20))
    stop, seen = threading.Event(), []
    courier = Courier(
        transfer(("a", "b")),
        source=source_side("east", places.east),
        destination=destination_side("west", places.west),
        stop=stop,
    )
    with pytest.raises(Canceled):
        courier.carry(progress=lambda count: (seen.append(count), stop.set()), at=now)
    assert seen == [1 << 20]
    assert names(places.west) == []


def test_a_transfer_canceled_while_it_waits_publishes_nothing_and_may_be_asked_for_again(places):
    (places.east / "large").write_bytes(b"x" * (4 << 20))
    blocked = threading.Event()
    mover = CopyMover({"east": places.east, "west": places.west}, now, threads=1)
    places.movers.append(mover)
    mover._pool.submit(blocked.wait, 10)
    wanted = transfer(("large", "large"))
    mover.submit([wanted])
    assert mover.status([KEY])[KEY].state is TransferState.ACTIVE
    assert mover.cancel([KEY]) == {KEY: True}
    status = mover.status([KEY])[KEY]
    assert (status.state, status.reason, status.fault) == (TransferState.FAILED, "canceled", "")
    blocked.set()
    assert names(places.west) == []
    assert settle(mover, wanted).state is TransferState.SUCCEEDED


def test_closing_ends_what_is_under_way(places):
    (places.east / "large").write_bytes(b"x" * (64 << 20))
    mover = places.mover()
    mover.submit([transfer(("large", "large"))])
    mover.close()
    assert mover.status([KEY])[KEY].state is not TransferState.ACTIVE
