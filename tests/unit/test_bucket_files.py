"""Files in a bucket, beyond what the connectors' contract asks of files."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from cloud_kit import ACCESS, KEYS, SECRET

from connectors.errors import BadReply, CredentialError, QuotaError, RequestRefused, SiteUnreachable
from connectors.files.bucket import BucketFiles, Place, bucket_files
from connectors.files.signing import KeyPair, keys_from
from connectors.model import SmallFile
from connectors.registry import SiteConfig
from connectors.secrets import Secret
from sandbox.faces.s3 import S3Face
from sandbox.faces.s3_objects import Objects
from sandbox.serving import InProcess

NOW = 1_800_000_000_000_000


def now() -> int:
    return NOW


class Store:
    def __init__(self) -> None:
        self.objects = Objects(["lab"])
        self.line = InProcess(S3Face(self.objects, keys=KEYS, clock=now))

    def files(self, prefix: str = "site/", *, secret: str = SECRET, clock: int = NOW) -> BucketFiles:
        place = Place(bucket="lab", prefix=prefix, endpoint="http://s3.example.org", region="us-east-1")
        pair = KeyPair(access=ACCESS, secret=Secret(secret))
        return BucketFiles(site="cloud", place=place, keys=lambda: pair, clock=lambda: clock, transport=self.line)

    def put(self, key: str, content: bytes) -> None:
        self.objects.put("lab", key, content, at=NOW, headers={})


@pytest.fixture
def store() -> Store:
    return Store()


def test_of_many_who_put_a_new_file_one_wins(store: Store) -> None:
    files = store.files()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: files.put_new("claim", str(number).encode()), range(40)))
    assert won.count(True) == 1
    assert files.read("claim") == str(won.index(True)).encode()


def test_a_listing_of_many_pages_is_whole(store: Store) -> None:
    for number in range(2_345):
        store.put(f"site/spool/{number:05}", b"x")
    store.put("other/spool/x", b"x")
    listed = store.files().list("spool")
    assert [info.path for info in listed] == [f"spool/{number:05}" for number in range(2_345)]
    assert store.line.requests == 3


def test_names_that_no_file_of_ours_has_are_not_shown(store: Store) -> None:
    for key in ("site/a", "site/../b", "site//c", "site/d\ne", "site/e/", "site/.crossfade-site", "site/ f&<>+%41"):
        store.put(key, b"x")
    assert [(info.path, info.is_dir) for info in store.files().list("", recursive=True)] == [
        (" f&<>+%41", False),
        ("a", False),
        ("e", True),
    ]


def test_a_file_that_somebody_else_has_put_is_read_to_be_hashed(store: Store) -> None:
    content = b"0123456789" * 4_000_000  # more than one read
    store.put("site/big", content)
    files = store.files()
    assert files.digests(["big"]) == {"big": (len(content), hashlib.sha256(content).hexdigest())}
    assert files.read("big", offset=17 << 20, limit=17 << 20) == content[17 << 20 : 34 << 20]
    store.line.requests = 0
    files.write("small", b"x")
    files.digests(["small"])
    assert store.line.requests == 2, "what we have put ourselves is known by its metadata"


def test_a_thousand_files_are_removed_with_one_call(store: Store) -> None:
    files = store.files()
    files.write_many([SmallFile(path=f"f/{number} &<>", content=b"x") for number in range(1_000)])
    store.line.requests = 0
    files.remove([f"f/{number} &<>" for number in range(1_000)])
    assert store.line.requests == 1
    assert not files.list("f")


def test_a_place_is_marked_once(store: Store) -> None:
    identity = store.files().prepare()
    assert store.files().prepare() == identity
    assert store.files("elsewhere/").prepare() != identity


def test_a_bucket_that_is_gone_is_away_and_not_empty(store: Store) -> None:
    store.objects.drop("lab")
    files = store.files()
    for verb in (lambda: files.list("x"), lambda: files.read("x"), lambda: files.write("x", b"")):
        with pytest.raises(SiteUnreachable, match="no bucket lab"):
            verb()


def test_a_wrong_key_pair_or_clock_is_a_credentials_fault(store: Store) -> None:
    with pytest.raises(CredentialError, match="SignatureDoesNotMatch"):
        store.files(secret="another secret").list("x")
    with pytest.raises(CredentialError, match="RequestTimeTooSkewed"):
        store.files(clock=NOW + 3_600_000_000).list("x")


@pytest.mark.parametrize(
    ("status", "body", "raised"),
    [
        (403, b"<Error><Code>QuotaExceeded</Code></Error>", QuotaError),
        (403, b"<html>", CredentialError),
        (404, b"<Error><Code>NoSuchThing</Code></Error>", BadReply),
        (200, b'<!DOCTYPE x [<!ENTITY a "aaa">]><ListBucketResult>&a;</ListBucketResult>', BadReply),
        (200, b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", BadReply),
        (400, b"<Error><Code>InvalidRequest</Code></Error>", RequestRefused),
        (503, b"<Error><Code>SlowDown</Code></Error>", SiteUnreachable),
    ],
)
def test_refusals_are_told_apart(store: Store, status: int, body: bytes, raised: type[Exception]) -> None:
    store.line = httpx.MockTransport(lambda _: httpx.Response(status, content=body))  # type: ignore[assignment]
    files = store.files()
    with pytest.raises(raised):
        files.list("x")


def test_a_root_and_credentials_that_make_no_sense_are_told(tmp_path: Path) -> None:
    config = SiteConfig(name="cloud", connector="kubernetes", root="s3://lab/../x")
    for root in ("/scratch", "s3://", "s3://LAB/x"):
        with pytest.raises(RequestRefused, match="s3://BUCKET/PREFIX"):
            bucket_files(SiteConfig(name="cloud", connector="kubernetes", root=root), now)
    with pytest.raises(Exception, match=r"\.\."):
        bucket_files(config, now)
    with pytest.raises(CredentialError, match="env:NAME or file:PATH"):
        keys_from({"access_key": "AKIAPLAIN", "secret_key": "plain"}, site="cloud")()
