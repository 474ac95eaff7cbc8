"""`login globus`: a person's way in to Globus, or a look at how far the service client gets."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from broker.cli.output import emit
from broker.cli.session import note
from broker.errors import NeedsPerson, UsageError
from broker.globus import Demands, Wanted, log_in, service_findings, wanted_of
from connectors.globus_api.ends import UUID
from connectors.globus_api.identity import NO_CLIENT
from connectors.model import Finding

if TYPE_CHECKING:
    from broker.service import Service

_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,120}")
_LONGEST_CODE = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The options of the command line."""

    consents: Sequence[str] = ()
    https: Sequence[str] = ()
    domains: Sequence[str] = ()
    identities: Sequence[str] = ()
    policies: Sequence[str] = ()
    mfa: bool = False

    def checked(self) -> Words:
        """Raises UsageError."""
        for option in ("consents", "https", "identities", "policies"):
            strange = next((word for word in getattr(self, option) if not UUID.fullmatch(word)), None)
            if strange is not None:
                raise UsageError(f"{strange!r} is no UUID", help="as the command that was told has it")
        if strange := next((word for word in self.domains if not _DOMAIN.fullmatch(word)), None):
            raise UsageError(f"{strange!r} is no domain", help="such as alcf.anl.gov")
        return self


def to_globus(service: Service, words: Words, *, show: bool, as_service: bool, output: str) -> None:
    """Log in, or look, and tell. Raises UsageError, NeedsPerson."""
    sites = service.sites
    wanted = wanted_of(sites.configs, sites.places)
    for collection, who in wanted.collections.items():
        note(f"  {collection}: {who}{' (files over HTTPS)' if collection in wanted.https else ''}")
    if not sites.globus.client_id:
        raise UsageError(NO_CLIENT, help="docs/howto/move-data-with-globus.md tells how")
    if show:
        return
    if not as_service:
        _log_in(service, words.checked(), wanted)
    _tell(service_findings(sites.globus, sites.configs), output)


def _log_in(service: Service, words: Words, wanted: Wanted) -> None:
    demands = Demands(domains=words.domains, identities=words.identities, policies=words.policies, mfa=words.mfa)
    done = log_in(
        service.sites.globus,
        wanted,
        ask=_ask,
        clock=service.clock,
        consents=[one.lower() for one in words.consents],
        https=[one.lower() for one in words.https],
        demands=demands,
    )
    note(f"logged in to Globus as {done.name or done.identity or 'somebody'}; it lasts while it is used")


def _ask(address: str) -> str:
    note(f"Open this address, log in, and bring back the code:\n\n{address}\n")
    if sys.stdin.isatty():
        return str(click.prompt("code", err=True))
    return sys.stdin.readline(_LONGEST_CODE)


def _tell(found: Sequence[Finding], output: str) -> None:
    rows = [{"site": one.step, "open": one.ok, "detail": one.detail, "help": one.help} for one in found]
    emit({"site": "globus", "collections": rows}, output=output, text=lambda: _text(found))
    shut = [one for one in found if one.ok is False]
    if shut:
        raise NeedsPerson(f"{shut[0].step}: {shut[0].detail}", help=shut[0].help)


def _text(found: Sequence[Finding]) -> str:
    lines = [f"{one.step}: {one.detail}" for one in found]
    return "\n".join(lines or ["globus: no site names a collection"])
