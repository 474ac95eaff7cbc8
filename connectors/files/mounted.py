"""A site's files through a mount: its root, as jobs there call it, is a folder here under another path.

Options with `files: mounted`: `mount`, that folder here, absolute. It is made by `prepare` and known by its marker,
so that an empty mount point is a site whose files are away, not one that has lost everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from connectors.files.folder import FolderFiles
from connectors.files.root import Root


class MountedFiles(FolderFiles):
    """Files of a site elsewhere; also what `connectors.base.Preparable` and `OnThisMachine` ask for."""

    def __init__(self, *, site: str, mount: Path, identity: str = "") -> None:
        self._place = Root(site=site, path=mount, identity=identity)
        super().__init__(self._place)

    def prepare(self) -> str:
        """Make the folder once; answers its identity. Raises RequestRefused."""
        return self._place.prepare()

    def live_root(self) -> Path:
        """Where it is, having looked that it is there. Raises SiteUnreachable."""
        self._place.check()
        return self._place.path


def mounted_files(site: str, options: Mapping[str, object]) -> MountedFiles:
    """From the options of a site's entry. Raises ValueError, naming the option."""
    mount, identity = options.get("mount"), options.get("identity", "")
    if not isinstance(mount, str) or not mount.startswith("/"):
        raise ValueError(
            f"site {site}: option mount is {mount!r}; give the folder where its root is seen here, absolute"
        )
    if not isinstance(identity, str):
        raise ValueError(f"site {site}: option identity is {identity!r}; give text")
    return MountedFiles(site=site, mount=Path(mount), identity=identity)
