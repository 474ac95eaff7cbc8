"""Scripts over the OpenSSH client: the user's own ssh config, keys, agents and jump hosts, and one shared connection.

Nothing is asked at a terminal (BatchMode). Where a host wants a second factor, a person opens the shared connection
(`crossfade login SITE`, see `login`), and the broker goes along as long as it lasts.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
import tempfile
import threading
from pathlib import Path

from connectors.errors import CredentialError, RequestRefused, SiteError, SiteUnreachable
from connectors.secrets import scrub
from connectors.ssh.options import SshOptions
from connectors.ssh.transport import jobs_environment, talk

SESSIONS = 4
"""Calls at once over one connection; sshd allows 10 by itself."""
_OWN_FAILURE = 255
"""What ssh ends with when it was itself that failed."""
_REFUSED = re.compile(
    r"permission denied|too many authentication failures|no supported authentication|no matching host key"
    r"|passphrase|keyboard-interactive|authentication failed|no such identity",
    re.IGNORECASE,
)
_STRANGER = re.compile(r"host key verification failed|remote host identification has changed", re.IGNORECASE)
_BEFORE = re.compile(
    r"could not resolve|connection refused|no route to host|network is unreachable|connect to host .* port"
    r"|connection timed out|kex_exchange_identification|banner exchange|proxycommand|proxyjump|bad configuration option"
    r"|connection closed by .* port|connection reset by .* port|can't open user config",
    re.IGNORECASE,
)
"""Words of a connection that did not come to be: nothing was run."""


def remote_words(script: str) -> str:
    """A script as one command line for a login shell of any kind: it sees plain letters, and hands the rest to sh.
    What is put after it are the script's arguments, the first of them `$0`."""
    packed = base64.b64encode(script.encode()).decode()
    return f"exec /bin/sh -c 'eval \"$(printf %s {packed} | base64 -d)\"'"


class OpenSshTransport:
    """The `ssh` program. Thread-safe; `close` ends the shared connection."""

    def __init__(self, *, site: str, options: SshOptions) -> None:
        self._site = site
        self._options = options
        self._room = threading.BoundedSemaphore(SESSIONS)

    def run(self, script: str, stdin: bytes, *, deadline: float, stop: threading.Event | None = None) -> bytes:
        with self._room:
            ended = talk(
                [*self.argv(), remote_words(script)],
                stdin, site=self._site, deadline=deadline, env=jobs_environment(), stop=stop,
            )  # fmt: skip
        if ended.code == _OWN_FAILURE:
            raise self.error(ended.err)
        return ended.out

    def argv(self) -> list[str]:
        """The command up to the host: what follows is run there. Raises RequestRefused, CredentialError."""
        return [*self._argv(batch=True), "--", self._options.host]

    def told(self) -> str:
        return f"by ssh at {self._options.host}"

    def login(self) -> list[str]:
        """The command by which a person opens the shared connection, answering what the host asks."""
        quiet = ["-o", "ControlMaster=yes", "-o", f"ControlPersist={max(self._options.persist, 12 * 3600)}", "-N", "-f"]
        return [*self._argv(batch=False), *quiet, "--", self._options.host]

    def close(self) -> None:
        argv = [*self._argv(batch=True), "-O", "exit", "--", self._options.host]
        try:
            talk(argv, b"", site=self._site, deadline=5.0, env=jobs_environment())
        except SiteError:
            return  # there was none

    def _argv(self, *, batch: bool) -> list[str]:
        options = self._options
        program = shutil.which(options.ssh)
        if program is None:
            raise RequestRefused(f"site {self._site}: there is no {options.ssh} here: install openssh-client")
        settings = {
            "ConnectTimeout": options.connect_timeout,
            "ServerAliveInterval": 5,
            "ServerAliveCountMax": 3,
            "ControlPath": f"{self._control()}/%C",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "ClearAllForwardings": "yes",
            "EscapeChar": "none",
        }
        if batch:
            settings |= {"BatchMode": "yes", "ControlMaster": "auto", "ControlPersist": options.persist}
        config = ["-F", os.path.expanduser(options.ssh_config)] if options.ssh_config else []
        return [
            program,
            "-T",
            *config,
            *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
        ]

    def _control(self) -> Path:
        """The folder of the shared connections: who can write there could speak in our name."""
        if self._options.control:
            folder = Path(os.path.expanduser(self._options.control))
        else:
            above = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
            folder = above / f"crossfade-ssh-{os.geteuid()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise CredentialError(
                f"site {self._site}: {folder} must be a folder of yours that nobody else may use: chmod 700 {folder}",
                site=self._site,
            )
        return folder

    def error(self, err: str) -> SiteError:
        """What these words of ssh's mean, when it was ssh itself that failed."""
        lines = [line.strip() for line in err.splitlines() if line.strip()]
        said = scrub(" ".join("".join(c if c.isprintable() else " " for c in line) for line in lines[-3:]))[:300]
        site, host = self._site, self._options.host
        if _STRANGER.search(err):
            return CredentialError(f"site {site}: the host key of {host} is not the known one ({said})", site=site)
        if _REFUSED.search(err):
            help_ = f"log in with `crossfade login {site}`"
            return CredentialError(
                f"site {site}: {host} does not let us in without a person ({said}): {help_}", site=site
            )
        error = SiteUnreachable(f"site {site}: ssh to {host}: {said or 'ended without a word'}", site=site)
        error.effect_possible = not _BEFORE.search(err)
        return error
