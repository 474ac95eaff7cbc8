"""`notify`: who is told of what; in a workflow for its runs, in the site document for the whole installation."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema

from broker.alerts.kinds import Kind
from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.expressions import Filling
from broker.spec.machine_values import Credential
from broker.spec.part import Part, always
from broker.spec.values import Line, Name, check_name, checked_line, many, one_of, reads, text

KindName = Annotated[Kind, one_of(Kind)]
Kinds = Annotated[list[KindName], Field(min_length=1), BeforeValidator(many, json_schema_input_type=Kind | list[Kind])]
SCHEMES = ("command", "mailto", "https")
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


def read_address(value: object, filling: Filling) -> str:
    """`command:NAME`, `mailto:ADDRESS` or `https://HOST/...`. Raises Wrong."""
    address, pending = filling.text(text(value))
    if pending:
        return address
    checked_line(address)
    scheme, colon, rest = address.partition(":")
    if not colon or scheme not in SCHEMES:
        cure = nearest(scheme, SCHEMES, what="write command:NAME, mailto:ADDRESS or https://...; begin with")
        raise Wrong(f"{quoted(address)} is nobody who can be told", cure)
    if scheme == "command":
        check_name(rest, "a command's name")
    elif scheme == "mailto":
        _mail_address(rest, filling)
    elif scheme == "https":
        _check_url(address)
    return address


def _mail_address(value: object, filling: Filling) -> str:
    address, pending = filling.text(text(value))
    if not pending and not _MAIL.fullmatch(address):
        raise Wrong(f"{quoted(address)} is no mail address", "write somebody@example.org, one address each")
    return address


def _check_url(address: str) -> None:
    try:
        parts = urlsplit(address)
        sound = bool(parts.hostname and _HOST.fullmatch(parts.hostname)) and (parts.port or 443) > 0
    except ValueError:
        sound = False
    if not sound or not address.isascii() or " " in address:
        raise Wrong(f"{quoted(address)} is no address of a webhook", "write https://HOST/PATH")
    if parts.username is not None or parts.password is not None:
        raise Wrong("a webhook's address holds no password", "sign what is sent instead: notify.web.secret")


Address = Annotated[
    str, reads(read_address), WithJsonSchema({"type": "string", "pattern": r"^(command:|mailto:|https://)|\$\{\{"})
]


class Notice(Part):
    """Who is told of what."""

    to: Address
    when: Kinds


Tls = Literal["starttls", "tls", "none"]


class Mail(Part):
    """How mail leaves."""

    relay: Line = Field(description="HOST or HOST:PORT of the mail server that takes it; port 25 unless said.")
    from_: Annotated[str, reads(_mail_address)] = Field(alias="from", description="The address that it comes from.")
    tls: Annotated[Tls, one_of(Tls)] = Field(
        default="starttls", description="none: only for a relay on this machine, or one that you trust the way to."
    )
    user: Line | None = None
    password: Credential | None = Field(default=None, description="A reference, env:NAME or file:PATH.")
    to: list[Line] = Field(
        default_factory=list,
        description="Addresses, or *@DOMAIN, that documents may name. Empty: any, but none in documents over HTTP.",
    )


class Web(Part):
    """Whom webhooks may reach."""

    hosts: list[Line] = Field(
        default_factory=list,
        description="HOST or HOST:PORT that documents may name, also inside this network. Empty: any public one, but "
        "none in documents over HTTP.",
    )
    secret: Credential | None = Field(default=None, description="What messages are signed with; a reference.")
    ca: Line | None = Field(default=None, description="A file with the certificates to believe; else the system's.")


class Telling(Part):
    """How this installation tells people, and whom it tells of all runs."""

    commands: dict[Name, Annotated[list[Line], Field(min_length=1, max_length=100)]] = Field(
        default_factory=dict, description="By the name that documents use: the program and its arguments."
    )
    mail: Mail | None = None
    web: Web = always(Web())
    tell: list[Notice] = Field(
        default_factory=list, max_length=50, description="Who is told of what, whichever run it is about."
    )
