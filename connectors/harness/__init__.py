"""The wrapper that makes all sites alike: plan in, files out; records back.

`render(plan)` gives the files of an attempt's directory; the connector starts `/bin/sh ENTRY` there. What the job
then leaves in the site's spool is read with `records`.
"""

from connectors.harness.pattern import UnsupportedPattern, check_pattern
from connectors.harness.plan import HarnessCheckpoint, HarnessPlan, HarnessRestore, Input, Link, Output
from connectors.harness.records import (
    CheckpointRecord,
    ExitRecord,
    Manifest,
    RecordError,
    StartRecord,
    TornRecord,
    check_path,
    format_manifest,
    format_record,
    parse_manifest,
    parse_record,
    parse_spool_name,
    spool_name,
)
from connectors.harness.render import (
    ENTRY,
    GATED,
    INPUT_MISSING,
    RESTORE_FAILED,
    SECRET_PREFIX,
    SUPERSEDED,
    TOO_LATE,
    UnsafePlan,
    render,
)

__all__ = [
    "ENTRY",
    "GATED",
    "INPUT_MISSING",
    "RESTORE_FAILED",
    "SECRET_PREFIX",
    "SUPERSEDED",
    "TOO_LATE",
    "CheckpointRecord",
    "ExitRecord",
    "HarnessCheckpoint",
    "HarnessPlan",
    "HarnessRestore",
    "Input",
    "Link",
    "Manifest",
    "Output",
    "RecordError",
    "StartRecord",
    "TornRecord",
    "UnsafePlan",
    "UnsupportedPattern",
    "check_path",
    "check_pattern",
    "format_manifest",
    "format_record",
    "parse_manifest",
    "parse_record",
    "parse_spool_name",
    "render",
    "spool_name",
]
