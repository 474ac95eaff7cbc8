"""What Globus's words for trouble mean to us, as data. Codes are hints: what a task is, its status alone says.

Codes of events and of `nice_status`: https://docs.globus.org/api/transfer/task_events/
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Cause(Enum):
    """Whose trouble it is, and so what helps."""

    SITE = "site"
    """A collection or the way there: time helps, or another side."""
    AUTH = "auth"
    """A person must log in or give access."""
    DATA = "data"
    """The files themselves: another copy helps."""
    CAPACITY = "capacity"
    """No room: another destination helps."""
    PERMISSION = "permission"
    """Not allowed there: the site's set-up is wrong."""
    UNKNOWN = "unknown"
    """A word that is not in the table."""


_WORDS: Mapping[Cause, str] = {
    Cause.SITE: (
        "CONNECT_FAILED CONNECTION_BROKEN CONNECTION_RESET TIMEOUT ENDPOINT_ERROR ENDPOINT_TOO_BUSY GC_NOT_CONNECTED "
        "GC_PAUSED NO_PHYSICALS INTERNAL_ERROR ENDPOINT_DELETED ENDPOINT_NOT_FOUND EXPIRED DEADLINE"
    ),
    Cause.AUTH: (
        "AUTH NO_CREDENTIALS INVALID_SERVICE_CREDENTIAL GSI_DN_MISMATCH ACL_CHANGED CREDENTIALS_EXPIRED "
        "CONSENT_REQUIRED"
    ),
    Cause.DATA: (
        "FILE_NOT_FOUND FILE_SIZE_CHANGED VERIFY_CHECKSUM EXTERNAL_CHECKSUM_MISMATCH INVALID_PATH_NAME IS_A_DIRECTORY "
        "NOT_A_DIRECTORY INVALID_SYMLINK AMBIGUOUS_PATH"
    ),
    Cause.CAPACITY: "QUOTA_EXCEEDED NO_SPACE_LEFT LIMIT_EXCEEDED",
    Cause.PERMISSION: "PERMISSION_DENIED",
}
_TABLE = {word: cause for cause, words in _WORDS.items() for word in words.split()}
_HEALTHY = frozenset({"", "OK", "Queued", "QUEUED"})

CORRUPT = frozenset({"FILE_SIZE_CHANGED", "VERIFY_CHECKSUM", "EXTERNAL_CHECKSUM_MISMATCH"})
"""The content was not what it should have been, or changed on the way."""
LIFECYCLE = frozenset(
    {"STARTED", "PROGRESS", "SUCCEEDED", "CANCELED", "PAUSED", "UNPAUSED"}
    | {"SKIPPED_ERRORS", "DELETE_DESTINATION_EXTRA_SKIPPED"}
)
"""Events that are no trouble."""


def cause_of(code: str) -> Cause | None:
    """None: the word tells of no trouble."""
    if code in _HEALTHY or code in LIFECYCLE:
        return None
    return _TABLE.get(code, Cause.UNKNOWN)
