"""The s3 mover when lines break, the store stutters, objects change, and processes die half-way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from cloud_kit import Dark
from s3_kit import CLOUD, NEAR, PART, S3Rig

from connectors.files.parts import LARGEST, MOST_PARTS, Parts, part_size
from connectors.model import Refused, Transfer, TransferItem, TransferState, TransferStatus
from connectors.s3.download import Downloader
from connectors.s3.mover import STALE
from connectors.s3.upload import Sending, Uploader

BIG = 9 * PART + 17


@pytest.fixture
def up(tmp_path: Path) -> Iterator[S3Rig]:
    rig = S3Rig(tmp_path, upload=True)
    yield rig
    rig.end()


@pytest.fixture
def down(tmp_path: Path) -> Iterator[S3Rig]:
    rig = S3Rig(tmp_path, upload=False)
    yield rig
    rig.end()


@pytest.fixture(params=["up", "down"])
def rig(request: pytest.FixtureRequest) -> S3Rig:
    found: S3Rig = request.getfixturevalue(request.param)
    return found


def item(source: str = "from/a", destination: str = "to/a", mode: int | None = None) -> TransferItem:
    return TransferItem(source=source, destination=destination, mode=mode)


def noise(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


def failed(status: TransferStatus) -> tuple[TransferState, str, str]:
    return status.state, status.fault, status.site


def large(rig: S3Rig, path: str, content: bytes) -> None:
    """In the bucket without a word of its digest, as a job's own tools put it there."""
    if rig.source == NEAR:
        rig.put(NEAR, path, content)
    else:
        rig.objects.put("lab", f"pre fix/{path}", content, at=rig.now, headers={})


class Troubled(httpx.BaseTransport):
    """A line on which `trouble` may raise, before a request gets through."""

    def __init__(self, inner: httpx.BaseTransport, trouble: Callable[[httpx.Request], None]) -> None:
        self.inner, self.trouble = inner, trouble

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.trouble(request)
        return self.inner.handle_request(request)


def troubled(rig: S3Rig, trouble: Callable[[httpx.Request], None]) -> Dark:
    rig.line = Dark(Troubled(rig.line.inner, trouble))
    rig.bucket = rig.files()
    return rig.line


# -- large things -------------------------------------------------------------------------------------------


def test_what_is_larger_than_the_relay_takes_arrives_in_parts(rig: S3Rig) -> None:
    content = noise(40 * PART + 5)
    large(rig, "from/a", content)
    status = rig.carry(rig.connect(), rig.transfer(item()))
    assert (status.state, status.bytes_moved) == (TransferState.SUCCEEDED, len(content))
    assert rig.get(rig.destination, "to/a") == content
    parts = [path for method, path in rig.line.requests if method == ("PUT" if rig.source == NEAR else "GET")]
    assert len(parts) >= 41
    assert rig.objects.uploads == {}


def test_what_arrives_in_a_bucket_tells_its_digest_and_mode(up: S3Rig) -> None:
    content = noise(BIG)
    up.put(NEAR, "from/a", content)
    (up.root / "from/a").chmod(0o750)
    up.carry(up.connect(), up.transfer(item()))
    stored = up.objects.get("lab", "pre fix/to/a")
    assert stored is not None
    assert stored.headers["x-amz-meta-sha256"] == hashlib.sha256(content).hexdigest()
    assert stored.headers["x-amz-meta-mode"] == "750"
    assert up.objects.get("lab", "pre fix/relay/cfs300000000001.done") is not None


def test_what_arrives_here_has_the_mode_that_its_object_tells(down: S3Rig) -> None:
    down.bucket.write("from/a", b"A", mode=0o750)
    down.carry(down.connect(), down.transfer(item(), item(destination="to/b", mode=0o640)))
    assert [(down.root / name).stat().st_mode & 0o777 for name in ("to/a", "to/b")] == [0o750, 0o640]
    assert down.names(NEAR) == ["incoming/cfs300000000001.done", "to/a", "to/b"]


@pytest.mark.parametrize(("size", "length"), [(0, PART), (PART, PART), (9_000 * PART + 1, PART + 1)])
def test_parts_grow_with_the_object_so_that_their_number_does_not(size: int, length: int) -> None:
    assert part_size(size, least=PART) == length
    assert part_size(5 << 40) * MOST_PARTS >= 5 << 40
    assert 10_000 > MOST_PARTS >= (10**12 + 1) // part_size(10**12 + 1)


@pytest.mark.fault("F49")
def test_what_no_store_takes_as_one_object_is_refused_before_it_is_begun(up: S3Rig) -> None:
    huge = replace(item(), size=LARGEST + 1)
    assert up.connect().refuses(up.transfer(huge)) == (
        "too large: from/a has 5497558138881 bytes, a store takes 5497558138880 an object"
    )
    assert up.connect().refuses(up.transfer(replace(huge, size=LARGEST))) == ""


