"""Putting a secret where the site document says it is, and what a person must know to get one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from broker.credentials import file_of
from broker.errors import NotFound, UsageError
from connectors.registry import SiteConfig
from connectors.secrets import LARGEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """Where a connector's secrets are made, and what each is."""

    where: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict)


@cache
def _all_advice() -> Mapping[str, Advice]:
    found = yaml.safe_load((files("connectors") / "logins.yaml").read_text(encoding="utf-8"))
    return {
        name: Advice(where=row["where"], credentials=dict(row.get("credentials", {}))) for name, row in found.items()
    }


def _usual(connector: str) -> str:
    """The credential that such a site keeps in a file."""
    names = advice_for(connector).credentials
    return next((name for name in ("key", "token") if name in names), next(iter(names), "token"))


def advice_for(connector: str) -> Advice:
    """Empty for a connector that came by itself."""
    return _all_advice().get(connector, Advice())


def credential_to_keep(config: SiteConfig, name: str | None) -> tuple[str, Path]:
    """Which of a site's credentials is meant, and its file. Raises NotFound, UsageError."""
    kept = {key: path for key, reference in config.credentials.items() if (path := file_of(reference)) is not None}
    if name is not None and name not in config.credentials:
        known = ", ".join(config.credentials) or "none"
        raise NotFound(f"site {config.name} has no credential {name!r}", help=f"it has: {known}")
    if name is not None and name not in kept:
        raise UsageError(
            f"credential {name} of {config.name} is {config.credentials[name].partition(':')[0]}:..., not a file",
            help="export it before `crossfade serve`, or refer to it as file:PATH in the site document",
        )
    if name is None and len(kept) > 1:
        raise UsageError(f"{config.name} keeps several credentials in files", help=f"--name {' or '.join(kept)}")
    if not kept:
        raise UsageError(
            f"site {config.name} keeps no credential in a file",
            help=f"write `credentials: {{{_usual(config.connector)}: file:PATH}}` into its entry of the site document",
        )
    chosen = name or next(iter(kept))
    return chosen, kept[chosen]


def keep_secret(path: Path, content: str) -> None:
    """Write it whole, for nobody else to read (mode 0600), and replace what was there. Raises UsageError."""
    data = content.strip().encode() + b"\n"
    if len(data) == 1:
        raise UsageError("there is nothing to keep: it is empty")
    if len(data) > LARGEST:
        raise UsageError(f"it has {len(data)} bytes; a credential has at most {LARGEST}")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UsageError(
            f"cannot keep it in {path}: {error.strerror}", help="check the folder and its owner"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
