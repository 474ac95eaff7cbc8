"""Why a transfer ended without."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.errands import TransferFailure
from connectors.errors import Fault, UnsafePath

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One end of a transfer."""

    site: str
    root: Path
    absent: str
    """What an absent file means on this side, in two words."""
    absent_fault: Fault

    def failure(self, reason: str, fault: Fault) -> TransferFailure:
        return TransferFailure(reason, fault=fault, site=self.site)

    @contextmanager
    def blamed(self, path: str) -> Iterator[None]:
        """What goes wrong inside, with this path, is this side's fault."""
        try:
            yield
        except UnsafePath as error:
            raise self.failure(f"unsafe path: {error}", Fault.STAGING) from error
        except OSError as error:
            raise self._translated(path, error) from error

    def _translated(self, path: str, error: OSError) -> TransferFailure:
        if error.errno in _FULL:
            return self.failure(f"no space for {path}: {error.strerror}", Fault.QUOTA)
        if error.errno == errno.EFBIG:
            return self.failure(f"too large for the file system: {path} ({error.strerror})", Fault.QUOTA)
        if not self.root.is_dir():
            return self.failure(f"the root {self.root} is gone", Fault.SITE)
        if error.errno in _ABSENT:
            return self.failure(f"{self.absent}: {path} ({error.strerror})", self.absent_fault)
        return self.failure(f"{path}: {error.strerror}", Fault.SITE)


def source_side(site: str, root: Path) -> Side:
    return Side(site=site, root=root, absent="source missing", absent_fault=Fault.STAGING)


def destination_side(site: str, root: Path) -> Side:
    return Side(site=site, root=root, absent="destination vanished", absent_fault=Fault.SITE)
