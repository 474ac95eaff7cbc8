"""A side of a transfer on its Globus collection: which collection, and where on it the side's paths begin."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from connectors.paths import clean
from connectors.registry import PlaceConfig, SiteConfig

UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One side. `top`: where its root lies on the collection, without a trailing `/`; the collection's own: ""."""

    side: str
    collection: str
    top: str
    incoming: str = "incoming"
    """The folder below the root for what is not verified yet."""

    def at(self, path: str) -> str:
        """A relative path of the side, on the collection. Raises UnsafePath."""
        return f"{self.top}/{clean(path)}"


class NoEnd(ValueError):
    """The side cannot be reached through Globus; says why, as a sentence."""


def end_of(side: str, *, configs: Mapping[str, SiteConfig], places: Mapping[str, PlaceConfig]) -> End:
    """Raises NoEnd."""
    if not side:
        raise NoEnd("the broker's own store is on no Globus collection")
    if side.endswith(":"):
        place = places.get(side[:-1])
        if place is None or not place.collection:
            raise NoEnd(f"the place {side} names no Globus collection")
        return End(side=side, collection=_id(side, place.collection), top=_top(side, place.path), incoming=HIDDEN)
    config = configs.get(side)
    if config is None or not config.collection:
        raise NoEnd(f"the site {side} names no Globus collection")
    return site_end(config)


HIDDEN = ".crossfade-incoming"
"""In a place, which is somebody's own folder."""


def site_end(config: SiteConfig) -> End:
    """Raises NoEnd."""
    base, root = PurePosixPath(config.collection_base or "/"), PurePosixPath(config.root)
    if not base.is_absolute() or not root.is_absolute() or ".." in (*base.parts, *root.parts):
        raise NoEnd(f"the site {config.name} has a root or collection_base that is no plain absolute path")
    if not root.is_relative_to(base):
        raise NoEnd(f"the site {config.name} has its root {root} outside of its collection, which begins at {base}")
    top = _top(config.name, "/" + root.relative_to(base).as_posix())
    return End(side=config.name, collection=_id(config.name, config.collection), top=top)


def _id(side: str, collection: str) -> str:
    if not UUID.fullmatch(collection):
        raise NoEnd(f"{side} has the collection {collection!r}, which is no UUID")
    return collection.lower()


def _top(side: str, path: str) -> str:
    if not path.startswith("/") or ".." in path.split("/") or not path.isprintable():
        raise NoEnd(f"{side} begins at {path!r} on its collection, which is no plain absolute path")
    plain = posixpath.normpath(path).strip("/")
    return f"/{plain}" if plain not in {"", "."} else ""
