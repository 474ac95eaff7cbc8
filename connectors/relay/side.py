"""The two ends of a relay, and whose fault it is when something goes wrong at one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from connectors.errands import TransferFailure
from connectors.errors import Fault, SiteError, UnsafePath
from connectors.model import FileInfo


class Source(Protocol):
    """As much of `connectors.base.SiteFiles` as reading takes."""

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes: ...
    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]: ...
    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]: ...
    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]: ...


@dataclass(frozen=True, slots=True)
class Side:
    """One end, by the name that transfers call it."""

    site: str

    def failure(self, reason: str, fault: Fault = Fault.STAGING) -> TransferFailure:
        return TransferFailure(reason, fault=fault, site=self.site)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """What this site says inside is its fault. What time may cure is the site's, what it refuses is staging's:
        asking for that again would change nothing."""
        try:
            yield
        except UnsafePath as error:
            raise self.failure(f"unsafe path: {error}") from error
        except SiteError as error:
            lasting = error.fault is Fault.SITE and not error.transient
            raise self.failure(str(error), Fault.STAGING if lasting else error.fault) from error
