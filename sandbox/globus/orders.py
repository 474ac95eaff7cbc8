"""What may be asked of Globus: transfers and deletions, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase

ALGORITHMS = ("MD5", "SHA1", "SHA256", "SHA384", "SHA512")
"""Checksums that can be compared."""


class Kind(StrEnum):
    """The two kinds of a task; each has slots of its own."""

    TRANSFER = "TRANSFER"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One path of a task."""

    source: str
    """Of a deletion: the path."""
    destination: str = ""
    recursive: bool | None = None
    """None: as what lies at the source says."""
    checksum: str = ""
    """That it must have, in hexadecimal digits."""
    algorithm: str = ""
    link: bool = False
    """The symbolic link itself, not what it leads to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterRule:
    """Which names of a folder are taken. The first rule that matches says."""

    name: str
    include: bool
    kind: str = ""
    """file, dir, or empty: both."""

    def fits(self, name: str, *, is_dir: bool) -> bool:
        return self.kind in ("", "dir" if is_dir else "file") and fnmatchcase(name, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A submission. Times are µs."""

    kind: Kind
    submission_id: str
    source: str
    """The collection's id; of a deletion: the only one."""
    destination: str = ""
    items: Sequence[Item]
    label: str = ""
    deadline: int | None = None
    """None: the service's own, which moves."""
    sync_level: int | None = None
    """0: copy what is absent, 1: of another size, 2: or older, 3: or with another checksum; None: all."""
    verify_checksum: bool = False
    encrypt_data: bool = False
    preserve_timestamp: bool = False
    delete_destination_extra: bool = False
    skip_source_errors: bool = False
    fail_on_quota_errors: bool = False
    recursive_symlinks: str = "ignore"
    filter_rules: Sequence[FilterRule] = field(default_factory=tuple)
    recursive: bool = False
    """Of deletions."""
    ignore_missing: bool = False
    interpret_globs: bool = False

    def takes(self, name: str, *, is_dir: bool) -> bool:
        """Do the filter rules let this name through? What no rule matches is taken."""
        return next((rule.include for rule in self.filter_rules if rule.fits(name, is_dir=is_dir)), True)
