"""Settings: read once at the entry point, passed down from there."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where this installation's state is, and where its sites are told."""

    home: Path
    """CROSSFADE_HOME: the database, the blobs of documents, the default local site."""
    sites: Path | None = None
    """`--sites` or CROSSFADE_SITES; None: searched."""
    user: str = ""

    @property
    def database(self) -> Path:
        return self.home / "crossfade.db"

    @property
    def blobs(self) -> Path:
        """Contents of documents' files, by digest."""
        return self.home / "blobs"

    @property
    def lock(self) -> Path:
        """Held by the one process that serves."""
        return self.home / "serve.lock"


def read_settings(environ: Mapping[str, str], *, sites: Path | None = None) -> Settings:
    """Settings from the environment; `sites` beats CROSSFADE_SITES."""
    told = environ.get("CROSSFADE_SITES")
    return Settings(
        home=_home(environ),
        sites=sites or (Path(told).expanduser() if told else None),
        user=environ.get("USER") or environ.get("LOGNAME") or _login(),
    )


def _login() -> str:
    """The user's name, or the bare number where the machine knows no name for it (containers)."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _home(environ: Mapping[str, str]) -> Path:
    told = environ.get("CROSSFADE_HOME")
    if told:
        return Path(told).expanduser().absolute()
    data = environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser().absolute() / "crossfade"
