"""What a finished transfer leaves at its destination: `incoming/<key>.done`."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass

from connectors.model import Transfer
from connectors.tree import Tree, read_at

INCOMING = "incoming"
_LARGEST = 1 << 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Everything of the transfer with this digest is in place. `moved` is bytes, `at` microseconds."""

    digest: str
    moved: int
    at: int


class Receipts:
    """The receipts below one root."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def get(self, key: str) -> Receipt | None:
        """One that cannot be read counts as none: the transfer is done again. Raises OSError for a sick disk."""
        try:
            fd = self._tree.open(_path(key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            values = json.loads(read_at(fd, offset=0, limit=_LARGEST))
            return Receipt(digest=str(values["digest"]), moved=int(values["moved"]), at=int(values["at"]))
        except (ValueError, TypeError, KeyError, RecursionError):
            return None
        finally:
            os.close(fd)

    def put(self, key: str, receipt: Receipt) -> None:
        self._tree.write(_path(key), json.dumps(asdict(receipt)).encode())


def transfer_digest(transfer: Transfer) -> str:
    """Tells two transfers apart that came under one key; the label does not count."""
    values = asdict(transfer)
    del values["label"]
    values["items"] = list(values["items"])
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _path(key: str) -> str:
    return f"{INCOMING}/{key}.done"
