"""What goes wrong with a task, in the words that Globus' events have for it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from connectors.errors import UnsafePath

DEAD = "CONNECT_FAILED"
SKIPPABLE = frozenset({"PERMISSION_DENIED", "FILE_NOT_FOUND"})
"""At the source, with `skip_source_errors`."""
QUOTA = frozenset({"QUOTA_EXCEEDED", "NO_SPACE_LEFT"})
FATAL = frozenset({"EXTERNAL_CHECKSUM_MISMATCH"})
"""No second try."""

SHORT = {
    "CONNECT_FAILED": "connection failed",
    "CONNECTION_BROKEN": "connection broken",
    "CONNECTION_RESET": "connection reset",
    "GC_NOT_CONNECTED": "not connected",
    "GC_PAUSED": "paused",
    "TIMEOUT": "timed out",
    "ENDPOINT_ERROR": "endpoint error",
    "ENDPOINT_TOO_BUSY": "endpoint too busy",
    "AUTH": "authentication failed",
    "NO_CREDENTIALS": "credentials expired",
    "FILE_NOT_FOUND": "file not found",
    "FILE_SIZE_CHANGED": "file size changed",
    "VERIFY_CHECKSUM": "checksum verification failed",
    "EXTERNAL_CHECKSUM_MISMATCH": "external checksum mismatch",
    "INVALID_PATH_NAME": "invalid path name",
    "IS_A_DIRECTORY": "is a directory",
    "NOT_A_DIRECTORY": "not a directory",
    "INVALID_SYMLINK": "invalid symlink",
    "QUOTA_EXCEEDED": "quota exceeded",
    "NO_SPACE_LEFT": "no space left",
    "PERMISSION_DENIED": "permission denied",
}

_CODES = {
    errno.ENOENT: "FILE_NOT_FOUND",
    errno.EACCES: "PERMISSION_DENIED",
    errno.EPERM: "PERMISSION_DENIED",
    errno.EROFS: "PERMISSION_DENIED",
    errno.ENOSPC: "NO_SPACE_LEFT",
    errno.EDQUOT: "QUOTA_EXCEEDED",
    errno.EISDIR: "IS_A_DIRECTORY",
    errno.ENOTDIR: "NOT_A_DIRECTORY",
    errno.ELOOP: "INVALID_SYMLINK",
    errno.ENAMETOOLONG: "INVALID_PATH_NAME",
}


class Trouble(Exception):
    """One fault. The task goes on trying, unless the code is fatal."""

    def __init__(self, code: str, text: str, *, side: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.side = side
        """source, destination, or empty: neither."""

    @property
    def short(self) -> str:
        return SHORT.get(self.code, self.code.lower().replace("_", " "))


@contextmanager
def told(side: str = "") -> Iterator[None]:
    """The system's errors, and those of paths, as troubles of that side."""
    try:
        yield
    except UnsafePath as error:
        # a link that leads out is what the field's servers call a path that is not allowed
        code = "PERMISSION_DENIED" if " link" in str(error) else "INVALID_PATH_NAME"
        raise Trouble(code, str(error)[:300], side=side) from error
    except OSError as error:
        code = _CODES.get(error.errno or 0, "ENDPOINT_ERROR")
        raise Trouble(code, error.strerror or "Error", side=side) from error
