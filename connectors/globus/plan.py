"""A transfer as Globus would carry it: which paths on which collections. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from connectors.errands import check_transfer
from connectors.errors import UnsafePath
from connectors.globus_api.ends import End, NoEnd, end_of
from connectors.model import Transfer, TransferItem
from connectors.paths import LONGEST_PATH, RESERVED, clean, split
from connectors.registry import PlaceConfig, SiteConfig

MOST_ITEMS = 50_000
"""In one transfer: the request has a size limit that Globus does not tell. Whoever has more moves their folder."""
LONGEST_LABEL = 128
LONGEST_ABSOLUTE = 4_000
"""Bytes; Linux takes 4096."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One item, with its paths on the collections."""

    item: TransferItem
    source: str
    landing: str
    """Where Globus writes it."""
    final: str
    """Where it is to be in the end; the same as `landing` where nobody reads before the end."""
    folder: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All of a transfer, for one attempt at it."""

    transfer: Transfer
    source: End
    destination: End
    attempt: int
    pieces: Sequence[Piece]
    incoming: str
    """The folder on the destination's collection that is this attempt's alone."""

    @property
    def collections(self) -> tuple[str, str]:
        return self.source.collection, self.destination.collection

    @property
    def label(self) -> str:
        """Carries the key and the attempt, by which a lost task is found again."""
        return label_of(self.transfer.key, self.attempt, self.transfer.label)


def refusal(
    transfer: Transfer, *, configs: Mapping[str, SiteConfig], places: Mapping[str, PlaceConfig]
) -> tuple[str, bool]:
    """Why it cannot be carried, as a sentence, and is it the asker's fault? Empty: it can."""
    try:
        _check(transfer)
    except UnsafePath as error:
        return str(error), True
    try:
        _ends(transfer, configs=configs, places=places)
    except NoEnd as error:
        return str(error), False
    return "", False


_DIGEST = re.compile("[0-9a-f]{64}")


def make_plan(
    transfer: Transfer, *, attempt: int, configs: Mapping[str, SiteConfig], places: Mapping[str, PlaceConfig]
) -> Plan:
    """Of a transfer that is not refused."""
    source, destination = _ends(transfer, configs=configs, places=places)
    incoming = incoming_folder(destination, transfer.key, attempt)
    pieces = [
        Piece(
            item=item,
            source=source.at(item.source),
            landing=destination.at(item.destination) if transfer.private else f"{incoming}/{n}",
            final=destination.at(item.destination),
            folder=item.source.endswith("/"),
        )
        for n, item in enumerate(transfer.items)
    ]
    return Plan(
        transfer=transfer,
        source=source,
        destination=destination,
        attempt=attempt,
        pieces=pieces,
        incoming=incoming,
    )


def incoming_folder(end: End, key: str, attempt: int) -> str:
    """One that no other attempt has: what an older task still writes, or a clean-up still deletes, is another's."""
    return f"{end.top}/{end.incoming}/{key}.{attempt}"


def is_incoming(path: str) -> bool:
    """Is it a folder that `incoming_folder` has named? Nothing else is ever deleted."""
    folder, _, name = path.rpartition("/")
    parent = folder.rpartition("/")[2]
    key, dot, attempt = name.rpartition(".")
    return parent in {"incoming", ".crossfade-incoming"} and bool(key and dot) and attempt.isdecimal()


def plan_digest(transfer: Transfer) -> str:
    """Tells two transfers apart that came under one key. Urgency, deadline and words do not count: who asks again may
    say them otherwise."""
    told = [
        transfer.source_site,
        transfer.destination_site,
        transfer.private,
        [(item.source, item.destination, item.size, item.sha256, item.mode) for item in transfer.items],
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def label_of(key: str, attempt: int, words: str) -> str:
    """At most 128 characters, on one line."""
    plain = "".join(letter if letter.isprintable() else " " for letter in words)
    return f"{label_mark(key, attempt)} {' '.join(plain.split())}"[:LONGEST_LABEL].strip()


def label_mark(key: str, attempt: int) -> str:
    """How the label of an attempt's task begins."""
    return f"crossfade {key}.{attempt}"


def has_mark(label: object, mark: str) -> bool:
    """Is it this attempt's label?"""
    return isinstance(label, str) and (label == mark or label.startswith(f"{mark} "))


def _ends(
    transfer: Transfer, *, configs: Mapping[str, SiteConfig], places: Mapping[str, PlaceConfig]
) -> tuple[End, End]:
    source = end_of(transfer.source_site, configs=configs, places=places)
    destination = end_of(transfer.destination_site, configs=configs, places=places)
    for end in (source, destination):
        if len(end.top.encode()) + 1 + LONGEST_PATH > LONGEST_ABSOLUTE:
            raise NoEnd(f"a path below {end.top} of {end.side} could be too long for a file system")
    return source, destination


def _check(transfer: Transfer) -> None:
    place = transfer.destination_site.endswith(":")
    check_transfer(transfer, reserved={".crossfade-incoming"} if place else RESERVED)
    if not transfer.items:
        raise UnsafePath("there is nothing to move")
    if len(transfer.items) > MOST_ITEMS:
        raise UnsafePath(f"{len(transfer.items)} items are too many for one transfer; name their folder")
    for item in transfer.items:
        if item.source.endswith("/") and (item.sha256 is not None or item.size is not None):
            raise UnsafePath(f"{item.source!r} is a folder; only a file has a size and a digest")
        if item.sha256 is not None and not _is_digest(item.sha256):
            raise UnsafePath(f"{item.source!r} is promised with a SHA-256 that is none")
    _check_apart([clean(item.destination) for item in transfer.items])


def _check_apart(targets: Sequence[str]) -> None:
    """Globus would write both into one file, and call that a success. Names that look the same count as the same:
    some file systems take them so."""
    seen: dict[str, str] = {}
    for target in targets:
        same = unicodedata.normalize("NFC", target)
        if same in seen:
            raise UnsafePath(f"two items go to {target!r}")
        seen[same] = target
    open_: set[str] = {""}
    """Folders with no item of that name above them: most items share theirs."""
    for same, target in seen.items():
        above = split(same)[0]
        while above not in open_:
            if above in seen:
                raise UnsafePath(f"one item goes to {seen[above]!r}, and another below it, to {target!r}")
            open_.add(above)
            above = split(above)[0]


def _is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None
