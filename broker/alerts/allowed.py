"""Whom this installation lets itself tell, and how. A document names an address; what is behind it is the owner's."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from broker.alerts.rows import Entries
from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.telling import Mail, Telling

HTTPS = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class MailConfig:
    """The relay that takes mail."""

    host: str
    port: int
    sender: str
    tls: str
    user: str = ""
    password: str = ""
    """A reference."""
    to: Sequence[str] = ()
    """Patterns of addresses that documents may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyConfig:
    """`notify` of the site document, paths absolute."""

    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mail: MailConfig | None = None
    hosts: frozenset[tuple[str, int]] = frozenset()
    """Of webhooks: those that documents may name."""
    own_hosts: frozenset[tuple[str, int]] = frozenset()
    """Those that the owner names himself, in `tell`."""
    secret: str = ""
    """A reference; empty: messages are not signed."""
    ca: Path | None = None
    folder: Path | None = None
    """Where commands are run: the site document's own."""
    tell: Entries = ()

    def reaches_inside(self, host: str, port: int) -> bool:
        """Did the owner name that host himself, wherever it is?"""
        return (host.lower(), port) in self.hosts | self.own_hosts


def config_of(entry: Telling, base: Path) -> tuple[NotifyConfig, list[tuple[KeyPath, Wrong]]]:
    """The section as it is used, and what is wrong with it. `base`: the site document's folder."""
    wrongs: list[tuple[KeyPath, Wrong]] = []
    own = [host_of(told.to) for told in entry.tell if told.to.startswith("https:")]
    config = NotifyConfig(
        commands={name: tuple(argv) for name, argv in entry.commands.items()},
        mail=_mail(entry.mail, base, wrongs) if entry.mail is not None else None,
        hosts=frozenset(_hosts(entry.web.hosts, wrongs)),
        own_hosts=frozenset(own),
        secret=_reference(entry.web.secret, base),
        ca=Path(base, Path(entry.web.ca).expanduser()) if entry.web.ca else None,
        folder=base,
        tell=tuple((told.to, tuple(told.when)) for told in entry.tell),
    )
    for i, told in enumerate(entry.tell):
        if told.to.startswith("https:"):
            continue  # whatever the owner names himself
        known = replace(config, mail=replace(config.mail, to=()) if config.mail else None)
        if wrong := why_not(told.to, known, from_outside=False):
            wrongs.append((("tell", i, "to"), wrong))
    return config, wrongs


def _mail(entry: Mail, base: Path, wrongs: list[tuple[KeyPath, Wrong]]) -> MailConfig | None:
    try:
        host, port = _host(entry.relay, 25)
    except Wrong as wrong:
        wrongs.append((("mail", "relay"), wrong))
        return None
    return MailConfig(
        host=host,
        port=port,
        sender=entry.from_,
        tls=entry.tls,
        user=entry.user or "",
        password=_reference(entry.password, base),
        to=tuple(entry.to),
    )


def _hosts(texts: Sequence[str], wrongs: list[tuple[KeyPath, Wrong]]) -> Iterator[tuple[str, int]]:
    for i, text in enumerate(texts):
        try:
            yield _host(text, HTTPS)
        except Wrong as wrong:
            wrongs.append((("web", "hosts", i), wrong))


def why_not(address: str, config: NotifyConfig, *, from_outside: bool) -> Wrong | None:
    """Why a document may not have that address told; None: it may. `from_outside`: it came over HTTP, and names
    nobody whom the installation's owner does not name."""
    scheme, _, rest = address.partition(":")
    if scheme == "command":
        if rest in config.commands:
            return None
        cure = nearest(rest, config.commands, what="declared in the site document")
        return Wrong(
            f"there is no command {quoted(rest)}", cure or "declare it under notify.commands of the site document"
        )
    if scheme == "mailto":
        if config.mail is None:
            return Wrong("no mail leaves this installation", "name a relay under notify.mail of the site document")
        allowed = config.mail.to
        if any(fnmatch.fnmatchcase(rest.lower(), pattern.lower()) for pattern in allowed):
            return None
        if allowed or from_outside:
            return Wrong(
                f"{quoted(rest)} may not be told by mail here", "add it to notify.mail.to of the site document"
            )
        return None
    host, port = host_of(address)
    if (host, port) in config.hosts:
        return None
    if config.hosts or from_outside:
        cure = nearest(host, [name for name, _ in config.hosts], what="notify.web.hosts of the site document has")
        return Wrong(f"{quoted(host)} may not be told here", cure or "add it to notify.web.hosts of the site document")
    return None


def host_of(address: str) -> tuple[str, int]:
    """Host and port of a webhook."""
    parts = urlsplit(address)
    return (parts.hostname or "").lower(), parts.port or HTTPS


def _host(text: str, port: int) -> tuple[str, int]:
    host, colon, digits = text.strip().rpartition(":")
    if not colon:
        host, digits = text.strip(), str(port)
    if not host or "/" in host or not digits.isdigit() or not 0 < int(digits) < 1 << 16:
        raise Wrong(f"{quoted(text)} is no host", "write HOST or HOST:PORT")
    return host.lower(), int(digits)


def _reference(text: str | None, base: Path) -> str:
    kind, _, path = (text or "").partition(":")
    return f"file:{Path(base, Path(path).expanduser())}" if kind == "file" else text or ""
