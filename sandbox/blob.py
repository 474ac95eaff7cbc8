"""A file's content without its bytes: a head, and zeros up to its size.

So a checkpoint of a gigabyte costs a hundred bytes of memory, and its SHA-256 is still that of the real bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Blob:
    """`head` and as many zero bytes as are missing to `size`."""

    head: bytes
    size: int
    modified_at: int = 0

    def read(self, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset` (negative: from the end)."""
        if offset == 0 and len(self.head) == self.size <= limit:
            return self.head
        start = max(0, self.size + offset) if offset < 0 else min(offset, self.size)
        stop = min(self.size, start + max(0, limit))
        part = self.head[start:stop]
        return part + bytes(stop - start - len(part))

    def whole(self) -> bytes:
        return self.read(0, self.size)

    def cut(self, size: int) -> Blob:
        """The same content, ending early."""
        return Blob(self.head[:size], min(size, self.size), self.modified_at)

    @property
    def sha256(self) -> str:
        """Of the content as a reader would see it; about half a second per gigabyte, remembered."""
        return _digest(self.head, self.size)


def blob_of(content: bytes, now: int) -> Blob:
    return Blob(content, len(content), now)


@lru_cache(maxsize=4096)
def _digest(head: bytes, size: int) -> str:
    digest = hashlib.sha256(head)
    missing = size - len(head)
    while missing > 0:
        digest.update(_ZEROS[:missing] if missing < len(_ZEROS) else _ZEROS)
        missing -= len(_ZEROS)
    return digest.hexdigest()
