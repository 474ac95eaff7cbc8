"""A place that is read over HTTP, and a relay that brings its files."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from broker.clock import wall_clock
from connectors.errors import BadReply, NotThere, RequestRefused, SiteUnreachable, UnsafePath
from connectors.files.place import FolderPlace
from connectors.files.url_place import CHUNK, UrlPlace, make_place
from connectors.model import Transfer, TransferItem, TransferState
from connectors.registry import PlaceConfig, PlaceSetup
from connectors.relay import RelayMover

LARGE = bytes(range(256)) * (CHUNK // 256 * 2 + 3)


class Archive:
    """A web server with some files, which knows ranges or does not."""

    def __init__(self, *, ranges: bool = True) -> None:
        self.files = {"/export/shot 1.h5": b"diagnostics", "/export/large": LARGE, "/export/empty": b""}
        self.ranges, self.status, self.asked = ranges, 0, []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.raw_path.decode())
        if self.status:
            return httpx.Response(self.status, headers={"location": "https://elsewhere.example/"})
        content = self.files.get(request.url.path)
        if content is None:
            return httpx.Response(404)
        wanted = request.headers.get("range", "")
        if not self.ranges or not wanted:
            return httpx.Response(200, content=content)
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        if first >= len(content):
            return httpx.Response(416)
        return httpx.Response(206, content=content[first : last + 1])

    def place(self) -> UrlPlace:
        return UrlPlace("archive:", "https://archive.example.org/export", transport=httpx.MockTransport(self.answer))


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without"])
@pytest.mark.parametrize(("name", "content"), [("shot 1.h5", b"diagnostics"), ("large", LARGE), ("empty", b"")])
def test_a_file_is_read_and_digested_whole(ranges: bool, name: str, content: bytes) -> None:
    place = Archive(ranges=ranges).place()
    assert place.read(name, limit=1 << 30) == content
    assert place.digests([name]) == {name: (len(content), hashlib.sha256(content).hexdigest())}


def test_a_part_of_a_file_is_read() -> None:
    place = Archive().place()
    assert place.read("large", offset=CHUNK - 2, limit=5) == LARGE[CHUNK - 2 : CHUNK + 3]
    assert place.read("large", offset=len(LARGE) + 1) == b""


def test_an_absent_file_is_not_there_and_is_left_out_of_many() -> None:
    place = Archive().place()
    with pytest.raises(NotThere):
        place.read("absent")
    assert place.read_many(["absent", "shot 1.h5"]) == {"shot 1.h5": b"diagnostics"}
    assert place.digests(["absent"]) == {}


def test_names_are_quoted_and_none_leads_out() -> None:
    archive = Archive()
    archive.place().read("shot 1.h5")
    assert archive.asked == ["/export/shot%201.h5"]
    for path in ("../secret", "/etc/passwd", "a\nb"):
        with pytest.raises(UnsafePath):
            archive.place().read(path)


def test_a_folder_cannot_be_listed_and_nothing_is_removed() -> None:
    place = Archive().place()
    assert place.list("") == []
    with pytest.raises(RequestRefused, match="name its files"):
        place.list("", recursive=True)
    with pytest.raises(RequestRefused):
        place.remove(["large"])


def test_a_redirect_is_not_followed_and_an_error_is_no_absence() -> None:
    archive = Archive()
    archive.status = 302
    with pytest.raises(BadReply):
        archive.place().read("shot 1.h5")
    archive.status = 403
    with pytest.raises(Exception, match="403"):
        archive.place().read("shot 1.h5")


def test_a_server_that_is_away_is_dark() -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    place = UrlPlace("archive:", "https://archive.example.org", transport=httpx.MockTransport(gone))
    place._http.sleep = lambda _: None
    with pytest.raises(SiteUnreachable):
        place.read("a")


def test_a_relay_brings_its_files_verified(tmp_path: Path) -> None:
    shelf = FolderPlace("shelf:", tmp_path)
    with closing(RelayMover({"archive:": Archive().place()}, {"shelf:": shelf}, wall_clock)) as mover:
        items = (TransferItem(source="shot 1.h5", destination="in/diag.h5"),)
        mover.submit([Transfer(key="k", source_site="archive:", destination_site="shelf:", items=items)])
        end = time.monotonic() + 30
        while (status := mover.status(["k"])["k"]).state is TransferState.ACTIVE:
            assert time.monotonic() < end
            time.sleep(0.002)
    assert status.state is TransferState.SUCCEEDED, status
    assert (tmp_path / "in" / "diag.h5").read_bytes() == b"diagnostics"


def test_an_entry_of_the_site_document_becomes_one() -> None:
    config = PlaceConfig(name="archive", url="https://archive.example.org", path="export")
    assert isinstance(make_place(PlaceSetup(config=config, clock=wall_clock)), UrlPlace)
    with pytest.raises(ValueError, match="place archive"):
        make_place(PlaceSetup(config=PlaceConfig(name="archive", url="ftp://x", path=""), clock=wall_clock))
