"""Small files in a bucket of an S3-compatible store: what stands in for a site's disk where it has none.

    s3://BUCKET/PREFIX/<path>         one object per file; its metadata holds sha256 and mode
    s3://BUCKET/PREFIX/.crossfade-site    says that this is the place we know

Options of a site with `files: bucket`: its `root` is `s3://BUCKET/PREFIX`; `endpoint` (the store's address; none: AWS),
`region`. Credentials: `access_key`, `secret_key`, `session_token`, or as AWS's own tools find theirs.

An object's sha256 is believed: whoever wrote it had signed it, and the store refuses a body with another digest.
"""

from __future__ import annotations

import base64
import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from urllib.parse import unquote_plus, urlsplit
from xml.etree import ElementTree as Xml
from xml.sax.saxutils import escape

import httpx

from connectors.errors import (
    BadReply,
    CredentialError,
    NotThere,
    QuotaError,
    RequestRefused,
    SiteUnreachable,
    UnsafePath,
)
from connectors.files.signing import EMPTY, Keys, encoded, keys_from, query_of, sign
from connectors.http import Http, Reply
from connectors.model import FileInfo, SmallFile
from connectors.paths import RESERVED, clean, file_path
from connectors.registry import Clock, SiteConfig

LARGEST = 64 << 20
"""Bytes of one write."""
CHUNK = 16 << 20
MOST = 200_000
"""Entries of a listing."""
AT_ONCE = 8
MARKER = ".crossfade-site"
_ROOT = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/([\w!.*'()/ +=@:,-]*))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MISSING = frozenset({"NoSuchBucket"})
_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the objects are."""

    bucket: str
    prefix: str
    """Empty, or ending in `/`."""
    endpoint: str
    region: str


class BucketFiles:
    """The port SiteFiles over a bucket. Keeps no state but connections."""

    def __init__(
        self,
        *,
        site: str,
        place: Place,
        keys: Keys,
        clock: Clock,
        transport: httpx.BaseTransport | None = None,
        deadline: float = 30.0,
    ) -> None:
        self.place = place
        self.keys = keys
        self._site, self._clock = site, clock
        parts = urlsplit(place.endpoint)
        self._host = parts.netloc
        self._http = Http(
            f"{parts.scheme}://{parts.netloc}",
            site=site,
            transport=transport,
            deadline=deadline,
            limit=CHUNK + (1 << 20),
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    # -- the port ------------------------------------------------------------------------------------------

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        key = file_path(path)
        if limit <= 0:
            self._size(key)
            return b""
        if offset < 0 and -offset > limit:
            offset = max(0, self._size(key) + offset)
        parts: list[bytes] = []
        if offset < 0:
            return self._range(key, f"bytes={offset}")[:limit]
        while limit > 0:
            part = self._range(key, f"bytes={offset}-{offset + min(limit, CHUNK) - 1}")[:limit]
            parts.append(part)
            if len(part) < min(limit, CHUNK):
                break
            offset, limit = offset + len(part), limit - len(part)
        return b"".join(parts)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        def one(path: str) -> bytes | None:
            try:
                return self.read(path, limit=limit)
            except NotThere:
                return None

        for path in paths:
            file_path(path)
        found = zip(paths, self.each(one, paths), strict=True)
        return {path: content for path, content in found if content is not None}

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self._put(writable(path), content, mode=mode)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        for file in files:
            writable(file.path)
        self.each(lambda file: self._put(writable(file.path), file.content, mode=file.mode), files)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        folder = clean(path)
        found = sorted(self._listed(f"{folder}/" if folder else "", recursive=recursive), key=lambda info: info.path)
        return [info for info in found if not _hidden(info.path)]

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        for path in paths:
            file_path(path)
        found = zip(paths, self.each(self._digest, paths), strict=True)
        return {path: digest for path, digest in found if digest is not None}

    def remove(self, paths: Sequence[str]) -> None:
        keys = [writable(path) for path in paths]
        for at in range(0, len(keys), 1000):
            self._remove(keys[at : at + 1000])

    # -- beside the port -----------------------------------------------------------------------------------

    def put_new(self, path: str, content: bytes) -> bool:
        """Create the file, unless it is there: True: it was made by this very call. One atomic step at the store.

        Raises SiteUnreachable with `effect_possible` where that is not known: read it, then.
        """
        return self._put(writable(path), content, mode=0o600, only_new=True)

    def prepare(self) -> str:
        """Mark the place, once in its life; answers its identity. Raises RequestRefused, CredentialError."""
        self._put(MARKER, f"{uuid.uuid4().hex}\n".encode(), mode=0o600, only_new=True)
        return self._range(MARKER, "bytes=0-99").decode("ascii", "replace").strip()

    def check(self) -> None:
        """Raises unless the bucket answers and lists."""
        self.ask("GET", "", query={"list-type": "2", "max-keys": "1", "prefix": self.place.prefix})

    def key_of(self, path: str) -> str:
        """The object's key behind a path of the site."""
        return self.place.prefix + clean(path)

    # -- one call each -------------------------------------------------------------------------------------

    def _range(self, key: str, span: str) -> bytes:
        reply = self.ask("GET", key, headers={"range": span}, accept=(404, 416))
        if reply.status == 404:
            raise NotThere(f"{self._site}: no file {key}", site=self._site)
        if reply.status == 416:
            return b""  # beyond its end
        if reply.status != 206 or "etag" not in reply.headers:
            raise BadReply(f"{self._site}: a part of {key} was asked for, and something else came", site=self._site)
        return reply.content

    def head(self, key: str) -> Reply | None:
        """What the store tells of an object; None: it is not there."""
        reply = self.ask("HEAD", key, accept=(404,))
        if reply.status == 404:
            return None
        self.own(reply)
        return reply

    def own(self, reply: Reply) -> None:
        """Is it the store's own answer? A sign-in page has a 200, too."""
        if "etag" not in reply.headers:
            raise BadReply(f"{self._site}: this is no answer of an S3 store", site=self._site)

    def _size(self, key: str) -> int:
        reply = self.head(key)
        if reply is None:
            raise NotThere(f"{self._site}: no file {key}", site=self._site)
        return self.length(reply)

    def length(self, reply: Reply) -> int:
        """The object's size."""
        told = reply.headers.get("content-length", "")
        if not told.isascii() or not told.isdecimal():
            raise BadReply(f"{self._site}: the store told no size", site=self._site)
        return int(told)

    def _digest(self, path: str) -> tuple[int, str] | None:
        key = file_path(path)
        reply = self.head(key)
        if reply is None:
            return None
        size, told = self.length(reply), reply.headers.get("x-amz-meta-sha256", "")
        if _SHA256.fullmatch(told):
            return size, told
        computed = hashlib.sha256()
        for offset in range(0, size, CHUNK):
            part = self._range(key, f"bytes={offset}-{offset + CHUNK - 1}")
            computed.update(part)
            if not part or len(part) < min(CHUNK, size - offset):
                return None  # replaced meanwhile: not the file that was asked about
        return size, computed.hexdigest()

    def _put(self, key: str, content: bytes, *, mode: int, only_new: bool = False) -> bool:
        if len(content) > LARGEST:
            raise RequestRefused(f"{self._site}: {key} has {len(content)} bytes; at most {LARGEST}", site=self._site)
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "content-type": "application/octet-stream",
            "x-amz-meta-sha256": digest,
            "x-amz-meta-mode": f"{mode & 0o777:o}",
        }
        if only_new:
            headers["if-none-match"] = "*"
        reply = self.ask("PUT", key, headers=headers, body=content, accept=(409, 412) if only_new else ())
        if reply.status == 409:  # another one is about to write it, or has just
            what = f"{self._site}: {key} is being written by another one"
            raise SiteUnreachable(what, site=self._site)
        if reply.status != 412:
            self.own(reply)
        return reply.status != 412

    def _remove(self, keys: Sequence[str]) -> None:
        if not keys:
            return
        objects = "".join(f"<Object><Key>{escape(self.place.prefix + key)}</Key></Object>" for key in keys)
        body = f"<Delete><Quiet>true</Quiet>{objects}</Delete>".encode()
        check = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        headers = {"content-md5": check, "content-type": "application/xml"}
        reply = self.ask("POST", "", query={"delete": ""}, headers=headers, body=body)
        for failed in self.xml(reply).iter():
            if tag(failed) == "Error":
                code, name = text(failed, "Code"), text(failed, "Key")
                raise RequestRefused(f"{self._site}: {name[:200]} was not removed ({code[:60]})", site=self._site)

    def _listed(self, folder: str, *, recursive: bool) -> Iterator[FileInfo]:
        query = {"list-type": "2", "encoding-type": "url", "prefix": self.place.prefix + folder}
        if not recursive:
            query["delimiter"] = "/"
        count = 0
        while True:
            page = self.xml(self.ask("GET", "", query=query))
            for info in self._infos(page, folder):
                count += 1
                yield info
            more = text(page, "NextContinuationToken")
            if text(page, "IsTruncated") != "true":
                return
            if not more or count > MOST:
                raise BadReply(f"{self._site}: the listing of {folder or '/'} does not end", site=self._site)
            query["continuation-token"] = more

    def _infos(self, page: Xml.Element, folder: str) -> Iterator[FileInfo]:
        for item in page:
            kind = tag(item)
            if kind not in {"Contents", "CommonPrefixes"}:
                continue
            name = unquote_plus(text(item, "Key" if kind == "Contents" else "Prefix"))
            path = name.removeprefix(self.place.prefix)
            if not name.startswith(self.place.prefix + folder) or path == folder:
                continue  # the folder itself, as some tools mark it
            try:
                cleaned = clean(path)
            except UnsafePath:
                continue  # no name that we, or a job of ours, would have given
            if cleaned != path.rstrip("/"):
                continue
            if kind == "CommonPrefixes" or path.endswith("/"):
                yield FileInfo(path=cleaned, size=0, is_dir=True)
            else:
                size, at = text(item, "Size"), text(item, "LastModified")
                yield FileInfo(path=cleaned, size=int(size) if size.isdecimal() else 0, modified_at=moment(at))

    def ask(
        self,
        method: str,
        key: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        accept: tuple[int, ...] = (),
        safe: bool | None = None,
        deadline: float | None = None,
    ) -> Reply:
        """One signed call for the object behind a path of the site; "" is the bucket. See `Http.ask`."""
        name = f"/{self.place.bucket}"
        if key:
            name += f"/{self.place.prefix}{key}"
        path, asked = encoded(name), query_of(query or {})
        digest = hashlib.sha256(body).hexdigest() if body else EMPTY
        signed = sign(
            method,
            path,
            asked,
            {**(headers or {}), "host": self._host},
            pair=self.keys(),
            region=self.place.region,
            digest=digest,
            now=self._clock(),
        )
        content = body if method in {"PUT", "POST"} else None
        url = f"{path}?{asked}" if asked else path
        reply = self._http.ask(
            method,
            url,
            headers=signed,
            content=content,
            accept={*accept, 403, 404},
            safe=safe,
            deadline=deadline,
        )
        if reply.status in {403, 404}:
            self._refused(method, key, reply, accept)
        return reply

    def _refused(self, method: str, key: str, reply: Reply, accept: tuple[int, ...]) -> None:
        code, told = "", ""
        if reply.content:
            try:
                error = self.xml(reply)
                code, told = text(error, "Code")[:60], text(error, "Message")[:200]
            except BadReply:
                code = "no S3 answer"
        what = f"{self._site}: {method} {key or self.place.bucket}: {code or reply.status} {told}".rstrip()
        if reply.status == 403:
            if code in {"EntityTooLarge", "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded"}:
                raise QuotaError(what, site=self._site)
            raise CredentialError(what, site=self._site)
        if code in _MISSING:
            raise SiteUnreachable(f"{self._site}: there is no bucket {self.place.bucket}", site=self._site)
        if 404 not in accept or code == "no S3 answer":
            raise BadReply(what, site=self._site)

    def xml(self, reply: Reply) -> Xml.Element:
        """The answer's document; raises BadReply."""
        if b"<!DOCTYPE" in reply.content[:1000] or b"<!ENTITY" in reply.content:
            raise BadReply(f"{self._site}: the store's answer is no S3 answer", site=self._site)
        try:
            return Xml.fromstring(reply.content)  # noqa: S314 - without entities, and of bounded size
        except (Xml.ParseError, ValueError, LookupError) as error:
            raise BadReply(f"{self._site}: the store's answer is no XML", site=self._site) from error

    def each(self, do: Callable[[_T], _R], items: Sequence[_T]) -> Iterable[_R]:
        """For all of them, several at once; the first error is raised when all that were begun have ended."""
        if len(items) < 2:
            return [do(item) for item in items]
        with ThreadPoolExecutor(min(AT_ONCE, len(items)), thread_name_prefix="bucket") as pool:
            return list(pool.map(do, items))


def bucket_files(config: SiteConfig, clock: Clock, *, transport: httpx.BaseTransport | None = None) -> BucketFiles:
    """From a site's entry. Raises RequestRefused, naming what is wrong."""
    place = place_of(config)
    keys = keys_from(config.credentials, site=config.name)
    return BucketFiles(site=config.name, place=place, keys=keys, clock=clock, transport=transport)


def place_of(config: SiteConfig) -> Place:
    """Where a site's files are. Raises RequestRefused."""
    found = _ROOT.fullmatch(config.root)
    if not found:
        raise RequestRefused(f"site {config.name}: root is {config.root!r}; give s3://BUCKET/PREFIX", site=config.name)
    prefix = clean((found[2] or "").strip("/"))
    region, endpoint = config.options.get("region", "us-east-1"), config.options.get("endpoint", "")
    if not isinstance(region, str) or not re.fullmatch(r"[a-z0-9-]{1,40}", region):
        raise RequestRefused(f"site {config.name}: option region is {region!r}; give a name like us-east-1")
    if not isinstance(endpoint, str):
        raise RequestRefused(f"site {config.name}: option endpoint is {endpoint!r}; give an address")
    endpoint = endpoint or f"https://s3.{region}.amazonaws.com"
    if not re.fullmatch(r"https?://[\w.:\[\]-]+/?", endpoint):
        raise RequestRefused(f"site {config.name}: option endpoint is {endpoint!r}; give https://HOST[:PORT]")
    return Place(bucket=found[1], prefix=f"{prefix}/" if prefix else "", endpoint=endpoint.rstrip("/"), region=region)


def writable(path: str) -> str:
    """The cleaned path of a file that is not our own. Raises UnsafePath."""
    cleaned = file_path(path)
    if cleaned.split("/", 1)[0] in RESERVED:
        raise UnsafePath(f"path {path!r} belongs to the site's own records; choose another")
    return cleaned


def _hidden(path: str) -> bool:
    return path == MARKER


def tag(element: Xml.Element) -> str:
    """Its name without the namespace."""
    return element.tag.rpartition("}")[2]


def text(element: Xml.Element, name: str) -> str:
    """What the child of that name holds; "": nothing, or there is none."""
    return next((child.text or "" for child in element if tag(child) == name), "")


def moment(text: str) -> int:
    """µs, of `2026-01-02T03:04:05.000Z`."""
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1e6)
    except (ValueError, OverflowError):
        return 0
