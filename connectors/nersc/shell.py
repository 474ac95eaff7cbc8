"""Scripts on a login node, through the API's command route, for files in batches.

How the API hands a command to the machine is not documented, and whose login shell reads it is the user's choice. So
what is sent is one word list that sh, csh and a plain splitter read alike, with the script and its input inside as
base64; the output comes back as base64 between marks, whatever a login file may print around it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import re
import secrets
from shlex import quote

from connectors.errors import BadReply, RequestRefused, SiteUnreachable
from connectors.nersc.api import Superfacility

LONGEST = 90_000
"""Characters of a command: Linux allows one argument of a program 128 KiB."""
_FOUND = re.compile(r"<CF>([A-Za-z0-9+/=\s]*)<FC>")


class LoginShell:
    """Runs POSIX scripts for `connectors.files.shell`."""

    def __init__(self, api: Superfacility, *, root: str) -> None:
        """`root`: the site's; input too long for a command is laid down in it for a moment."""
        if quote(root) != root:
            raise RequestRefused(f"{api.site}: the root {root[:200]!r} holds characters that a command cannot")
        self._api = api
        self._root = root.rstrip("/")

    def run(self, script: str, stdin: bytes) -> bytes:
        """The script's standard output. Raises SiteError; the script itself says in its output how it went."""
        packed = gzip.compress(stdin, mtime=0)
        program = f'sh -c "$(echo {_encoded(gzip.compress(script.encode(), mtime=0))} | base64 -d | gzip -dc)"'
        command = self._framed(f"echo {_encoded(packed)} | base64 -d | gzip -dc | {program}")
        if len(command) > LONGEST:
            path = f"{self._root}/.cf-run-{secrets.token_hex(8)}.tmp"
            self._api.upload(path, packed)
            # gone even when the script fails: what is left of it is its place in memory
            command = self._framed(f"(rm -f {path}; gzip -dc | {program}) <{path}")
        return self._output(self._api.command(command))

    @staticmethod
    def _framed(inner: str) -> str:
        return f"""sh -c 'printf "<%s>" CF; {{ {inner}; }} | base64; printf "<%s>" FC'"""

    def _output(self, text: str) -> bytes:
        found = _FOUND.search(text)
        if found is None:
            said = " ".join(text.split())[-200:]
            raise SiteUnreachable(f"{self._api.site}: a login node did not run a command: {said}", site=self._api.site)
        try:
            return base64.b64decode("".join(found[1].split()), validate=True)
        except (ValueError, binascii.Error) as error:
            raise BadReply(f"{self._api.site}: a command's output is damaged", site=self._api.site) from error


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
