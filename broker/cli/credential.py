"""`credential ls|check`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from broker.cli.options import output_option
from broker.cli.output import emit, rows_of, table
from broker.cli.session import Session
from broker.errors import NeedsPerson

if TYPE_CHECKING:
    from broker.credentials import Reference

_COLUMNS = ("site", "credential", "reference", "there", "mode", "expires_at", "detail")


@click.group()
def credential() -> None:
    """List and check what the sites' credentials refer to; no secret is ever shown."""


@credential.command("ls")
@output_option
@click.pass_obj
def ls(session: Session, output: str) -> None:
    """List every reference of every site, and who we are to Globus: is it there, its file's mode, when it ends."""
    views = [_view(reference) for reference in _references(session, None)]
    emit(views, output=output, text=lambda: _text(views))


@credential.command("check")
@click.argument("name", metavar="[SITE]", required=False)
@output_option
@click.pass_obj
def check(session: Session, name: str | None, output: str) -> None:
    """Check every reference of a site, of `globus`, or of all: exit code 8 when a person must see to one.

    No site is asked whether it accepts them: `crossfade site check SITE` does.
    """
    from broker.clock import wall_clock  # noqa: PLC0415

    found = _references(session, name)
    views = [_view(reference) for reference in found]
    emit(views, output=output, text=lambda: _text(views))
    now = wall_clock()
    bad = [r for r in found if not r.ok or (r.expires_at is not None and r.expires_at <= now)]
    if bad:
        first = bad[0]
        what = first.detail or "it has ended"
        help = first.help or f"crossfade login {first.site}"  # noqa: A001 - the word of our errors
        raise NeedsPerson(f"{len(bad)} of {len(found)} are not usable: {first.site} {first.name}: {what}", help=help)


def _references(session: Session, name: str | None) -> Sequence[Reference]:
    from broker.credentials import references  # noqa: PLC0415 - httpx and friends need not be there for help

    service = session.service
    sites = service.sites
    if name is not None and not (name == "globus" and name not in sites.configs):
        service.site(name)  # refuses a site that nobody knows
    configs = [config for config in sites.configs.values() if name in (None, config.name)]
    found = [reference for config in configs for reference in references(config)]
    collections = [*(c.collection for c in sites.configs.values()), *(p.collection for p in sites.places.values())]
    if name in (None, "globus") and (sites.globus.client_id or any(collections)):
        from broker.globus import globus_references, wanted_of  # noqa: PLC0415 - brings the SDK

        found += globus_references(sites.globus, wanted_of(sites.configs, sites.places))
    return found


def _view(reference: Reference) -> dict[str, object]:
    from broker.views import when  # noqa: PLC0415
    from connectors.secrets import scrub  # noqa: PLC0415

    fields = asdict(reference)
    return {
        "site": fields["site"],
        "credential": fields["name"],
        "reference": fields["reference"],
        "there": fields["ok"],
        "mode": fields["mode"] or None,
        "expires_at": when(fields["expires_at"]),
        "detail": scrub(fields["detail"]),
        "help": fields["help"],
    }


def _text(views: Sequence[dict[str, object]]) -> str:
    return table(_COLUMNS, rows_of(views, _COLUMNS), empty="the site document names no credentials")
