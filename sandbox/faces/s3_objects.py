"""What an object store keeps: buckets, objects, and uploads in parts. Knows nothing of HTTP."""

from __future__ import annotations

import bisect
import hashlib
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from connectors.errors import NotThere, UnsafePath
from sandbox.facility import FacilityFiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """One object. `at`: µs."""

    size: int
    etag: str
    """Without quotes."""
    at: int
    headers: Mapping[str, str]
    """What is told with it: content-type, x-amz-meta-*, ..."""
    content: bytes | Path

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Bytes from `start` up to, not including, `end`."""
        if isinstance(self.content, bytes):
            return self.content[start:end]
        with self.content.open("rb") as stream:
            stream.seek(start)
            return stream.read() if end is None else stream.read(max(0, end - start))


@dataclass(slots=True)
class Upload:
    """An object that comes in parts."""

    bucket: str
    key: str
    headers: Mapping[str, str]
    at: int = 0
    """When it was begun, in µs."""
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


class ObjectStore(Protocol):
    """What a face needs."""

    uploads: dict[str, Upload]

    def still(self) -> AbstractContextManager[None]:
        """Nothing changes meanwhile: for what looks first and writes then."""
        ...

    def buckets(self) -> list[str]: ...
    def create(self, bucket: str) -> bool:
        """False: it is there already."""
        ...

    def drop(self, bucket: str) -> bool:
        """False: it is not empty."""
        ...

    def has(self, bucket: str) -> bool: ...
    def get(self, bucket: str, key: str) -> Stored | None: ...
    def put(
        self, bucket: str, key: str, content: bytes, *, at: int, headers: Mapping[str, str], etag: str = ""
    ) -> Stored: ...
    def remove(self, bucket: str, key: str) -> None: ...
    def names(self, bucket: str, prefix: str, after: str = "") -> list[str]:
        """Keys that begin so, in order, from behind `after`."""
        ...


class Objects:
    """Buckets in memory; with `folder` the contents lie there as files. Thread-safe."""

    def __init__(self, buckets: Sequence[str] = (), *, folder: Path | None = None) -> None:
        self.uploads: dict[str, Upload] = {}
        self._buckets: dict[str, dict[str, Stored]] = {name: {} for name in buckets}
        self._sorted: dict[str, list[str]] = {name: [] for name in buckets}
        self._folder = folder
        self._lock = threading.RLock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Nothing changes meanwhile: for what looks first and writes then."""
        with self._lock:
            yield

    def buckets(self) -> list[str]:
        return sorted(self._buckets)

    def create(self, bucket: str) -> bool:
        with self._lock:
            if bucket in self._buckets:
                return False
            self._buckets[bucket], self._sorted[bucket] = {}, []
            return True

    def drop(self, bucket: str) -> bool:
        """False: it is not empty."""
        with self._lock:
            if self._buckets.get(bucket):
                return False
            self._buckets.pop(bucket, None)
            self._sorted.pop(bucket, None)
            return True

    def has(self, bucket: str) -> bool:
        return bucket in self._buckets

    def get(self, bucket: str, key: str) -> Stored | None:
        return self._buckets.get(bucket, {}).get(key)

    def put(
        self, bucket: str, key: str, content: bytes, *, at: int, headers: Mapping[str, str], etag: str = ""
    ) -> Stored:
        held: bytes | Path = content
        if self._folder is not None:
            held = self._folder / uuid.uuid4().hex
            held.write_bytes(content)
        digest = etag or hashlib.md5(content, usedforsecurity=False).hexdigest()
        stored = Stored(size=len(content), etag=digest, at=at, headers=headers, content=held)
        with self._lock:
            before = self._buckets[bucket].get(key)
            if before is None:
                bisect.insort(self._sorted[bucket], key)
            self._buckets[bucket][key] = stored
        _forget(before)
        return stored

    def remove(self, bucket: str, key: str) -> None:
        with self._lock:
            before = self._buckets.get(bucket, {}).pop(key, None)
            if before is not None:
                names = self._sorted[bucket]
                del names[bisect.bisect_left(names, key)]
        _forget(before)

    def names(self, bucket: str, prefix: str, after: str = "") -> list[str]:
        """Keys that begin so, in order, from behind `after`."""
        with self._lock:
            names = self._sorted[bucket]
            start = max(bisect.bisect_left(names, prefix), bisect.bisect_right(names, after) if after else 0)
            end = start
            while end < len(names) and names[end].startswith(prefix):
                end += 1
            return names[start:end]


class FacilityObjects:
    """One bucket whose objects are a facility's files, key for path: where payloads are simulated, what they leave
    among the files is seen in the bucket at once."""

    def __init__(self, bucket: str, files: FacilityFiles) -> None:
        self.uploads: dict[str, Upload] = {}
        self._bucket, self._files = bucket, files
        self._headers: dict[str, tuple[str, Mapping[str, str]]] = {}
        """Of objects that are as they were put: etag and headers."""
        self._lock = threading.RLock()

    @contextmanager
    def still(self) -> Iterator[None]:
        with self._lock:
            yield

    def buckets(self) -> list[str]:
        return [self._bucket]

    def create(self, bucket: str) -> bool:  # noqa: ARG002 - there is but one
        return False

    def drop(self, bucket: str) -> bool:  # noqa: ARG002
        return False

    def has(self, bucket: str) -> bool:
        return bucket == self._bucket

    def get(self, bucket: str, key: str) -> Stored | None:
        path = f"{self._files.root}/{key}"
        try:
            info = self._files.stat(path)
            if not self.has(bucket) or info.is_dir or key.endswith("/"):
                return None
            content = self._files.read(path)
        except (NotThere, UnsafePath):
            return None
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        put_as, headers = self._headers.get(key, ("", {}))
        told = headers if put_as == etag else {}
        return Stored(size=len(content), etag=etag, at=info.modified_at, headers=told, content=content)

    def put(
        self,
        bucket: str,  # noqa: ARG002
        key: str,
        content: bytes,
        *,
        at: int,
        headers: Mapping[str, str],
        etag: str = "",  # noqa: ARG002 - what lies there is read anew
    ) -> Stored:
        self._files.write(f"{self._files.root}/{key}", content)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        self._headers[key] = digest, headers
        return Stored(size=len(content), etag=digest, at=at, headers=headers, content=content)

    def remove(self, bucket: str, key: str) -> None:
        if self.get(bucket, key) is not None:
            self._files.remove(f"{self._files.root}/{key}")

    def names(self, bucket: str, prefix: str, after: str = "") -> list[str]:
        folder = prefix.rpartition("/")[0]
        try:
            listed = self._files.list(f"{self._files.root}/{folder}".rstrip("/"), recursive=True)
        except (NotThere, UnsafePath):
            return []
        above = f"{folder}/" if folder else ""
        names = sorted(f"{above}{info.path}" for info in listed if not info.is_dir)
        return [name for name in names if self.has(bucket) and name.startswith(prefix) and name > after]


def _forget(before: Stored | None) -> None:
    if before is not None and isinstance(before.content, Path):
        before.content.unlink(missing_ok=True)
