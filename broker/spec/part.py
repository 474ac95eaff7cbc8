"""What all models of the documents share: strict, frozen, no key that they do not know."""

from __future__ import annotations

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
        fields = type(self).model_fields
        chosen = self.model_fields_set
        return {field.alias or name: _plain(getattr(self, name)) for name, field in fields.items() if name in chosen}


def _plain(value: Any) -> Any:
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
