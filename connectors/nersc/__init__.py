"""NERSC by the Superfacility API v1.2: submit and watch jobs, reach small files, read status, outages and balances.

In the site document: `root` (absolute, on a file system that compute nodes and login nodes share), `credentials: {key:
file:PATH}` and, where the key file does not hold it, `client_id`; `account`; and the options of
`connectors.nersc.options.NerscOptions`. See docs/howto/connect-nersc.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx

from connectors.base import SiteFiles
from connectors.errors import CredentialError
from connectors.files.mounted import MountedFiles
from connectors.files.shell import ShellFiles
from connectors.http import Auth, Fixed, Http
from connectors.nersc.api import Superfacility
from connectors.nersc.options import NerscOptions
from connectors.nersc.shell import LoginShell
from connectors.nersc.site import NerscSite
from connectors.nersc.token import client_key, client_tokens
from connectors.registry import Clock, SiteConfig
from connectors.secrets import secret_from

__all__ = ["NerscOptions", "NerscSite", "make"]


def make(
    config: SiteConfig,
    clock: Clock,
    *,
    transport: httpx.BaseTransport | None = None,
    sleep: Callable[[float], None] = time.sleep,
    elapsed: Callable[[], float] = time.monotonic,
) -> NerscSite:
    """The site of this entry; asks nobody yet. `transport`, `sleep` and `elapsed` stand in for network and time.

    Raises ValueError for an entry that cannot be, RequestRefused for a root that no command could name."""
    if not config.root.startswith("/"):
        raise ValueError(f"site {config.name}: `root` is {config.root!r}; give an absolute path at the machine")
    options = NerscOptions.read(config.name, config.options)

    def http(base: str, auth: Auth | None = None) -> Http:
        more = {} if auth is None else {"auth": auth}
        return Http(
            base,
            site=config.name,
            transport=transport,
            deadline=options.deadline,
            sleep=sleep,
            elapsed=elapsed,
            **more,  # type: ignore[arg-type]
        )

    auth = _auth(config, options, http, clock)
    api = Superfacility(
        http=http(options.base, auth),
        public=http(options.base),
        machine=options.machine,
        task_seconds=options.task_seconds,
    )
    return NerscSite(
        config,
        options=options,
        api=api,
        files=_files(config, options, api),
        clock=clock,
        client_id=lambda: _client_id(config),
    )


def _auth(config: SiteConfig, options: NerscOptions, http: Callable[[str], Http], clock: Clock) -> Auth:
    given = config.credentials
    if "token" in given:
        return Fixed(lambda: {"Authorization": f"Bearer {secret_from(given['token'], site=config.name).reveal()}"})
    return client_tokens(
        http=http(options.token_url),
        token_url=options.token_url,
        read_key=lambda: client_key(given, site=config.name),
        clock=clock,
    )


def _client_id(config: SiteConfig) -> str:
    """Read anew each time: a renewed client has another one."""
    try:
        return client_key(config.credentials, site=config.name).client_id
    except CredentialError:
        return ""


def _files(config: SiteConfig, options: NerscOptions, api: Superfacility) -> SiteFiles:
    if options.files == "mounted":
        if not options.mount:
            raise ValueError(f"site {config.name}: `files: mounted` needs the option `mount`")
        return MountedFiles(site=config.name, mount=Path(options.mount), identity=options.identity)
    shell = LoginShell(api, root=config.root)
    return ShellFiles(
        shell.run, site=config.name, root=config.root, umask=config.umask or "077", identity=options.identity
    )
