"""What all models of the documents share: strict, frozen, no key that they do not know."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T", bound=BaseModel)


class Part(BaseModel):
    """A map of the document. Keys that are Python words (`from`, `continue`) are fields with a `_` behind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())

    def written(self) -> dict[str, Any]:
        """As plain data, keys by the names of the document, only those that were written; times and sizes as numbers.

        Not `model_dump`, which minds that a whole number of seconds stands where its type says float.
        """
        chosen, values = self.model_fields_set, vars(self)
        return {key: _plain(values[name]) for name, key in _keys(type(self)).items() if name in chosen}


@cache
def _keys(part: type[BaseModel]) -> dict[str, str]:
    """The document's key of each field. Kept, since pydantic takes its time to tell a model's fields."""
    return {name: field.alias or name for name, field in part.model_fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str | int | float):  # nearly all; to ask a model's class whether it is one is slow
        return value
    if isinstance(value, Part):
        return value.written()
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return {key: _plain(inner) for key, inner in value.items()} if isinstance(value, dict) else value


Open = dict[str, Any]
"""A map whose inside is modelled by the issue that builds it; refused by name until then (see `unbuilt`)."""


def always(part: T) -> T:
    """A default that all share. Written plainly it would be copied deeply for each stage, which doubled the time."""
    shared: T = Field(default_factory=lambda: part)
    return shared
