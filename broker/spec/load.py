"""A document's text to a Workflow whose every part is sound."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.spec.check import validated
from broker.spec.expressions import Filling, ParamValue
from broker.spec.files import missing_files
from broker.spec.raw import RawDocument, read_document
from broker.spec.structure import structure_faults
from broker.spec.unbuilt import UNBUILT
from broker.spec.workflow import Workflow


def load_workflow(source: Path | RawDocument, *, base: Path | None) -> Workflow:
    """The workflow in a file, or in a document already read; `files` are looked for below `base` (None: nowhere).

    Values that depend on params stay texts until `compile_workflow`. Raises DocumentError with everything found.
    """
    raw = source if isinstance(source, RawDocument) else read_document(source)
    workflow = filled_workflow(raw, None)
    missing = missing_files(workflow, base) if base is not None else ()
    if missing:
        raise raw.refuse(missing)
    return workflow


def filled_workflow(raw: RawDocument, values: Mapping[str, ParamValue] | None) -> Workflow:
    """The document with these params; None: not known yet. Raises DocumentError."""
    filling = Filling(types=_declared_types(raw.data), values=values)
    workflow = validated(Workflow, raw, unbuilt=UNBUILT, context=filling).read_from(raw)
    faults = structure_faults(workflow)
    if faults:
        raise raw.refuse(faults)
    return workflow


def _declared_types(data: Mapping[str, Any]) -> dict[str, str]:
    """Params and their types, from data that may still be wrong: the model will say so."""
    params = data.get("params")
    if not isinstance(params, dict):
        return {}
    types = {name: param.get("type") for name, param in params.items() if isinstance(param, dict)}
    return {name: kind if isinstance(kind, str) else "text" for name, kind in types.items()}