@pytest.mark.fault("F49")
def test_what_turns_out_to_be_too_large_is_not_even_hashed(up: S3Rig) -> None:
    up.put(NEAR, "from/a", b"A")
    os.truncate(up.root / "from/a", LARGEST + 1)
    status = up.carry(up.connect(), up.transfer(item()))
    assert (status.state, status.fault, status.site) == (TransferState.FAILED, "quota", CLOUD)
    assert status.reason.startswith("too large: from/a has")
    assert up.names(CLOUD) == []


def test_a_file_with_holes_goes_up_whole(up: S3Rig) -> None:
    path = up.root / "from/a"
    path.parent.mkdir()
    path.write_bytes(b"begin")
    with path.open("r+b") as file:
        file.seek(3 << 20)
        file.write(b"middle")
        file.truncate(7 << 20)
    assert up.carry(up.connect(), up.transfer(item())).state is TransferState.SUCCEEDED
    assert up.get(CLOUD, "to/a") == path.read_bytes()


def test_what_holds_nothing_but_zeros_arrives_as_holes(down: S3Rig) -> None:
    content = b"begin" + bytes(5 << 20) + b"middle" + bytes(5 << 20)
    down.put(CLOUD, "from/a", content)
    assert down.carry(down.connect(), down.transfer(item())).state is TransferState.SUCCEEDED
    assert down.get(NEAR, "to/a") == content
    assert (down.root / "to/a").stat().st_blocks * 512 < len(content) // 2


# -- nothing is seen before all is right --------------------------------------------------------------------


def test_of_several_objects_none_is_seen_before_all_have_been_sent(up: S3Rig) -> None:
    for name in "abc":
        up.put(NEAR, f"from/{name}", noise(BIG))
    seen: list[list[str]] = []

    def look(request: httpx.Request) -> None:
        if request.method == "PUT" and "partNumber" in request.url.query.decode():
            seen.append(up.objects.names("lab", "pre fix/to/"))

    troubled(up, look)
    assert up.carry(up.connect(), up.transfer(item("from/", "to/"))).state is TransferState.SUCCEEDED
    assert len(seen) == 30
    assert not any(seen)
    assert up.objects.names("lab", "pre fix/to/") == [f"pre fix/to/{name}" for name in "abc"]


def test_what_is_private_goes_straight_and_the_receipt_comes_last(up: S3Rig) -> None:
    for name in "abc":
        up.put(NEAR, f"from/{name}", noise(BIG))
    seen: list[int] = []

    def look(request: httpx.Request) -> None:
        if request.method == "PUT":
            seen.append(len(up.objects.names("lab", "pre fix/to/")))

    troubled(up, look)
    assert up.carry(up.connect(), up.transfer(item("from/", "to/"), private=True)).state is TransferState.SUCCEEDED
    assert sorted(set(seen)) == [0, 1, 2, 3]
    assert seen[-1] == 3


def test_a_source_that_changes_while_it_is_sent_leaves_nothing(up: S3Rig) -> None:
    up.put(NEAR, "from/a", noise(BIG))

    def change(request: httpx.Request) -> None:
        if request.method == "POST" and request.url.query == b"uploads=":
            up.put(NEAR, "from/a", noise(BIG)[::-1])

    troubled(up, change)
    status = up.carry(up.connect(), up.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "staging", NEAR)
    assert "changed" in status.reason
    assert up.names(CLOUD) == []
    assert up.objects.uploads == {}


def test_an_object_that_is_replaced_while_it_is_read_is_told_as_corrupt(down: S3Rig) -> None:
    large(down, "from/a", noise(BIG))

    def change(request: httpx.Request) -> None:
        if f"bytes={4 * PART}-" in request.headers.get("range", ""):
            large(down, "from/a", noise(BIG)[::-1])

    troubled(down, change)
    status = down.carry(down.connect(), down.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "staging", CLOUD)
    assert "changed" in status.reason
    assert down.get(NEAR, "to/a") is None


def test_an_object_that_is_not_what_its_digest_says_is_put_in_no_place(down: S3Rig) -> None:
    headers = {"x-amz-meta-sha256": hashlib.sha256(b"whole").hexdigest()}
    down.objects.put("lab", "pre fix/from/a", b"whale", at=down.now, headers=headers)
    status = down.carry(down.connect(), down.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "staging", CLOUD)
    assert "corrupt" in status.reason
    assert down.get(NEAR, "to/a") is None


