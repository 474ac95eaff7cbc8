"""Objects that go up in parts: nothing of one is seen before it is completed, and then all of it.

Each part is signed with its SHA-256, so that the store refuses one that was changed on its way. What is begun and
neither completed nor aborted costs money and is seen in no listing of objects; `pending` finds it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

from connectors.errors import BadReply, SiteUnreachable
from connectors.files.bucket import MOST, BucketFiles, moment, tag, text
from connectors.http import Refusal, Reply

LEAST, MOST_PARTS = 16 << 20, 9_000
"""Bytes of a part, and how many an object may have (stores take 5 MiB to 5 GiB, and 10 000)."""
LARGEST = 5 << 40
"""Bytes of an object."""
SECONDS = 600.0
"""For one part, with all its tries."""
_BEGUN, _DONE, _PENDING = "InitiateMultipartUploadResult", "CompleteMultipartUploadResult", "ListMultipartUploadsResult"


def part_size(size: int, *, least: int = LEAST) -> int:
    """Of each part of an object that is no larger than `LARGEST`, the last one excepted."""
    return max(least, math.ceil(size / MOST_PARTS))


def too_large(path: str, size: int) -> str:
    """Why no store takes it as one object; empty: it is not too large."""
    return f"too large: {path} has {size} bytes, a store takes {LARGEST} an object" if size > LARGEST else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One that is neither completed nor aborted. `begun`: µs, 0: not told."""

    path: str
    name: str
    begun: int = 0


class Parts:
    """Uploads in parts to a site's bucket. Keeps no state."""

    def __init__(self, bucket: BucketFiles, *, site: str) -> None:
        self._bucket, self._site = bucket, site

    def begin(self, path: str, *, sha256: str, mode: int) -> Upload:
        """`sha256`: of the whole object, told to whoever asks for it."""
        headers = {
            "content-type": "application/octet-stream",
            "x-amz-meta-sha256": sha256,
            "x-amz-meta-mode": f"{mode & 0o777:o}",
        }
        reply = self._bucket.ask("POST", path, query={"uploads": ""}, headers=headers)
        name = text(self._answer(reply, _BEGUN), "UploadId")
        if not 0 < len(name) <= 1024:
            raise BadReply(f"{self._site}: the store began an upload without a name", site=self._site)
        return Upload(path=path, name=name)

    def put(self, upload: Upload, number: int, content: bytes) -> str:
        """One part, counted from 1; its ETag. Safe to repeat, and repeated where no answer comes."""
        query = {"partNumber": str(number), "uploadId": upload.name}
        reply = self._bucket.ask("PUT", upload.path, query=query, body=content, safe=True, deadline=SECONDS)
        self._bucket.own(reply)
        return reply.headers["etag"]

    def complete(self, upload: Upload, etags: Sequence[str]) -> None:
        """From now on it is there, whole. Where no answer comes it may be: look, then."""
        told = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
            for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{told}</CompleteMultipartUpload>".encode()
        headers = {"content-type": "application/xml"}
        reply = self._bucket.ask(
            "POST", upload.path, query={"uploadId": upload.name}, headers=headers, body=body, deadline=SECONDS
        )
        self._answer(reply, _DONE)

    def abort(self, upload: Upload) -> None:
        """Give it up. One that is not there any more is fine."""
        self._bucket.ask("DELETE", upload.path, query={"uploadId": upload.name}, accept=(404,), safe=True)

    def pending(self) -> Iterator[Upload]:
        """All below the site's prefix that is neither completed nor aborted."""
        prefix = self._bucket.place.prefix
        query = {"uploads": "", "encoding-type": "url", "prefix": prefix}
        for _ in range(MOST // 1_000):
            page = self._answer(self._bucket.ask("GET", "", query=query), _PENDING)
            for found in page:
                key = unquote_plus(text(found, "Key"))
                if tag(found) == "Upload" and key.startswith(prefix):
                    begun = moment(text(found, "Initiated"))
                    yield Upload(path=key.removeprefix(prefix), name=text(found, "UploadId"), begun=begun)
            if text(page, "IsTruncated") != "true":
                return
            query["key-marker"] = unquote_plus(text(page, "NextKeyMarker"))
            query["upload-id-marker"] = text(page, "NextUploadIdMarker")
        raise BadReply(f"{self._site}: the listing of uploads does not end", site=self._site)

    def _answer(self, reply: Reply, name: str) -> Element:
        """Stores begin to answer 200 before they know, and put the error into the body then."""
        found = self._bucket.xml(reply)
        if tag(found) == "Error":
            code = text(found, "Code")[:60]
            if code in {"InternalError", "ServiceUnavailable", "SlowDown"}:
                raise SiteUnreachable(f"{self._site}: the store says {code}", site=self._site)
            detail = text(found, "Message")[:200]
            raise Refusal(f"{self._site}: {code} {detail}", site=self._site, status=reply.status, detail=code)
        if tag(found) != name:
            raise BadReply(f"{self._site}: this is no answer of an S3 store", site=self._site)
        return found
