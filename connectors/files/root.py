"""The site's root: a folder that is known by its marker, so that «gone» is never taken for «empty»."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.errors import NotThere, QuotaError, RequestRefused, SiteUnreachable
from connectors.tree import Tree

MARKER = ".crossfade-site"
JOBS = "jobs"
SPOOL = "spool"

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENAMETOOLONG, errno.EROFS, errno.EFBIG})


class Root:
    """Opens the root and proves that it is the one we know.

    The root is made by `prepare` alone. Every other verb finds it, with its marker, or raises SiteUnreachable:
    a root that a broker made anew while a disk was away would look like a site that has lost all its jobs.
    """

    def __init__(self, *, site: str, path: Path, identity: str = "") -> None:
        self.site = site
        self.path = path
        self._identity = identity

    def prepare(self) -> str:
        """Make the root where it is not there yet; answers its identity. Safe to repeat."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            with Tree(self.path) as tree:
                for name in (JOBS, SPOOL):
                    tree.below(name, create=True).close()
                self._make_marker(tree)
                return self._read_marker(tree)
        except OSError as error:
            raise RequestRefused(
                f"site {self.site}: cannot make its root {self.path} ({error.strerror}); choose another `root`",
                site=self.site,
            ) from error

    @contextmanager
    def open(self) -> Iterator[Tree]:
        """The root, checked before and after; OSErrors inside become SiteErrors."""
        with self._reach() as tree:
            self._recognise(tree)
            try:
                yield tree
            except OSError as error:
                self.check()
                raise self._translated(error) from error
            self.check()

    def check(self) -> None:
        """Raise SiteUnreachable unless the root is there and ours."""
        with self._reach() as tree:
            self._recognise(tree)

    @contextmanager
    def _reach(self) -> Iterator[Tree]:
        try:
            tree = Tree(self.path)
        except OSError as error:
            raise self._dark(f"its root {self.path} cannot be opened ({error.strerror})") from error
        with tree:
            yield tree

    def _recognise(self, tree: Tree) -> None:
        try:
            found = self._read_marker(tree)
        except OSError as error:
            raise self._dark(f"{self.path} has no readable {MARKER}: not the root we know") from error
        self._identity = self._identity or found
        if found != self._identity:
            raise self._dark(f"{self.path} is another site's root now ({found}, not {self._identity})")

    def _dark(self, what: str) -> SiteUnreachable:
        return SiteUnreachable(f"site {self.site}: {what}", site=self.site)

    def _translated(self, error: OSError) -> Exception:
        what = f"site {self.site}: {error.strerror}: {error.filename or self.path}"
        if error.errno in FULL:
            return QuotaError(what, site=self.site)
        if error.errno in _ABSENT:
            return NotThere(what, site=self.site)
        if error.errno in _REFUSED:
            return RequestRefused(what, site=self.site)
        return SiteUnreachable(what, site=self.site)

    @staticmethod
    def _make_marker(tree: Tree) -> None:
        """Complete from its first moment, and made once though several try: a file linked into place."""
        draft = f"{MARKER}.{secrets.token_hex(4)}"
        tree.write(draft, f"{secrets.token_hex(16)}\n".encode())
        try:
            os.link(draft, MARKER, src_dir_fd=tree.fd, dst_dir_fd=tree.fd)
        except FileExistsError:
            pass
        finally:
            tree.remove(draft)

    @staticmethod
    def _read_marker(tree: Tree) -> str:
        return tree.read(MARKER, limit=64).decode("ascii", "replace").strip()