def test_what_the_store_has_spoiled_is_taken_away_again(up: S3Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    up.put(NEAR, "from/a", noise(BIG))
    honest = Uploader._show

    def spoil(self: Uploader, sending: Sending) -> None:
        honest(self, sending)
        large_one = up.objects.get("lab", "pre fix/to/a")
        assert large_one is not None
        up.objects.put("lab", "pre fix/to/a", b"torn", at=up.now, headers={})

    monkeypatch.setattr(Uploader, "_show", spoil)
    status = up.carry(up.connect(), up.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "staging", CLOUD)
    assert "corrupt" in status.reason
    assert up.names(CLOUD) == []


# -- what breaks off ----------------------------------------------------------------------------------------


def test_a_part_whose_answer_is_lost_is_sent_again(up: S3Rig) -> None:
    up.put(NEAR, "from/a", noise(BIG))
    up.line.lose = "PUT"
    status = up.carry(up.connect(), up.transfer(item()))
    assert status.state is TransferState.SUCCEEDED, status
    assert up.get(CLOUD, "to/a") == noise(BIG)


def test_a_completion_whose_answer_is_lost_is_looked_for_and_found(up: S3Rig) -> None:
    up.put(NEAR, "from/a", noise(BIG))

    def arm(request: httpx.Request) -> None:
        if request.method == "PUT" and b"partNumber=10" in request.url.query:
            line.lose = "POST"

    line = troubled(up, arm)
    assert up.carry(up.connect(), up.transfer(item())).state is TransferState.SUCCEEDED
    assert line.lose == ""
    assert up.get(CLOUD, "to/a") == noise(BIG)


def test_a_store_that_says_200_and_means_an_error_is_not_believed(up: S3Rig) -> None:
    up.put(NEAR, "from/a", noise(BIG))

    class Lying(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST" and b"uploadId" in request.url.query:
                return httpx.Response(200, content=b"<Error><Code>InternalError</Code></Error>")
            return inner.handle_request(request)

    inner = up.line.inner
    up.line = Dark(Lying())
    up.bucket = up.files()
    status = up.carry(up.connect(), up.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "site", CLOUD)
    assert "InternalError" in status.reason
    assert up.objects.uploads == {}, "what was sent is given up"


def test_a_line_that_breaks_leaves_no_upload_behind(up: S3Rig) -> None:
    up.put(NEAR, "from/a", noise(BIG))

    def cut(request: httpx.Request) -> None:
        if b"partNumber=5" in request.url.query:
            raise httpx.ConnectError("no route", request=request)

    troubled(up, cut)
    status = up.carry(up.connect(), up.transfer(item()))
    assert failed(status) == (TransferState.FAILED, "site", CLOUD)
    assert up.objects.uploads == {}
    assert up.names(CLOUD) == []


def test_a_download_that_broke_off_is_gone_on_with_from_there(down: S3Rig) -> None:
    content = noise(BIG)
    down.bucket.write("from/a", content)

    def cut(request: httpx.Request) -> None:
        if request.headers.get("range", "").startswith(f"bytes={6 * PART}-"):
            raise httpx.ConnectError("no route", request=request)

    honest = down.line.inner
    troubled(down, cut)
    assert failed(down.carry(down.connect(), down.transfer(item()))) == (TransferState.FAILED, "site", CLOUD)
    down.line = Dark(honest)
    down.bucket = down.files()
    status = down.carry(down.connect(), down.transfer(item()))
    assert (status.state, status.bytes_moved) == (TransferState.SUCCEEDED, len(content))
    assert down.get(NEAR, "to/a") == content
    assert sum(method == "GET" for method, _ in down.line.requests) < 8, "the first half was not read again"


def test_half_an_object_without_a_known_digest_is_not_trusted(down: S3Rig) -> None:
    content = noise(BIG)
    large(down, "from/a", content)

    def cut(request: httpx.Request) -> None:
        if request.headers.get("range", "").startswith(f"bytes={6 * PART}-"):
            raise httpx.ConnectError("no route", request=request)

    honest = down.line.inner
    troubled(down, cut)
    assert down.carry(down.connect(), down.transfer(item())).state is TransferState.FAILED
    (half,) = down.root.glob("incoming/*/in-*/0")
    with half.open("r+b") as file:
        file.write(b"rotten")
    down.line = Dark(honest)
    down.bucket = down.files()
    assert down.carry(down.connect(), down.transfer(item())).state is TransferState.SUCCEEDED
    assert down.get(NEAR, "to/a") == content


def test_a_canceled_one_gives_up_what_it_has_begun(up: S3Rig) -> None:
    up.put(NEAR, "from/a", noise(BIG))
    transfer = up.transfer(item())

    def cancel(request: httpx.Request) -> None:
        if b"partNumber=2" in request.url.query:
            mover._errands._known([transfer.key])[transfer.key].stop.set()

    line = troubled(up, cancel)
    mover = up.connect()
    status = up.carry(mover, transfer)
    assert (status.state, status.reason, status.fault) == (TransferState.FAILED, "canceled", "")
    assert line.requests
    assert up.objects.uploads == {}
    assert up.names(CLOUD) == []


@pytest.mark.parametrize("wanted", [True, False])
def test_half_an_object_stays_only_where_somebody_may_want_the_rest(down: S3Rig, wanted: bool) -> None:
    down.bucket.write("from/a", noise(BIG))
    transfer = down.transfer(item())

    def end(request: httpx.Request) -> None:
        if request.headers.get("range", "").startswith(f"bytes={6 * PART}-"):
            errand = mover._errands._known([transfer.key])[transfer.key]
            errand.unwanted = not wanted
            errand.stop.set()

    troubled(down, end)
    mover = down.connect()
    assert down.carry(mover, transfer).reason == "canceled"
    assert bool(list(down.root.glob("incoming/*/in-*/0"))) == wanted


def test_what_a_dead_process_had_begun_is_found_and_given_up(up: S3Rig) -> None:
    parts = Parts(up.bucket, site=CLOUD)
    parts.begin("to/dead ö&", sha256="0" * 64, mode=0o600)
    up.now += STALE + 1_000_000
    young = parts.begin("to/young", sha256="0" * 64, mode=0o600)
    up.put(NEAR, "from/a", b"A")
    assert up.carry(up.connect(), up.transfer(item())).state is TransferState.SUCCEEDED
    assert [(left.path, left.name) for left in parts.pending()] == [("to/young", young.name)]


def test_a_listing_of_uploads_has_pages(up: S3Rig) -> None:
    parts = Parts(up.bucket, site=CLOUD)
    for n in range(1_234):
        parts.begin(f"to/{n % 400:04}", sha256="0" * 64, mode=0o600)
    assert len({upload.name for upload in parts.pending()}) == 1_234


def test_two_who_bring_the_same_here_do_not_write_over_each_other(down: S3Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    down.bucket.write("from/a", b"A")
    second: list[TransferStatus] = []
    honest = Downloader._bring

    def bring(self: Downloader, *given: object) -> None:
        if not second:
            second.append(TransferStatus(key="", state=TransferState.ACTIVE))
            second[0] = down.carry(down.connect(), down.transfer(item()))
        honest(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Downloader, "_bring", bring)
    assert down.carry(down.connect(), down.transfer(item())).state is TransferState.SUCCEEDED
    assert failed(second[0]) == (TransferState.FAILED, "site", NEAR)
    assert "another process" in second[0].reason


# -- what is known again ------------------------------------------------------------------------------------


def test_asked_again_after_a_restart_nothing_is_moved(rig: S3Rig) -> None:
    rig.put(rig.source, "from/a", b"first")
    assert rig.carry(rig.connect(), rig.transfer(item())).state is TransferState.SUCCEEDED
    rig.put(rig.source, "from/a", b"second")
    status = rig.carry(rig.connect(), rig.transfer(item()))
    assert (status.state, status.bytes_moved) == (TransferState.SUCCEEDED, 5)
    assert rig.get(rig.destination, "to/a") == b"first"


def test_a_key_of_another_transfer_is_not_taken_for_done(rig: S3Rig) -> None:
    rig.put(rig.source, "from/a", b"A")
    assert rig.carry(rig.connect(), rig.transfer(item())).state is TransferState.SUCCEEDED
    status = rig.carry(rig.connect(), rig.transfer(item(destination="to/b")))
    assert status.state is TransferState.FAILED
    assert "another transfer" in status.reason


@pytest.mark.parametrize(
    ("source", "destination", "told"),
    [
        (CLOUD, CLOUD, "both ends are elsewhere"),
        (NEAR, NEAR, "both ends are on this machine"),
        ("mars", CLOUD, "mars is neither"),
    ],
)
def test_what_is_not_between_here_and_a_bucket_is_refused(up: S3Rig, source: str, destination: str, told: str) -> None:
    transfer = Transfer(key="cfx", source_site=source, destination_site=destination, items=(item(),))
    mover = up.connect()
    assert told in mover.refuses(transfer)
    assert isinstance(mover.submit([transfer])["cfx"], Refused)


@pytest.mark.parametrize("target", ["relay/k.done", "incoming/x", "jobs/x", ".crossfade-site"])
def test_the_places_of_receipts_and_records_are_no_destinations(up: S3Rig, target: str) -> None:
    answer = up.connect().submit([up.transfer(item(destination=target))])["cfs300000000001"]
    assert isinstance(answer, Refused)
