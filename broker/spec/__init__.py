"""The documents people write: read, validated, compiled.

The way of a workflow: `read_document` (text to plain data, with places) -> `load_workflow` (the model, structure
checked) -> `compile_workflow` (params filled, files digested, ready for the store). Every fault is a DocumentError.
"""

from __future__ import annotations

from broker.spec.compile import canonical, compile_workflow
from broker.spec.compiled import FORMAT, CompiledRun, CompiledStage
from broker.spec.effective import (
    body_for,
    input_matches,
    launches,
    render_command,
    render_words,
    rules_for,
    secrets_of,
    site_variables,
)
from broker.spec.errors import DocumentError, MissingSiteVariable, Problem, UnreadableDocument, Wrong
from broker.spec.launch import container_line, launcher_line, repeated
from broker.spec.load import load_workflow
from broker.spec.raw import RawDocument, document_from, parse_document, read_document
from broker.spec.schema import sites_schema, workflow_schema
from broker.spec.workflow import Workflow

__all__ = [
    "FORMAT",
    "CompiledRun",
    "CompiledStage",
    "DocumentError",
    "MissingSiteVariable",
    "Problem",
    "RawDocument",
    "UnreadableDocument",
    "Workflow",
    "Wrong",
    "body_for",
    "canonical",
    "compile_workflow",
    "container_line",
    "document_from",
    "input_matches",
    "launcher_line",
    "launches",
    "load_workflow",
    "parse_document",
    "read_document",
    "render_command",
    "render_words",
    "repeated",
    "rules_for",
    "secrets_of",
    "site_variables",
    "sites_schema",
    "workflow_schema",
]
