"""Plain data to a model, with every fault at its place and every unknown key with the nearest known one."""

from __future__ import annotations

import types
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.raw import RawDocument
from broker.spec.unbuilt import Test, find_unbuilt

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "model_type": ("expected a map of keys", "write `key: value` lines below it"),
    "model_attributes_type": ("expected a map of keys", "write `key: value` lines below it"),
    "dict_type": ("expected a map of keys", "write `key: value` lines below it"),
    "list_type": ("expected a list", "write [one, two], or lines that begin with `- `"),
}


def validated(model: type[Model], raw: RawDocument, *, unbuilt: Mapping[str, Test], context: object = None) -> Model:
    """The document as a model. Raises DocumentError with all faults and all keys that are not built yet."""
    refused = find_unbuilt(raw.data, unbuilt)
    try:
        found = model.model_validate(raw.data, context=context)
    except ValidationError as error:
        inside = {path for path, _ in refused}
        faults = [fault for fault in _faults(model, error) if not _lies_in(fault[0], inside)]
        raise raw.refuse([*refused, *faults]) from None
    if refused:
        raise raw.refuse(refused)
    return found


def _lies_in(path: KeyPath, refused: Collection[KeyPath]) -> bool:
    """What stands in a key that is refused anyway is not worth a word."""
    return any(path[:end] in refused for end in range(1, len(path) + 1))


def _faults(model: type[BaseModel], error: ValidationError) -> list[tuple[KeyPath, Wrong]]:
    faults = []
    for detail in error.errors(include_url=False):
        path: KeyPath = tuple(step for step in detail["loc"] if step != "[key]")
        faults.append((path, _wrong(model, path, detail)))
    return faults


def _wrong(model: type[BaseModel], path: KeyPath, detail: Mapping[str, Any]) -> Wrong:
    kind, context = detail["type"], detail.get("ctx", {})
    if isinstance(context.get("error"), Wrong):
        wrong: Wrong = context["error"]
        return wrong
    if kind == "extra_forbidden":
        return _unknown(model, path)
    if kind == "missing":
        return Wrong("is missing", "add it", kind="missing")
    if kind in _EXPECTED:
        message, cure = _EXPECTED[kind]
        return Wrong(f"{message}, found {quoted(detail['input'])}", cure)
    if kind in {"too_long", "too_short"}:
        bound = context.get("max_length", context.get("min_length"))
        message = f"{'more' if kind == 'too_long' else 'fewer'} than {bound} (found {context['actual_length']})"
        return Wrong(message, "shorten it" if kind == "too_long" else "add what is missing")
    if kind == "literal_error":
        return Wrong(f"{quoted(detail['input'])} cannot stand here", f"write {context['expected']}")
    return Wrong(str(detail["msg"])[:1].lower() + str(detail["msg"])[1:])


def _unknown(model: type[BaseModel], path: KeyPath) -> Wrong:
    known = _keys_at(model, path[:-1])
    key = str(path[-1])
    if len(path) >= 3 and path[-3] == "at" and key in _keys_at(model, path[:-3]):
        return Wrong(f"{key!r} cannot differ from site to site", "write it at the stage itself", kind="unknown_key")
    message = f"the key {quoted(key)} is not known here"
    return Wrong(message, partial(nearest, key, known, what="known here"), kind="unknown_key")


def _keys_at(model: type[BaseModel], path: KeyPath) -> Sequence[str]:
    """The keys that a map at this path may have."""
    kind: Any = model
    for step in path:
        kind = _inner(_bare(kind), step)
    kind = _bare(kind)
    return [field.alias or name for name, field in kind.model_fields.items()] if _is_model(kind) else []


def _inner(kind: Any, step: str | int) -> Any:
    if _is_model(kind):
        fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return fields.get(str(step))
    return get_args(kind)[-1] if get_args(kind) else None


def _bare(kind: Any) -> Any:
    """Without Annotated and without `| None`."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return _bare(next(part for part in get_args(kind) if part is not type(None)))
    return kind


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
