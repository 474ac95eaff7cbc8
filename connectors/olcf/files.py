"""The way to a site's small files, by its option `files`: neither S3M nor slurmrestd has one of its own.

`mounted`: the root is seen here, at `mount`. `command`: through a shell on a login or edge node of the site, as the
`command` connector reaches one; `shell` holds that connector's options, such as `host`. `collection`: through the
site's Globus collection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from connectors.base import SiteFiles
from connectors.files.mounted import mounted_files
from connectors.olcf.options import RestOptions
from connectors.registry import Clock, SiteConfig, make_site


def files_of(config: SiteConfig, options: RestOptions, clock: Clock) -> SiteFiles:
    """Asks nobody yet. Raises ValueError, naming the option."""
    return _WAYS[options.files](config, options, clock)


def _mounted(config: SiteConfig, options: RestOptions, clock: Clock) -> SiteFiles:  # noqa: ARG001
    return mounted_files(config.name, options.more)


def _command(config: SiteConfig, options: RestOptions, clock: Clock) -> SiteFiles:
    shell = options.more.get("shell", {})
    if not isinstance(shell, Mapping):
        raise ValueError(f"site {config.name}: option shell is {shell!r}; give options such as host")
    return make_site(
        SiteConfig(
            name=config.name,
            connector="command",
            root=config.root,
            umask=config.umask,
            installation=config.installation,
            options=dict(shell),
        ),
        clock,
    )


def _collection(config: SiteConfig, options: RestOptions, clock: Clock) -> SiteFiles:  # noqa: ARG001
    from connectors.files.collection import collection_files  # noqa: PLC0415 - the SDK is slow to import

    return collection_files(config)


_WAYS: Mapping[str, Callable[[SiteConfig, RestOptions, Clock], SiteFiles]] = {
    "mounted": _mounted,
    "command": _command,
    "collection": _collection,
}
