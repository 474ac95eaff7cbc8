"""What a finished transfer leaves at its destination: `incoming/<key>.done`."""

from __future__ import annotations

from connectors.errands import LARGEST_RECEIPT, Receipt, receipt_from
from connectors.tree import Tree

INCOMING = "incoming"


class Receipts:
    """The receipts below one root."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def get(self, key: str) -> Receipt | None:
        """None also for one that cannot be read. Raises OSError for a sick disk."""
        try:
            return receipt_from(self._tree.read(_path(key), limit=LARGEST_RECEIPT))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def put(self, key: str, receipt: Receipt) -> None:
        self._tree.write(_path(key), receipt.content())


def _path(key: str) -> str:
    return f"{INCOMING}/{key}.done"
