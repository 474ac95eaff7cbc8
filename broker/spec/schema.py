"""The documents' JSON Schemas, for editors and for programs that write documents."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from broker.spec.site import SiteDocument
from broker.spec.unbuilt import UNBUILT, UNBUILT_AT_SITES, UNUSED_AT_SITES
from broker.spec.workflow import Workflow

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def workflow_schema() -> dict[str, Any]:
    """Of the workflow document: the whole language, with the keys that are refused today under `x-not-built`."""
    return _schema(Workflow, "crossfade workflow", sorted(UNBUILT))


def sites_schema() -> dict[str, Any]:
    """Of the site document, as `workflow_schema`; under `x-not-used` the keys that nothing goes by yet."""
    return _schema(SiteDocument, "crossfade sites", sorted(UNBUILT_AT_SITES)) | {"x-not-used": sorted(UNUSED_AT_SITES)}


def _schema(model: type[BaseModel], title: str, unbuilt: list[str]) -> dict[str, Any]:
    return {"$schema": DIALECT, **model.model_json_schema(), "title": title, "x-not-built": unbuilt}
