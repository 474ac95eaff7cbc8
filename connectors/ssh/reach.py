"""What a site tells of the way to its files by ssh, for a mover that carries them itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from connectors.ssh.options import SshOptions

if TYPE_CHECKING:  # whoever asks a site for its way need not be able to start programs
    from connectors.ssh.openssh import OpenSshTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The way to a site's root."""

    transport: OpenSshTransport
    """The site's own: one connection for everything, so that a person logs in once."""
    options: SshOptions
    root: str
    """Absolute, at the site."""
    umask: str = "077"
    identity: str = ""
    """The root's, where only this very one will do."""
    prelude: str = ""
    """Shell text that comes before everything there: its path and environment."""


@runtime_checkable
class OverSsh(Protocol):
    """A site whose files may lie behind an ssh server."""

    def reach(self) -> Reach | None:
        """The way to them; None: they are on this machine. Asks nobody."""
        ...
