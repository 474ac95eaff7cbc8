"""An IRI site from its entry in the site document."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from connectors.base import SiteFiles
from connectors.files.mounted import mounted_files
from connectors.http import Http
from connectors.iri.activity import ActivityFeed
from connectors.iri.api import IriApi
from connectors.iri.auth import credential
from connectors.iri.checking import Checker
from connectors.iri.files import IriFiles
from connectors.iri.finding import ByMarks, ByName, Finder
from connectors.iri.health import Health, moment_of
from connectors.iri.marks import Marks
from connectors.iri.quirks import NAMES, Quirks, quirks_of
from connectors.iri.site import IriSite, Place
from connectors.registry import Clock, SiteConfig

OWN = frozenset(
    {"url", "resource", "files", "file_system", "watch", "activity", "token_expires", "scope", "mount", "identity"}
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


def make(
    config: SiteConfig,
    clock: Clock,
    *,
    transport: httpx.BaseTransport | None = None,
    files: SiteFiles | None = None,
    sleep: Callable[[float], None] = time.sleep,
    elapsed: Callable[[], float] = time.monotonic,
) -> IriSite:
    """`transport`, `files`, `sleep` and `elapsed` (seconds) stand in for the network, the site's files and time. Raises
    ValueError, naming the option; CredentialError."""
    site, options = config.name, config.options
    if strange := set(options) - OWN - NAMES:
        known = ", ".join(sorted(OWN | NAMES))
        raise ValueError(f"site {site}: the iri connector has no option {sorted(strange)[0]!r} (it has {known})")
    quirks = quirks_of(site, options, job_id_variable=config.job_id_variable)
    url, resource = _url(config, quirks), _id(site, options, "resource")
    if not config.root.startswith("/"):
        raise ValueError(f"site {site}: root is {config.root!r}; give a folder at the site, absolute")
    more: dict[str, Any] = {"site": site, "transport": transport, "sleep": sleep, "elapsed": elapsed}
    who = credential(
        config.credentials,
        site=site,
        clock=clock,
        http=lambda address: Http(address, **more),
        scope=_text(site, options, "scope"),
        expires=moment_of(options.get("token_expires")),
    )
    http = Http(url, auth=who, **more)
    api = IriApi(http, public=Http(url, **more), resource=resource, quirks=quirks)
    if files is None:
        files = _files(config, http, quirks, sleep)
    owner = config.installation
    finder: Finder
    if quirks.by_name:
        finder = ByName(api, owner=owner, clock=clock)
    else:
        finder = ByMarks(api, Marks(files, owner), quirks, owner=owner, clock=clock)
    feed = _text(site, options, "activity")
    activity = ActivityFeed(Http(feed, **more), site=site, clock=clock) if feed else None
    health = Health(
        site, api=api, files=files, credential=who, clock=clock, activity=activity, watched=_watched(site, options)
    )
    checker = Checker(api=api, files=files, credential=who, account=config.account, clock=clock)
    place = Place(url=url, resource=resource, root=config.root, owner=owner, account=config.account, umask=config.umask)
    return IriSite(
        site,
        api=api,
        files=files,
        finder=finder,
        health=health,
        checker=checker,
        quirks=quirks,
        place=place,
        claim=config.claim or "atomic_fs",
    )


def _files(config: SiteConfig, http: Http, quirks: Quirks, sleep: Callable[[float], None]) -> SiteFiles:
    """How the site's small files are reached."""
    kind = config.options.get("files", "iri")
    if kind == "mounted":
        return mounted_files(config.name, config.options)
    if kind == "iri":
        resource = _id(config.name, config.options, "file_system")
        root = config.root
        return IriFiles(http, site=config.name, resource=resource, root=root, dialect=quirks.dialect, sleep=sleep)
    if kind == "collection":
        from connectors.files.collection import collection_files  # noqa: PLC0415 - the SDK is slow to import

        return collection_files(config)
    raise ValueError(f"site {config.name}: option files is {kind!r}; give one of iri, mounted, collection")


def _url(config: SiteConfig, quirks: Quirks) -> str:
    url = _text(config.name, config.options, "url")
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"site {config.name}: option url is {url!r}; give the API's address, up to its version")
    version = url.rstrip("/").rpartition("/")[2]
    if version in {"v1", "v2"} and version != quirks.dialect:
        raise ValueError(f"site {config.name}: url ends in {version}, and dialect is {quirks.dialect}; make them one")
    return url


def _id(site: str, options: Mapping[str, object], name: str) -> str:
    value = options.get(name)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(f"site {site}: option {name} is {value!r}; give the id of a resource, from /status/resources")
    return value


def _text(site: str, options: Mapping[str, object], name: str) -> str:
    value = options.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"site {site}: option {name} is {value!r}; give text")
    return value


def _watched(site: str, options: Mapping[str, object]) -> tuple[str, ...]:
    value = options.get("watch", ())
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) and _ID.fullmatch(one) for one in value):
        raise ValueError(f"site {site}: option watch is {value!r}; give a list of resources' ids")
    return tuple(value)
