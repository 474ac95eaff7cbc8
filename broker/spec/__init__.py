"""The documents people write: read, validated, compiled.

The way of a workflow: `read_document` (text to plain data, with places) -> `load_workflow` (the model, structure
checked) -> `compile_workflow` (params filled, files digested, ready for the store). Every fault is a DocumentError.
"""

from __future__ import annotations

from broker.spec.compiled import CompiledRun, CompiledStage
from broker.spec.effective import body_for, input_matches, render_command, rules_for, site_variables
from broker.spec.errors import DocumentError, MissingSiteVariable, Problem

__all__ = [
    "CompiledRun",
    "CompiledStage",
    "DocumentError",
    "MissingSiteVariable",
    "Problem",
    "body_for",
    "input_matches",
    "render_command",
    "rules_for",
    "site_variables",
]
