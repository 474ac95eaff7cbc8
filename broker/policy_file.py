"""Policy files: the numbers that an installation decides by, and, to try them, what a document would say.

`simulate`, `policy replay`, `serve` and `run` read the same file, so that what was tried is what runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from broker.cases.values import NOON, Misfit, made
from broker.spec.errors import KeyPath, Wrong
from broker.spec.raw import RawDocument, read_document
from policies.numbers import USUAL_NUMBERS, Numbers

OF_A_DOCUMENT = ("policy", "checkpoint", "retry", "duplicates")
"""Keys that belong to documents, and that a file to be tried may have beside `numbers`."""
NUMBERS = "numbers"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """One, read."""

    name: str
    keys: Mapping[str, Any]
    """What a document would say: `policy`, `checkpoint`, `retry`, `duplicates`."""
    numbers: Numbers
    raw: RawDocument


def read_policy_file(path: Path) -> PolicyFile:
    """Raises DocumentError."""
    return policy_file(read_document(path), name=path.stem)


def policy_file(raw: RawDocument, *, name: str) -> PolicyFile:
    """The policy that such a document tells of; it may be the keys of `policy` alone. Raises DocumentError."""
    known = (NUMBERS, *OF_A_DOCUMENT)
    if not raw.data.keys() & {NUMBERS, "policy"}:
        return PolicyFile(name, {"policy": dict(raw.data)}, USUAL_NUMBERS, raw)
    strange = [key for key in raw.data if key not in known]
    if strange:
        cure = f"there may be {', '.join(known)}"
        raise raw.refuse([((key,), Wrong("is no key of a policy file", cure)) for key in strange])
    keys = {"policy": {}, **{key: value for key, value in raw.data.items() if key != NUMBERS}}
    return PolicyFile(name, keys, _numbers(raw), raw)


def read_numbers(path: Path) -> Numbers:
    """The numbers of a file that is to run. Raises DocumentError, also for what is the documents' to say."""
    read = read_policy_file(path)
    said = [key for key in read.raw.data if key != NUMBERS]
    if said:
        cure = "an installation has `numbers`; write the rest in the documents"
        raise read.raw.refuse([((key,), Wrong("is a document's to say", cure)) for key in said])
    return read.numbers


def _numbers(raw: RawDocument) -> Numbers:
    told = raw.data.get(NUMBERS, {})
    try:
        found: Numbers = made(Numbers, told, (NUMBERS,), now=NOON)
    except Misfit as misfit:
        raise raw.refuse([(misfit.path, misfit.wrong)]) from misfit
    wrong = list(_beyond(found, (NUMBERS,)))
    if wrong:
        raise raw.refuse(wrong)
    return found


def _beyond(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Wrong]]:
    """Numbers out of their bounds, and lists that are empty."""
    for each in fields(value):
        here, at = getattr(value, each.name), (*path, each.name)
        if is_dataclass(here):
            yield from _beyond(here, at)
            continue
        least, most = each.metadata["least"], each.metadata["most"]
        several = here if isinstance(here, tuple) else (here,)
        if not several or not all(least <= one <= most for one in several):
            yield at, Wrong(f"must lie between {least:g} and {most:g}")


def every_number(value: Any = USUAL_NUMBERS, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object, float, float]]:
    """(name, default, least, most) of each, in the order of the source: for the reference, and its test."""
    for each in fields(value):
        here = getattr(value, each.name)
        if is_dataclass(here):
            yield from every_number(here, (*path, each.name))
        else:
            yield ".".join((*path, each.name)), here, each.metadata["least"], each.metadata["most"]
