"""boto3, as it is, against the bucket's face on a socket."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from cloud_kit import ACCESS, KEYS, SECRET

from sandbox.faces.s3 import S3Face
from sandbox.faces.s3_objects import Objects
from sandbox.facilities.live import wall_clock
from sandbox.serving import FaceServer


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[FaceServer]:
    objects = Objects(["lab"], folder=tmp_path / "objects" if request.param == "folder" else None)
    with FaceServer(S3Face(objects, keys=KEYS, clock=wall_clock)) as server:
        yield server


def connected(store: FaceServer, secret: str = SECRET) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=store.address,
        region_name="us-east-1",
        aws_access_key_id=ACCESS,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, signature_version="s3v4"),
    )


@pytest.fixture
def s3(store: FaceServer) -> Iterator[Any]:
    client = connected(store)
    yield client
    client.close()


def code_of(caught: Any) -> str:
    return str(caught.value.response["Error"]["Code"])


def test_an_object_is_put_headed_read_and_removed(s3: Any) -> None:
    s3.put_object(
        Bucket="lab", Key="a b/ö+&.txt", Body=b"0123456789", Metadata={"mode": "600"}, ContentType="text/plain"
    )
    head = s3.head_object(Bucket="lab", Key="a b/ö+&.txt")
    assert (head["ContentLength"], head["Metadata"], head["ContentType"]) == (10, {"mode": "600"}, "text/plain")
    for span, expected in (("bytes=2-4", b"234"), ("bytes=-3", b"789"), ("bytes=8-", b"89")):
        part = s3.get_object(Bucket="lab", Key="a b/ö+&.txt", Range=span)
        assert part["Body"].read() == expected
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="lab", Key="a b/ö+&.txt", Range="bytes=10-")
    assert code_of(caught) == "InvalidRange"
    s3.delete_object(Bucket="lab", Key="a b/ö+&.txt")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket="lab", Key="a b/ö+&.txt")
    assert code_of(caught) == "NoSuchKey"
    with pytest.raises(ClientError) as caught:
        s3.list_objects_v2(Bucket="other")
    assert code_of(caught) == "NoSuchBucket"


def test_a_conditional_put_wins_once(s3: Any) -> None:
    s3.put_object(Bucket="lab", Key="claim", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="lab", Key="claim", Body=b"second", IfNoneMatch="*")
    assert code_of(caught) == "PreconditionFailed"
    etag = s3.get_object(Bucket="lab", Key="claim")["ETag"]
    s3.put_object(Bucket="lab", Key="claim", Body=b"third", IfMatch=etag)
    with pytest.raises(ClientError):
        s3.put_object(Bucket="lab", Key="claim", Body=b"fourth", IfMatch=etag)
    assert s3.get_object(Bucket="lab", Key="claim")["Body"].read() == b"third"


def test_listings_have_pages_folders_and_order(s3: Any) -> None:
    for name in ("b/2", "a", "b/1", "c d", "b/sub/3"):
        s3.put_object(Bucket="lab", Key=name, Body=b"x")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="lab", PaginationConfig={"PageSize": 2}))
    assert [item["Key"] for page in pages for item in page["Contents"]] == ["a", "b/1", "b/2", "b/sub/3", "c d"]
    assert len(pages) == 3
    top = s3.list_objects_v2(Bucket="lab", Delimiter="/")
    assert [item["Key"] for item in top["Contents"]] == ["a", "c d"]
    assert [item["Prefix"] for item in top["CommonPrefixes"]] == ["b/"]
    inner = s3.list_objects(Bucket="lab", Prefix="b/", Delimiter="/")
    assert [item["Prefix"] for item in inner["CommonPrefixes"]] == ["b/sub/"]
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["lab"]


def test_a_large_file_goes_up_in_parts_and_comes_back_whole(s3: Any) -> None:
    content = bytes(range(256)) * (9 << 12)  # more than what boto3 sends at once
    s3.upload_fileobj(io.BytesIO(content), "lab", "large")
    back = io.BytesIO()
    s3.download_fileobj("lab", "large", back)
    assert hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(content).digest()
    assert s3.head_object(Bucket="lab", Key="large")["ETag"].endswith('-2"')
    s3.copy_object(Bucket="lab", Key="copy", CopySource={"Bucket": "lab", "Key": "large"})
    assert s3.head_object(Bucket="lab", Key="copy")["ContentLength"] == len(content)


def test_many_objects_are_removed_at_once(s3: Any) -> None:
    for name in ("x", "y & z", "kept"):
        s3.put_object(Bucket="lab", Key=name, Body=b"")
    gone = s3.delete_objects(Bucket="lab", Delete={"Objects": [{"Key": "x"}, {"Key": "y & z"}, {"Key": "absent"}]})
    assert {item["Key"] for item in gone["Deleted"]} == {"x", "y & z", "absent"}
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="lab")["Contents"]] == ["kept"]


def test_presigned_addresses_and_forms_work_and_bind(s3: Any) -> None:
    put = s3.generate_presigned_url("put_object", Params={"Bucket": "lab", "Key": "up load"}, ExpiresIn=60)
    get = s3.generate_presigned_url("get_object", Params={"Bucket": "lab", "Key": "up load"}, ExpiresIn=60)
    form = s3.generate_presigned_post(
        "lab", "in/${filename}", Conditions=[["starts-with", "$key", "in/"]], ExpiresIn=60
    )
    with httpx.Client() as http:
        assert http.put(put, content=b"sent").status_code == 200
        assert http.get(get).content == b"sent"
        assert http.get(get.replace("up%20load", "claim")).status_code == 403
        assert http.get(get[:-1] + ("0" if get[-1] != "0" else "1")).status_code == 403
        answer = http.post(form["url"], data=form["fields"], files={"file": ("name.bin", b"\x00form\r\n")})
        assert answer.status_code == 204, answer.text
        elsewhere = {**form["fields"], "key": "out/x"}
        assert http.post(form["url"], data=elsewhere, files={"file": ("n", b"x")}).status_code == 403
        assert http.get(f"{get.partition('?')[0]}").status_code == 403, "nothing goes without a signature"
    assert s3.get_object(Bucket="lab", Key="in/name.bin")["Body"].read() == b"\x00form\r\n"


def test_a_wrong_secret_is_refused(store: FaceServer) -> None:
    client = connected(store, secret="not the secret")
    with pytest.raises(ClientError) as caught:
        client.put_object(Bucket="lab", Key="x", Body=b"x")
    assert code_of(caught) == "SignatureDoesNotMatch"
    client.close()


def test_an_upload_in_parts_is_seen_when_it_is_complete_and_not_before(s3: Any) -> None:
    given = {"Bucket": "lab", "Key": "in parts/ö+&"}
    upload = s3.create_multipart_upload(**given, Metadata={"sha256": "0" * 64})["UploadId"]
    bodies = (b"a" * (5 << 20), b"b" * (5 << 20), b"c")
    etags = [
        s3.upload_part(**given, UploadId=upload, PartNumber=number, Body=body)["ETag"]
        for number, body in enumerate(bodies, 1)
    ]
    listed = s3.list_parts(**given, UploadId=upload)["Parts"]
    assert [(part["PartNumber"], part["ETag"], part["Size"]) for part in listed] == [
        (number, etag, len(body)) for number, (etag, body) in enumerate(zip(etags, bodies, strict=True), 1)
    ]
    assert "Contents" not in s3.list_objects_v2(Bucket="lab")
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    for wrong, code in (
        (list(reversed(parts)), "InvalidPartOrder"),
        ([{"PartNumber": 1, "ETag": etags[1]}], "InvalidPart"),
        ([parts[0], {"PartNumber": 4, "ETag": etags[0]}], "InvalidPart"),
    ):
        with pytest.raises(ClientError) as caught:
            s3.complete_multipart_upload(**given, UploadId=upload, MultipartUpload={"Parts": wrong})
        assert code_of(caught) == code
    s3.complete_multipart_upload(**given, UploadId=upload, MultipartUpload={"Parts": parts})
    head = s3.head_object(**given)
    assert (head["ContentLength"], head["Metadata"]) == (sum(map(len, bodies)), {"sha256": "0" * 64})
    with pytest.raises(ClientError) as caught:
        s3.list_parts(**given, UploadId=upload)
    assert code_of(caught) == "NoSuchUpload"


def test_a_small_part_is_taken_at_the_end_alone(s3: Any) -> None:
    given = {"Bucket": "lab", "Key": "small"}
    upload = s3.create_multipart_upload(**given)["UploadId"]
    etags = [s3.upload_part(**given, UploadId=upload, PartNumber=n, Body=b"x")["ETag"] for n in (1, 2)]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    with pytest.raises(ClientError) as caught:
        s3.complete_multipart_upload(**given, UploadId=upload, MultipartUpload={"Parts": parts})
    assert code_of(caught) == "EntityTooSmall"


def test_uploads_that_are_not_over_are_listed_by_pages_and_given_up(s3: Any) -> None:
    names = {s3.create_multipart_upload(Bucket="lab", Key=f"a/{n} +")["UploadId"] for n in range(5)}
    s3.create_multipart_upload(Bucket="lab", Key="b/other")
    pages = list(
        s3.get_paginator("list_multipart_uploads").paginate(Bucket="lab", Prefix="a/", PaginationConfig={"PageSize": 2})
    )
    found = [upload for page in pages for upload in page["Uploads"]]
    assert {upload["UploadId"] for upload in found} == names
    assert {upload["Key"] for upload in found} == {f"a/{n} +" for n in range(5)}
    assert all(upload["Initiated"] for upload in found)
    assert len(pages) == 3
    for upload in found:
        s3.abort_multipart_upload(Bucket="lab", Key=upload["Key"], UploadId=upload["UploadId"])
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="lab", Prefix="a/")
    with pytest.raises(ClientError) as caught:
        s3.abort_multipart_upload(Bucket="lab", Key=found[0]["Key"], UploadId=found[0]["UploadId"])
    assert code_of(caught) == "NoSuchUpload"
