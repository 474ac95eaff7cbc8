"""One call of several commands: a script that runs each in a section of its own, and the reply taken apart again.

What each printed, what it said on stderr and how it ended come back separately; noise of a login shell around them
does no harm, and a reply without its end is no reply.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote

from connectors.command.options import CommandOptions
from connectors.errors import BadReply, SiteUnreachable
from connectors.secrets import scrub
from connectors.ssh.transport import Transport

_HEAD = """\
exec 3>&1
nl='
'
section() { # section NAME COMMAND...: run it; its output, its words, its end
    name=$1; shift
    printf '\\ncrossfade %s out %s\\n' "$nonce" "$name"
    words=$("$@" 2>&1 1>&3 3>&-)
    code=$?
    printf '\\ncrossfade %s err %s %s\\n%s' "$nonce" "$name" "$code" "$words"
    return "$code"
}
IFS= read -r nonce || exit 1
"""
_TAIL = """
printf '\\ncrossfade %s end\\n' "$nonce"
"""
PLAIN = """
LC_ALL=C SLURM_TIME_FORMAT=%s
export LC_ALL SLURM_TIME_FORMAT
"""
"""Before questions only: a job inherits the environment in which it was submitted."""
_NAME = re.compile(r"[a-z0-9_]{1,80}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One command's end."""

    code: int
    out: str
    err: str

    @classmethod
    def nothing(cls) -> Section:
        """For a command that the reply does not tell of."""
        return cls(code=1, out="", err="the reply does not tell of it")

    @property
    def said(self) -> str:
        """Why it failed, for a person: one line."""
        text = self.err.strip() or self.out.strip()
        plain = "".join(letter if letter.isprintable() else " " for letter in text[-2000:])
        return scrub(" ".join(plain.split()))[-300:] or f"ended with {self.code}"


@dataclass(slots=True)
class Caller:
    """Runs scripts of sections at one site."""

    site: str
    transport: Transport
    options: CommandOptions

    def ask(self, script: str, lines: Sequence[str] = ()) -> Mapping[str, Section]:
        """Each section by its name. `lines`: what the script reads from stdin. Raises SiteError."""
        nonce = secrets.token_hex(8)
        stdin = "".join(f"{line}\n" for line in (nonce, *lines)).encode()
        told = self.transport.run(self.prelude() + _HEAD + script + _TAIL, stdin, deadline=self.options.deadline)
        return sections(told.decode("utf-8", "replace"), nonce, self.site)

    def prelude(self) -> str:
        """The document's path and environment for the commands."""
        lines = [f"PATH={quote(':'.join(self.options.path))}:$PATH; export PATH"] if self.options.path else []
        lines += [f"{name}={quote(value)}; export {name}" for name, value in self.options.environment.items()]
        return "".join(f"{line}\n" for line in lines)

    def run_plain(self, script: str, stdin: bytes) -> bytes:
        """For `connectors.files.shell`, which marks its replies by itself."""
        return self.transport.run(script, stdin, deadline=self.options.deadline)


def sections(told: str, nonce: str, site: str) -> dict[str, Section]:
    """A reply taken apart. Raises SiteUnreachable when it was cut short, BadReply."""
    mark = f"\ncrossfade {nonce} "
    noise, *parts = told.replace("\r\n", "\n").split(mark)
    if not parts:
        raise SiteUnreachable(f"site {site}: the shell there ran nothing ({noise.strip()[-200:]!r})", site=site)
    if parts[-1].partition("\n")[0] != "end":
        raise SiteUnreachable(f"site {site}: the reply was cut short", site=site)
    found: dict[str, Section] = {}
    name, out = "", ""
    for part in parts[:-1]:
        head, _, text = part.partition("\n")
        kind, *rest = head.split(" ")
        if kind == "out" and len(rest) == 1 and _NAME.fullmatch(rest[0]):
            name, out = rest[0], text
        elif kind == "err" and len(rest) == 2 and rest[0] == name and rest[1].isdecimal():
            found[name] = Section(code=int(rest[1]), out=out, err=text)
        else:
            raise BadReply(f"site {site}: the reply is not in the order that was asked for", site=site)
    return found
