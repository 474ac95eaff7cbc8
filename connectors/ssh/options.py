"""How a machine is reached by OpenSSH, and what its rsync is told: options of whichever connector goes that way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SshOptions:
    """Each option by its name in the document."""

    host: str = ""
    """Where the commands are run, by `ssh`: a name from the user's ssh config, or user@host. Empty: on this machine."""
    ssh: str = "ssh"
    """The OpenSSH client."""
    ssh_config: str = ""
    """Another file than ~/.ssh/config."""
    control: str = ""
    """The private folder for shared connections; empty: one in $XDG_RUNTIME_DIR, or in the folder for temporaries."""
    persist: int = 600
    """Seconds that a shared connection stays without use."""
    connect_timeout: int = 10
    """Seconds until a host that does not answer is unreachable."""
    rsync: str = "rsync"
    """The program there that carries large data: a name on its PATH, or an absolute path."""
    bwlimit: str = ""
    """How much of the line rsync may take, in its own words: `50m` is 50 MiB/s. Empty: all of it."""
