"""Foreign workflow documents, read into our own language. One file per format."""

from __future__ import annotations

from broker.formats.fault import ImportFault
from broker.formats.wfformat import ImportedWorkflow, import_wfformat, looks_like_wfformat

__all__ = ["ImportFault", "ImportedWorkflow", "import_wfformat", "looks_like_wfformat"]
