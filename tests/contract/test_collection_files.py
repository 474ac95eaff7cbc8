"""Small files through a Globus collection: the files' contract over the stand-in, and what is this way's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("connectors.contract")

from globus_mover_kit import A_ROOT, Rig, a_rig  # noqa: E402

from connectors.contract import FilesContract  # noqa: E402
from connectors.errors import NotThere, RequestRefused, SiteUnreachable, UnsafePath  # noqa: E402
from connectors.files.collection import CollectionFiles, collection_files  # noqa: E402
from connectors.globus_api.faults import NeedsLogin  # noqa: E402
from connectors.iri.make import make as make_iri  # noqa: E402
from connectors.olcf import make as make_olcf  # noqa: E402
from connectors.registry import SiteConfig  # noqa: E402


class FilesRig:
    """As much of a site's rig as the files' contract needs."""

    def __init__(self, globus: Rig) -> None:
        self.globus = globus

    def connect(self) -> CollectionFiles:
        return collection_files(self.globus.configs["a"])


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[FilesRig]:
    with a_rig(tmp_path) as made:
        yield FilesRig(made)


class TestCollectionFiles(FilesContract):
    """All of it."""


def _folder(rig: FilesRig) -> Path:
    return rig.globus.globus.collections["a"].folder / A_ROOT


def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part(rig: FilesRig) -> None:
    files, seen, stop = rig.connect(), set(), threading.Event()
    contents = {bytes([n]) * 200_000 for n in range(6)}
    path = _folder(rig) / "w/file"
    files.write("w/file", bytes([0]) * 200_000)

    def look() -> None:
        while not stop.is_set():
            try:
                seen.add(path.read_bytes())
            except FileNotFoundError:
                continue

    reader = threading.Thread(target=look)
    reader.start()
    for content in sorted(contents):
        files.write("w/file", content)
    stop.set()
    reader.join()
    assert seen <= contents


def test_drafts_are_neither_listed_nor_left(rig: FilesRig) -> None:
    files = rig.connect()
    for content in (b"1", b"2"):
        files.write("d/file", content)
    assert [path.name for path in (_folder(rig) / "d").iterdir()] == ["file"]
    (_folder(rig) / "d/.file.abcd.crossfade-draft").touch()
    assert [info.path for info in files.list("d")] == ["d/file"]


@pytest.mark.parametrize("verb", ["read", "write", "list", "digests", "remove"])
def test_a_dark_collection_is_unreachable_by_every_verb(rig: FilesRig, verb: str) -> None:
    files = rig.connect()
    files.write("some/file", b"old")
    rig.globus.darken("a")
    calls = {
        "read": lambda: files.read("some/file"),
        "write": lambda: files.write("some/file", b"new"),
        "list": lambda: files.list("some"),
        "digests": lambda: files.digests(["some/file"]),
        "remove": lambda: files.remove(["some/file"]),
    }
    with pytest.raises(SiteUnreachable) as caught:
        calls[verb]()
    assert caught.value.site == "a"
    rig.globus.collection("a").down = ""
    assert files.read("some/file") == b"old"


def test_a_root_that_is_not_the_prepared_one_is_away_and_not_empty(rig: FilesRig) -> None:
    identity = rig.connect().prepare()
    assert rig.connect().prepare() == identity
    config = rig.globus.configs["a"]
    files = collection_files(SiteConfig(**{**_fields(config), "options": {"identity": identity}}))
    assert list(files.list("absent")) == []
    _folder(rig).rename(_folder(rig).with_name("elsewhere"))
    fresh = collection_files(SiteConfig(**{**_fields(config), "options": {"identity": identity}}))
    with pytest.raises(SiteUnreachable):
        fresh.list("absent")
    with pytest.raises(SiteUnreachable):
        fresh.read("some/file")


def _fields(config: SiteConfig) -> dict[str, object]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_the_connectors_own_files_are_not_written(rig: FilesRig) -> None:
    for path in (".crossfade-site", "incoming/x", "jobs/x"):
        with pytest.raises(UnsafePath):
            rig.connect().write(path, b"x")


def test_what_is_too_large_for_this_way_is_refused(rig: FilesRig) -> None:
    files = CollectionFiles(rig.connect()._api, rig.connect()._end, readable=10)
    files.write("big", b"x" * 11)
    with pytest.raises(RequestRefused, match="too large to read"):
        files.digests(["big"])


def test_a_collection_without_an_https_server_says_so(rig: FilesRig) -> None:
    rig.globus.collection("a").https = False
    with pytest.raises((RequestRefused, NeedsLogin), match="HTTPS"):
        rig.connect().read("x")


def test_a_token_that_ends_is_renewed(rig: FilesRig) -> None:
    files = rig.connect()
    files.write("x", b"1")
    rig.globus.globus.auth.revoke_all()
    assert files.read("x") == b"1"
    rig.globus.globus.auth.revoke_all()
    files.write("x", b"2")
    assert files.read("x") == b"2"


def test_a_site_may_name_this_way_where_its_own_api_has_no_files(rig: FilesRig, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("t" * 20)
    token.chmod(0o600)
    fields = _fields(rig.globus.configs["a"]) | {"credentials": {"token": f"file:{token}"}}
    iri = SiteConfig(
        **{
            **fields,
            "options": {
                "url": "https://iri.example.org/api/v1",
                "resource": "r",
                "files": "collection",
                "dialect": "v1",
            },
        }
    )
    olcf = SiteConfig(**{**fields, "connector": "olcf", "options": {"resource": "defiant", "files": "collection"}})
    for site in (make_iri(iri, rig.globus.globus.clock), make_olcf(olcf, rig.globus.globus.clock)):
        site.write("through/it", b"x")
        assert site.read("through/it") == b"x"
        assert (_folder(rig) / "through/it").read_bytes() == b"x"


def test_a_site_that_names_this_way_without_a_collection_is_refused() -> None:
    with pytest.raises(ValueError, match="collection"):
        collection_files(SiteConfig(name="a", connector="iri", root="/x"))


def test_an_absent_file_is_told_as_such(rig: FilesRig) -> None:
    with pytest.raises(NotThere):
        rig.connect().read("no/such/file")
