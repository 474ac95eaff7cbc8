"""Files between places: what contradicts itself in a stage that copies, and in outputs that are delivered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.overlaps import overlaps
from broker.spec.sources import FromPlace, place
from broker.spec.stage import Copy, Keep, Output, Stage

Fault = tuple[KeyPath, Wrong]

MAY_HAVE = frozenset({"copy_", "needs", "when", "required", "policy", "retry"})
"""What a stage that only copies may say."""
DELIVERY = "deliver"
"""The stage that delivers what STAGE leaves is STAGE/deliver: a name that no document can give."""


def copy_faults(here: KeyPath, stage: Stage) -> Iterator[Fault]:
    """Of a stage that only copies."""
    for name, field in type(stage).model_fields.items():
        if name in stage.model_fields_set - MAY_HAVE:
            key = field.alias or name
            cure = f"leave `{key}` out, or make it a stage of its own"
            yield (*here, key), Wrong("a stage that copies runs nothing", cure, kind="structure")
    targets: list[str] = []
    for i, copy in enumerate(stage.copy_ or ()):
        at: KeyPath = (*here, "copy", i)
        if any("${{" in text for text in (*copy.from_, copy.to)):
            return
        sources, target, faults = _sides(at, copy)
        yield from faults
        if target is not None:
            targets.append(str(target))
            yield from _fitting(at, sources, target)
            if copy.keep is not None and not faults:
                yield from _keep_faults((*at, "keep"), copy.keep, [*sources, target], own=False)
    yield from overlaps((*here, "copy"), targets)


def output_faults(here: KeyPath, outputs: Sequence[Output]) -> Iterator[Fault]:
    """Of outputs that are delivered."""
    targets: list[str] = []
    for i, output in enumerate(outputs):
        at: KeyPath = (*here, i)
        if not output.to:
            for key in ("deliver", "keep"):
                if key in output.model_fields_set:
                    message = f"`{key}` without `to`: it is brought nowhere, and is nowhere else"
                    yield (*at, key), Wrong(message, "say where it goes: `to: [PLACE:path]`", kind="structure")
            continue
        if any("${{" in text for text in (output.path, *output.to)):
            return
        found: list[FromPlace] = []
        for k, text in enumerate(output.to):
            to: KeyPath = (*at, "to", k) if len(output.to) > 1 else (*at, "to")
            try:
                target = place(text)
            except Wrong as wrong:
                yield to, wrong
                continue
            found.append(target)
            yield from _alike(to, output.path, target)
        targets += [str(target) for target in found]
        if output.keep is not None and len(found) == len(output.to):
            yield from _keep_faults((*at, "keep"), output.keep, found, own=True)
    yield from overlaps(here, targets)


def _sides(at: KeyPath, copy: Copy) -> tuple[list[FromPlace], FromPlace | None, list[Fault]]:
    sources: list[FromPlace] = []
    faults: list[Fault] = []
    target: FromPlace | None = None
    for k, text in enumerate(copy.from_):
        where: KeyPath = (*at, "from", k) if len(copy.from_) > 1 else (*at, "from")
        try:
            sources.append(place(text))
        except Wrong as wrong:
            faults.append((where, wrong))
    try:
        target = place(copy.to)
    except Wrong as wrong:
        faults.append(((*at, "to"), wrong))
    return sources, target, faults


def _fitting(at: KeyPath, sources: Sequence[FromPlace], target: FromPlace) -> Iterator[Fault]:
    for k, found in enumerate(sources):
        where: KeyPath = (*at, "from", k) if len(sources) > 1 else (*at, "from")
        yield from _alike(where, str(found), target)
        if str(found).rstrip("/") == str(target).rstrip("/"):
            yield where, Wrong(f"{quoted(str(found))} is copied onto itself", "name another `to`", kind="structure")


def _alike(at: KeyPath, name: str, target: FromPlace) -> Iterator[Fault]:
    if name.endswith("/") is not target.path.endswith("/"):
        message = f"{quoted(name)} and {quoted(str(target))}: one is a folder, the other a file"
        yield at, Wrong(message, "end both with /, or neither", kind="structure")


def _keep_faults(at: KeyPath, keep: Keep, sides: Sequence[FromPlace], *, own: bool) -> Iterator[Fault]:
    """`own`: do the files also lie in an attempt's directory?"""
    known = sorted({side.place for side in sides})
    for name in keep.places:
        if name not in known:
            yield (
                (*at, name),
                Wrong(f"{quoted(name)} has no part in this", _cure(name, known, own=own), kind="structure"),
            )
        elif name in keep.if_verified_at:
            message = f"{quoted(name)} would be removed only while it is there"
            yield (*at, "if_verified_at"), Wrong(message, "name another place", kind="structure")
    for name in keep.if_verified_at:
        if name not in known:
            message = f"{quoted(name)} has no part in this"
            yield (*at, "if_verified_at"), Wrong(message, _cure(name, known, own=False), kind="structure")
    if keep.attempt is not None and not own:
        yield (*at, "attempt"), Wrong("no attempt holds what is copied", "leave `attempt` out", kind="structure")
    if not keep.places and keep.attempt is None:
        yield at, Wrong("nothing is to be removed", "write PLACE: 7d, or leave `keep` out", kind="structure")


def _cure(name: str, known: Sequence[str], *, own: bool) -> str:
    return nearest(name, [*known, "attempt"] if own else known, what="it takes from, or brings to")
