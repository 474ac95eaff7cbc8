"""A site whose connector cannot be made as things are: every question is answered with what a person must do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from connectors.errors import CredentialError
from connectors.model import Evidence, FileInfo, JobSpec, Listing, SmallFile, SubmitAnswer
from connectors.registry import Clock, SiteConfig


class UnusableSite:
    """The port `connectors.base.Site`: raises the error that its maker raised. So one credential that is missing leaves
    the other sites served, and this one is told of as what it is: no outage."""

    inline = False
    claim = "none"

    def __init__(self, config: SiteConfig, clock: Clock, error: CredentialError) -> None:
        self.name = config.name
        self._clock, self._error = clock, error

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        self._refuse(specs)

    def find(self, keys: Sequence[str]) -> Listing:
        self._refuse(keys)

    def status(self, keys: Sequence[str]) -> Listing:
        self._refuse(keys)

    def list_mine(self, since: int) -> Listing:
        self._refuse(since)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        self._refuse(keys)

    def read(self, path: str, *, offset: int = 0, limit: int = 1 << 20) -> bytes:
        self._refuse(path, offset, limit)

    def read_many(self, paths: Sequence[str], *, limit: int = 1 << 16) -> Mapping[str, bytes]:
        self._refuse(paths, limit)

    def write(self, path: str, content: bytes, *, mode: int = 0o600) -> None:
        self._refuse(path, content, mode)

    def write_many(self, files: Sequence[SmallFile]) -> None:
        self._refuse(files)

    def list(self, path: str, *, recursive: bool = False) -> Sequence[FileInfo]:
        self._refuse(path, recursive)

    def digests(self, paths: Sequence[str]) -> Mapping[str, tuple[int, str]]:
        self._refuse(paths)

    def remove(self, paths: Sequence[str]) -> None:
        self._refuse(paths)

    def probe(self) -> Sequence[Evidence]:
        now = self._clock()
        return [Evidence(site=self.name, capability="credentials", ok=False, at=now, detail=str(self._error))]

    def _refuse(self, *_: object) -> NoReturn:
        error = CredentialError(str(self._error), site=self.name)
        error.help = self._error.help
        raise error
