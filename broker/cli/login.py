"""`login`: give a site what it wants to see, by a person's hand."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.cli.options import output_option
from broker.cli.output import emit
from broker.cli.session import Session, note
from broker.errors import NeedsPerson, UsageError

if TYPE_CHECKING:
    from broker.service import Service
    from connectors.base import Site
    from connectors.registry import SiteConfig


@click.command()
@click.argument("site")
@click.option("--name", metavar="CREDENTIAL", help="Which of the site's credentials, where it keeps several in files.")
@click.option("--show", is_flag=True, help="Say what there is to do, and do nothing.")
@click.option("--consent", metavar="UUID", multiple=True, help="globus: a collection to consent to; repeatable.")
@click.option("--https", metavar="UUID", multiple=True, help="globus: one whose files go over HTTPS; repeatable.")
@click.option("--domain", metavar="DOMAIN", multiple=True, help="globus: log in with an account there; repeatable.")
@click.option("--identity", metavar="UUID", multiple=True, help="globus: log in as this identity; repeatable.")
@click.option("--policy", metavar="UUID", multiple=True, help="globus: meet this policy; repeatable.")
@click.option("--mfa", is_flag=True, help="globus: with a second factor.")
@click.option("--service", "as_service", is_flag=True, help="globus: only see where the service client is let in.")
@output_option
@click.pass_obj
def login(
    session: Session,
    site: str,
    name: str | None,
    show: bool,
    consent: tuple[str, ...],
    https: tuple[str, ...],
    domain: tuple[str, ...],
    identity: tuple[str, ...],
    policy: tuple[str, ...],
    mfa: bool,
    as_service: bool,
    output: str,
) -> None:
    """Log in to SITE: open its shared ssh connection, or keep its token, and see whether the site accepts it.

    `crossfade login globus` logs a person in to Globus for all collections of the site document: it shows an address,
    and takes the code that comes of it. The tokens are kept in the home and renewed; a service client needs no login.

    A token is typed at a prompt that does not show it, or read from stdin (`crossfade login SITE < key.pem`); it is
    kept in the file that the site document refers to, for nobody else to read. It is never an argument. Exit code 8:
    the site does not accept it.
    """
    from broker.logins import advice_for  # noqa: PLC0415

    service = session.service
    words = (*consent, *https, *domain, *identity, *policy)
    if site == "globus" and site not in service.sites.configs:
        from broker.cli.login_globus import Words, to_globus  # noqa: PLC0415 - brings the SDK

        asked = Words(consents=consent, https=https, domains=domain, identities=identity, policies=policy, mfa=mfa)
        to_globus(service, asked, show=show, as_service=as_service, output=output)
        return
    if words or mfa or as_service:
        raise UsageError("this option is for `crossfade login globus` alone", help="crossfade help login")
    service.site(site)  # refuses a site that nobody knows
    config = service.sites.configs[site]
    advice = advice_for(config.connector)
    if advice.where:
        note(advice.where)
    for credential, meaning in advice.credentials.items():
        if credential in config.credentials:
            note(f"  {credential}: {meaning} ({config.credentials[credential].partition(':')[0]})")
    if show:
        return
    command = _opening(service, config)
    done = _open(site, command) if command else _keep(config, name)
    emit({"site": site, "done": done, **_accepted(service, config)}, output=output, text=lambda: f"{site}: {done}")


def _opening(service: Service, config: SiteConfig) -> list[str]:
    """The command by which a person opens the way; empty: this site has none."""
    from connectors.base import Interactive  # noqa: PLC0415
    from connectors.errors import CredentialError, SiteError  # noqa: PLC0415

    try:
        site = _site(service, config)
    except CredentialError:
        return []  # a credential that is not there yet keeps a connector from being made
    try:
        return list(site.login()) if isinstance(site, Interactive) else []
    except SiteError as error:
        raise UsageError(str(error), help=error.help) from error


def _site(service: Service, config: SiteConfig) -> Site:
    from broker.clock import wall_clock  # noqa: PLC0415 - imports Celery, as what follows
    from broker.serving import short_name  # noqa: PLC0415
    from connectors.registry import UnknownConnector, make_site  # noqa: PLC0415

    try:
        return make_site(replace(config, installation=short_name(service.store.installation())), wall_clock)
    except (UnknownConnector, ValueError) as error:
        raise UsageError(str(error), help="mend the site document: `crossfade site ls`") from error


def _open(site: str, command: list[str]) -> str:
    """Run it at this terminal."""
    ended = subprocess.run(command, check=False)
    if ended.returncode != 0:
        raise NeedsPerson(f"{site}: {Path(command[0]).name} ended with {ended.returncode}", help="try again")
    return "the connection is open; the broker goes along with it while it lasts"


def _keep(config: SiteConfig, name: str | None) -> str:
    """Take a secret from the prompt or from stdin, and keep it."""
    from broker.logins import credential_to_keep, keep_secret  # noqa: PLC0415
    from connectors.secrets import LARGEST, remember  # noqa: PLC0415

    credential, path = credential_to_keep(config, name)
    if sys.stdin.isatty():
        secret = click.prompt(f"{credential} (not shown)", hide_input=True, err=True)
    else:
        secret = sys.stdin.read(LARGEST + 1)
    remember(secret)
    keep_secret(path, secret)
    return f"{credential} is kept in {path}"


def _accepted(service: Service, config: SiteConfig) -> dict[str, object]:
    """Ask the site. Raises NeedsPerson when it says no; a site that is away is only told of."""
    from broker.clock import wall_clock  # noqa: PLC0415
    from connectors.errors import CredentialError, SiteError  # noqa: PLC0415
    from connectors.secrets import scrub  # noqa: PLC0415

    try:
        site = _site(service, config)
        bad = [e for e in site.probe() if e.capability == "credentials" and not e.ok]
        if bad:
            raise CredentialError(bad[0].detail, site=config.name)
        site.list_mine(wall_clock())
    except CredentialError as error:
        help = "see `crossfade credential ls`"  # noqa: A001 - the word of our errors
        raise NeedsPerson(f"{config.name} is not open to us yet: {scrub(str(error))}", help=help) from error
    except (SiteError, UsageError) as error:
        note(f"{config.name} could not be asked whether it accepts it: {scrub(str(error))}")
        return {"accepted": None}
    return {"accepted": True}
