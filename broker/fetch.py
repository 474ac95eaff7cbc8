"""Copying a run's products to this machine: read through the site's connector, verified, published by rename."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.errors import BrokerError, NotFound, SiteDark, UsageError
from broker.store.base import ProductRow, StageRow
from connectors.base import Site
from connectors.errors import SiteError, SiteUnreachable
from connectors.paths import file_path

CHUNK = 1 << 20
"""Bytes per read."""


class Corrupt(BrokerError):
    """What lies at the site is not what was verified there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One file of a product, and where it goes."""

    stage: str
    site: str
    source: str
    """Relative to the site's root."""
    target: Path
    size: int
    sha256: str


def wanted_files(
    stages: Sequence[StageRow], products: Sequence[ProductRow], *, destination: Path, flat: bool
) -> list[Wanted]:
    """Every file of these stages' products. `flat`: straight into the destination, without a folder per stage.

    Raises NotFound when there is none.
    """
    by_stage = {product.n: product for product in products}
    found = []
    for stage in stages:
        product = by_stage.get(stage.n)
        for path, size, digest in json.loads(product.manifest)["files"] if product else ():
            inside = Path(file_path(path))  # a manifest is foreign text: it may not lead out of the destination
            folder = destination if flat else destination / stage.path
            found.append(
                Wanted(
                    stage=stage.path,
                    site=product.site if product else "",
                    source=f"{product.path}/{path}" if product else "",
                    target=folder / inside,
                    size=size,
                    sha256=digest,
                )
            )
    if not found:
        states = ", ".join(sorted({stage.state for stage in stages}))
        raise NotFound(f"there are no products to get (stages are {states})", help="only declared `outputs` are kept")
    return found


def refuse_overwriting(files: Sequence[Wanted]) -> None:
    """Raises UsageError when a target is there already and holds something else."""
    there = [file.target for file in files if file.target.exists() and not _same(file)]
    if there:
        names = ", ".join(str(path) for path in there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        raise UsageError(f"{names} is there already and differs", help="choose another folder, or --yes to overwrite")


def fetch(
    files: Sequence[Wanted], sites: Mapping[str, Site], *, told: Callable[[Wanted, int], None]
) -> tuple[int, int]:
    """Bring the files; (how many were brought, how many were here already). `told`: file, bytes so far.

    Raises SiteDark, Corrupt, UsageError (the destination cannot be written).
    """
    brought = 0
    for file in files:
        if _same(file):
            continue
        site = sites.get(file.site)
        if site is None:
            raise NotFound(f"site {file.site}, where {file.stage}'s product is, is not in the site document")
        try:
            _bring(file, site, told)
        except SiteUnreachable as error:
            raise SiteDark(
                f"{file.stage}'s product is at {file.site}, which cannot be asked: {error}", help="try again later"
            ) from error
        except SiteError as error:
            raise Corrupt(f"cannot get {file.source} from {file.site}: {error}", help=error.help) from error
        except OSError as error:
            raise UsageError(f"cannot write {file.target}: {error.strerror}", help="choose another folder") from error
        brought += 1
    return brought, len(files) - brought


def _bring(file: Wanted, site: Site, told: Callable[[Wanted, int], None]) -> None:
    """Under a temporary name first: what has the right name is whole and verified."""
    file.target.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.target.with_name(f".{file.target.name}.{secrets.token_hex(4)}")
    digest, offset = hashlib.sha256(), 0
    try:
        with temporary.open("xb") as writing:
            while offset < file.size:
                data = site.read(file.source, offset=offset, limit=min(CHUNK, file.size - offset))
                if not data:
                    break
                writing.write(data)
                digest.update(data)
                offset += len(data)
                told(file, offset)
            writing.flush()
            os.fsync(writing.fileno())
        if offset != file.size or digest.hexdigest() != file.sha256:
            what = f"{file.source} at {file.site} is not what was verified there ({offset} of {file.size} bytes)"
            raise Corrupt(what, help=f"its stage must run again: `crossfade errors`, stage {file.stage}")
        temporary.replace(file.target)
    finally:
        temporary.unlink(missing_ok=True)


def _same(file: Wanted) -> bool:
    """Is the file here already, byte for byte?"""
    try:
        if not file.target.is_file() or file.target.stat().st_size != file.size:
            return False
        with file.target.open("rb") as reading:
            return hashlib.file_digest(reading, "sha256").hexdigest() == file.sha256
    except OSError:
        return False
