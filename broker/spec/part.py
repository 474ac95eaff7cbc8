"""What all models of the documents share: strict, frozen, no key that they do not know."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T", bound=BaseModel)


class Part(BaseModel):
    """A map of the document. Keys that are Python words (`from`, `continue`) are fields with a `_` behind."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


Open = dict[str, Any]
"""A map whose inside is modelled by the issue that builds it; refused by name until then (see `unbuilt`)."""


def always(part: T) -> T:
    """A default that all share. Written plainly it would be copied deeply for each stage, which doubled the time."""
    shared: T = Field(default_factory=lambda: part)
    return shared
