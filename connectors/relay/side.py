"""The two ends of a relay, and whose fault it is when something goes wrong at one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from connectors.errands import TransferFailure, blamed
from connectors.errors import Fault
from connectors.model import FileInfo


@runtime_checkable
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

    def blamed(self) -> AbstractContextManager[None]:
        """What this site says inside is its fault."""
        return blamed(self.site)
