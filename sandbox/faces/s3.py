"""An S3-compatible object store: what boto3, aws-cli, s3fs and curl ask of one, in path style.

Buckets; objects with ranges, conditions and metadata; listings of both versions; uploads in parts, by form, and by
presigned addresses; signatures are checked. What is not here answers NotImplemented, as stores do.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from email.utils import formatdate
from urllib.parse import quote, unquote
from xml.etree import ElementTree as Xml
from xml.sax.saxutils import escape

from sandbox.faces.http import Request, Response
from sandbox.faces.s3_objects import ObjectStore, Stored, Upload
from sandbox.faces.s3_signing import Denied, check, check_policy, content_of

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_KEPT = ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires")
_NS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_UNKNOWN = re.compile(
    "acl|cors|encryption|lifecycle|logging|notification|policy|replication|tagging|website|object-lock|retention|"
    "legal-hold|torrent|restore|select|requestPayment|accelerate|analytics|inventory|metrics|ownershipControls|"
    "publicAccessBlock|attributes"
)
"""Parts of the protocol that are not played here."""


class S3Face:
    """A store over `objects`. `keys`: access key to secret key. `up`: does the store work now?"""

    def __init__(
        self,
        objects: ObjectStore,
        *,
        keys: Mapping[str, str],
        clock: Callable[[], int],
        up: Callable[[], bool] = lambda: True,
        smallest: int = 5 << 20,
    ) -> None:
        """`smallest`: bytes that a part has at least, the last one of an object excepted."""
        self.objects = objects
        self._keys, self._clock, self._up, self._smallest = keys, clock, up, smallest

    def handle(self, request: Request) -> Response:
        try:
            if not self._up():
                raise Denied("ServiceUnavailable", "Please reduce your request rate.", 503)
            bucket, _, key = request.path.removeprefix("/").partition("/")
            if request.method == "POST" and request.headers.get("content-type", "").startswith("multipart/form-data"):
                return self._form(request, bucket)
            check(request, self._keys, self._now())
            if any(_UNKNOWN.fullmatch(name) for name, _ in request.query):
                raise Denied(
                    "NotImplemented", "A header you provided implies functionality that is not implemented", 501
                )
            if not bucket:
                return self._buckets(request)
            return self._object(request, bucket, key) if key else self._bucket(request, bucket)
        except Denied as denied:
            return _error(denied, request)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e6, UTC)

    # -- buckets -------------------------------------------------------------------------------------------

    def _buckets(self, request: Request) -> Response:
        if request.method != "GET":
            raise _wrong_method()
        date = _iso(self._clock())
        found = "".join(
            f"<Bucket><Name>{name}</Name><CreationDate>{date}</CreationDate></Bucket>"
            for name in self.objects.buckets()
        )
        told = f"<Owner><ID>sandbox</ID></Owner><Buckets>{found}</Buckets>"
        return _xml(f"<ListAllMyBucketsResult {_NS}>{told}</ListAllMyBucketsResult>")

    def _bucket(self, request: Request, bucket: str) -> Response:
        if request.method == "PUT":
            return self._create(bucket)
        self._known(bucket)
        asked = {name for name, _ in request.query}
        match request.method:
            case "HEAD":
                return Response(status=200, headers={"x-amz-bucket-region": "us-east-1"})
            case "DELETE":
                if not self.objects.drop(bucket):
                    raise Denied("BucketNotEmpty", "The bucket you tried to delete is not empty", 409)
                return Response(status=204)
            case "POST" if "delete" in asked:
                return self._delete_many(request, bucket)
            case "GET" if "location" in asked:
                return _xml(f"<LocationConstraint {_NS}></LocationConstraint>")
            case "GET" if "versioning" in asked:
                return _xml(f"<VersioningConfiguration {_NS}></VersioningConfiguration>")
            case "GET" if "uploads" in asked:
                return self._uploads(request, bucket)
            case "GET":
                return self._list(request, bucket)
        raise _wrong_method()

    def _create(self, bucket: str) -> Response:
        if not _BUCKET.fullmatch(bucket):
            raise Denied("InvalidBucketName", "The specified bucket is not valid.", 400)
        if not self.objects.create(bucket):
            raise Denied("BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded.", 409)
        return Response(status=200, headers={"location": f"/{bucket}"})

    def _known(self, bucket: str) -> None:
        if not self.objects.has(bucket):
            raise Denied("NoSuchBucket", "The specified bucket does not exist", 404)

    def _delete_many(self, request: Request, bucket: str) -> Response:
        body = content_of(request)
        try:
            document = Xml.fromstring(body) if b"<!" not in body else None  # noqa: S314 - no entities in it
        except Xml.ParseError:
            document = None
        if document is None:
            raise Denied("MalformedXML", "The XML you provided was not well-formed", 400)
        names = [child.text or "" for child in document.iter() if child.tag.rpartition("}")[2] == "Key"]
        if len(names) > 1000:
            raise Denied("MalformedXML", "At most 1000 keys", 400)
        quiet = any(child.tag.endswith("Quiet") and child.text == "true" for child in document)
        for name in names:
            self.objects.remove(bucket, name)
        told = "" if quiet else "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
        return _xml(f"<DeleteResult {_NS}>{told}</DeleteResult>")

    def _uploads(self, request: Request, bucket: str) -> Response:
        """A page of what is neither completed nor aborted, by key and name."""
        prefix, most = request.first("prefix"), request.first("max-uploads") or "1000"
        after = request.first("key-marker"), request.first("upload-id-marker")
        encode = quote if request.first("encoding-type") == "url" else escape
        found = sorted(
            (upload.key, name, upload.at)
            for name, upload in list(self.objects.uploads.items())
            if upload.bucket == bucket and upload.key.startswith(prefix) and (upload.key, name) > after
        )
        page = found[: min(1000, int(most) if most.isdecimal() else 1000)]
        told = "".join(
            f"<Upload><Key>{encode(key)}</Key><UploadId>{name}</UploadId><Initiated>{_iso(at)}</Initiated></Upload>"
            for key, name, at in page
        )
        more = len(page) < len(found)
        if more:
            told += f"<NextKeyMarker>{encode(page[-1][0])}</NextKeyMarker>"
            told += f"<NextUploadIdMarker>{page[-1][1]}</NextUploadIdMarker>"
        told += f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        return _xml(f"<ListMultipartUploadsResult {_NS}><Bucket>{bucket}</Bucket>{told}</ListMultipartUploadsResult>")

    def _list(self, request: Request, bucket: str) -> Response:
        second = request.first("list-type") == "2"
        prefix, delimiter = request.first("prefix"), request.first("delimiter")
        after = (
            unquote(request.first("continuation-token")) or request.first("start-after")
            if second
            else request.first("marker")
        )
        most = request.first("max-keys", "1000")
        if not most.isdecimal():
            raise Denied("InvalidArgument", "Provided max-keys not an integer or within integer range", 400)
        coded = request.first("encoding-type") == "url"
        say = (lambda text: quote(text, safe="/-._~")) if coded else escape
        items, folders, last, more = self._page(bucket, prefix, delimiter, after, min(int(most), 1000))
        contents = "".join(
            f"<Contents><Key>{say(name)}</Key><LastModified>{_iso(stored.at)}</LastModified><ETag>&quot;{stored.etag}&quot;</ETag>"
            f"<Size>{stored.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, stored in items
        )
        common = "".join(f"<CommonPrefixes><Prefix>{say(name)}</Prefix></CommonPrefixes>" for name in folders)
        head = (
            f"<Name>{bucket}</Name><Prefix>{say(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"
            f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>"
        )
        if delimiter:
            head += f"<Delimiter>{say(delimiter)}</Delimiter>"
        if coded:
            head += "<EncodingType>url</EncodingType>"
        if second:
            head += f"<KeyCount>{len(items) + len(folders)}</KeyCount>"
            if more:
                head += f"<NextContinuationToken>{escape(quote(last, safe=''))}</NextContinuationToken>"
        else:
            head += f"<Marker>{say(after)}</Marker>" + (f"<NextMarker>{say(last)}</NextMarker>" if more else "")
        return _xml(f"<ListBucketResult {_NS}>{head}{contents}{common}</ListBucketResult>")

    def _page(
        self, bucket: str, prefix: str, delimiter: str, after: str, most: int
    ) -> tuple[Sequence[tuple[str, Stored]], Sequence[str], str, bool]:
        items: list[tuple[str, Stored]] = []
        folders: list[str] = []
        last = after
        for name in self.objects.names(bucket, prefix, after):
            cut = name.find(delimiter, len(prefix)) if delimiter else -1
            folder = name[: cut + len(delimiter)] if cut >= 0 else ""
            if folder and (after.startswith(folder) or (folders and folders[-1] == folder)):
                last = name
                continue
            if len(items) + len(folders) >= most:
                return items, folders, last, most > 0
            if folder:
                folders.append(folder)
            elif (stored := self.objects.get(bucket, name)) is not None:
                items.append((name, stored))
            last = name
        return items, folders, last, False

    # -- objects -------------------------------------------------------------------------------------------

    def _object(self, request: Request, bucket: str, key: str) -> Response:
        self._known(bucket)
        if len(key.encode()) > 1024:
            raise Denied("KeyTooLongError", "Your key is too long", 400)
        upload = request.first("uploadId")
        asked = {name for name, _ in request.query}
        match request.method:
            case "GET" if upload:
                return self._parts(bucket, key, upload)
            case "GET" | "HEAD":
                return self._get(request, bucket, key)
            case "PUT" if upload:
                return self._part(request, bucket, key, upload)
            case "PUT" if "x-amz-copy-source" in request.headers:
                return self._copy(request, bucket, key)
            case "PUT":
                return self._put(request, bucket, key, content_of(request))
            case "DELETE" if upload:
                self._upload(bucket, key, upload)
                self.objects.uploads.pop(upload, None)
                return Response(status=204)
            case "DELETE":
                self.objects.remove(bucket, key)
                return Response(status=204)
            case "POST" if "uploads" in asked:
                return self._begin(request, bucket, key)
            case "POST" if upload:
                return self._complete(request, bucket, key, upload)
        raise _wrong_method()

    def _get(self, request: Request, bucket: str, key: str) -> Response:
        stored = self.objects.get(bucket, key)
        if stored is None:
            raise Denied("NoSuchKey", "The specified key does not exist.", 404)
        told = {
            "content-type": "binary/octet-stream",
            **stored.headers,
            "etag": f'"{stored.etag}"',
            "last-modified": formatdate(stored.at // 1_000_000, usegmt=True),
            "accept-ranges": "bytes",
        }
        if not _etag_holds(request.headers.get("if-match"), stored, absent=True):
            raise Denied("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        if "if-none-match" in request.headers and _etag_holds(request.headers["if-none-match"], stored, absent=True):
            return Response(status=304, headers=told)
        start, end = 0, stored.size
        status = 200
        span = _span(request.headers.get("range", ""), stored.size)
        if span is not None:
            start, end = span
            if start >= stored.size:
                raise Denied("InvalidRange", "The requested range is not satisfiable", 416)
            status = 206
            told["content-range"] = f"bytes {start}-{end - 1}/{stored.size}"
        for name, value in request.query:
            if name.startswith("response-"):
                told[name.removeprefix("response-")] = value
        told["content-length"] = str(end - start)
        return Response(status=status, headers=told, body=b"" if request.method == "HEAD" else stored.read(start, end))

    def _put(self, request: Request, bucket: str, key: str, content: bytes) -> Response:
        with self.objects.still():
            self._may_write(request, bucket, key)
            stored = self.objects.put(bucket, key, content, at=self._clock(), headers=_kept(request.headers))
        return Response(status=200, headers={"etag": f'"{stored.etag}"', **_checksums(request.headers)})

    def _may_write(self, request: Request, bucket: str, key: str) -> None:
        before = self.objects.get(bucket, key)
        failed = Denied("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        if "if-none-match" in request.headers and before is not None:
            raise failed
        if "if-match" in request.headers and not (
            before and _etag_holds(request.headers["if-match"], before, absent=False)
        ):
            raise failed if before else Denied("NoSuchKey", "The specified key does not exist.", 404)

    def _copy(self, request: Request, bucket: str, key: str) -> Response:
        source = unquote(request.headers["x-amz-copy-source"]).removeprefix("/").partition("?")[0]
        origin, _, name = source.partition("/")
        self._known(origin)
        found = self.objects.get(origin, name)
        if found is None:
            raise Denied("NoSuchKey", "The specified key does not exist.", 404)
        replaced = request.headers.get("x-amz-metadata-directive", "").upper() == "REPLACE"
        headers = _kept(request.headers) if replaced else found.headers
        stored = self.objects.put(bucket, key, found.read(), at=self._clock(), headers=headers, etag=found.etag)
        told = f"<LastModified>{_iso(stored.at)}</LastModified><ETag>&quot;{stored.etag}&quot;</ETag>"
        return _xml(f"<CopyObjectResult {_NS}>{told}</CopyObjectResult>")

    # -- in parts ------------------------------------------------------------------------------------------

    def _begin(self, request: Request, bucket: str, key: str) -> Response:
        name = uuid.uuid4().hex
        self.objects.uploads[name] = Upload(bucket=bucket, key=key, headers=_kept(request.headers), at=self._clock())
        told = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
        return _xml(f"<InitiateMultipartUploadResult {_NS}>{told}</InitiateMultipartUploadResult>")

    def _part(self, request: Request, bucket: str, key: str, upload: str) -> Response:
        found, number = self._upload(bucket, key, upload), request.first("partNumber")
        if not number.isdecimal() or not 1 <= int(number) <= 10_000:
            raise Denied("InvalidArgument", "Part number must be an integer between 1 and 10000", 400)
        content = content_of(request)
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        found.parts[int(number)] = (etag, content)
        return Response(status=200, headers={"etag": f'"{etag}"', **_checksums(request.headers)})

    def _complete(self, request: Request, bucket: str, key: str, upload: str) -> Response:
        found, asked = self._upload(bucket, key, upload), _asked_parts(content_of(request))
        numbers = [number for number, _ in asked]
        if numbers != sorted(set(numbers)):
            raise Denied("InvalidPartOrder", "The list of parts was not in ascending order.", 400)
        if not numbers or any(number not in found.parts or found.parts[number][0] != etag for number, etag in asked):
            raise Denied("InvalidPart", "One or more of the specified parts could not be found.", 400)
        if any(len(found.parts[number][1]) < self._smallest for number in numbers[:-1]):
            raise Denied("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", 400)
        with self.objects.still():
            self._may_write(request, bucket, key)
            parts = [found.parts[number] for number in numbers]
            joined = hashlib.md5(b"".join(bytes.fromhex(etag) for etag, _ in parts), usedforsecurity=False).hexdigest()
            content = b"".join(part for _, part in parts)
            etag = f"{joined}-{len(parts)}"
            stored = self.objects.put(bucket, key, content, at=self._clock(), headers=found.headers, etag=etag)
            self.objects.uploads.pop(upload, None)
        told = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>&quot;{stored.etag}&quot;</ETag>"
        return _xml(f"<CompleteMultipartUploadResult {_NS}>{told}</CompleteMultipartUploadResult>")

    def _parts(self, bucket: str, key: str, upload: str) -> Response:
        found = self._upload(bucket, key, upload)
        told = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag><Size>{len(content)}</Size></Part>"
            for number, (etag, content) in sorted(found.parts.items())
        )
        head = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
        told += "<IsTruncated>false</IsTruncated>"
        return _xml(f"<ListPartsResult {_NS}>{head}{told}</ListPartsResult>")

    def _upload(self, bucket: str, key: str, name: str) -> Upload:
        found = self.objects.uploads.get(name)
        if found is None or (found.bucket, found.key) != (bucket, key):
            raise Denied("NoSuchUpload", "The specified upload does not exist.", 404)
        return found

    # -- by a form -----------------------------------------------------------------------------------------

    def _form(self, request: Request, bucket: str) -> Response:
        self._known(bucket)
        head = f"content-type: {request.headers['content-type']}\r\n\r\n".encode()
        message = BytesParser(policy=HTTP).parsebytes(head + request.body)
        fields: dict[str, str] = {}
        content, file_name = None, ""
        for part in message.iter_parts():
            name = str(part.get_param("name", header="content-disposition") or "")
            payload = part.get_payload(decode=True)
            value = payload if isinstance(payload, bytes) else b""
            if name == "file":
                content, file_name = value, part.get_filename() or ""
                break  # what comes behind the file is not looked at
            fields[name.lower()] = value.decode("utf-8", "replace")
        if content is None or not fields.get("key"):
            raise Denied("InvalidArgument", "POST requires a key and exactly one file upload per request.", 400)
        check_policy(fields, self._keys, self._now(), bucket=bucket, size=len(content))
        key = fields["key"].replace("${filename}", file_name)
        stored = self.objects.put(bucket, key, content, at=self._clock(), headers=_kept(fields))
        status = (
            int(fields.get("success_action_status", "204"))
            if fields.get("success_action_status") in {"200", "201"}
            else 204
        )
        return Response(
            status=status, headers={"etag": f'"{stored.etag}"', "location": f"{request.host}/{bucket}/{quote(key)}"}
        )


def _asked_parts(body: bytes) -> list[tuple[int, str]]:
    """Number and ETag of each part that an upload is to be made of."""
    try:
        document = Xml.fromstring(body) if b"<!" not in body else None  # noqa: S314 - no entities in it
    except Xml.ParseError:
        document = None
    if document is None:
        raise Denied("MalformedXML", "The XML you provided was not well-formed", 400)
    found: list[tuple[int, str]] = []
    for part in document:
        told = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in part}
        if not re.fullmatch(r"[0-9]{1,5}", told.get("PartNumber", "")):
            raise Denied("MalformedXML", "The XML you provided was not well-formed", 400)
        found.append((int(told["PartNumber"]), told.get("ETag", "").strip('"')))
    return found


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    told = {name: value for name, value in headers.items() if name in _KEPT or name.startswith("x-amz-meta-")}
    if "content-encoding" in told:
        codings = [one.strip() for one in told["content-encoding"].split(",") if one.strip() != "aws-chunked"]
        told["content-encoding"] = ", ".join(codings)
        if not codings:
            del told["content-encoding"]
    return told


def _checksums(headers: Mapping[str, str]) -> dict[str, str]:
    """What boto3 compares with what it sent."""
    return {
        name: value
        for name, value in headers.items()
        if re.fullmatch(r"x-amz-checksum-(crc32c?|sha1|sha256|crc64nvme)", name)
    }


def _etag_holds(wanted: str | None, stored: Stored, *, absent: bool) -> bool:
    if wanted is None:
        return absent
    return any(one.strip().strip('"') in {"*", stored.etag} for one in wanted.split(","))


def _span(text: str, size: int) -> tuple[int, int] | None:
    """Start and end of a range; None: none that is understood, so all of it. A start beyond the end is told as such."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if not found or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _xml(text: str, status: int = 200) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(status=status, headers={"content-type": "application/xml"}, body=body)


def _wrong_method() -> Denied:
    return Denied("MethodNotAllowed", "The specified method is not allowed against this resource.", 405)


def _error(denied: Denied, request: Request) -> Response:
    told = (
        f"<Code>{denied.code}</Code><Message>{escape(str(denied))}</Message><Resource>{escape(request.path)}</Resource>"
    )
    answer = _xml(f"<Error>{told}<RequestId>sandbox</RequestId></Error>", denied.status)
    return Response(status=answer.status, headers=answer.headers) if request.method == "HEAD" else answer
