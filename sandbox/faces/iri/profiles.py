"""How the sites that speak IRI differ, for rehearsing: what each refuses, tells and forgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALCF_REFUSES = frozenset(
    {
        "inherit_environment",
        "environment",
        "stdin_path",
        "pre_launch",
        "post_launch",
        "launcher",
        "process_count",
        "processes_per_node",
        "cpu_cores_per_process",
        "gpu_cores_per_process",
        "exclusive_node_use",
        "reservation_id",
        "filters",
        "include_spec",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IriResource:
    """One of the facility's resources."""

    id: str
    name: str
    kind: str = "compute"
    """compute or storage."""
    part: str = "compute"
    """Which part of the rehearsal facility it stands for: compute or files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IriProfile:
    """One site's manners."""

    version: str = "v2"
    resources: Sequence[IriResource] = (
        IriResource(id="c0ffee00-0000-4000-8000-000000000001", name="machine"),
        IriResource(id="c0ffee00-0000-4000-8000-000000000002", name="scratch", kind="storage", part="files"),
    )
    refuses: frozenset[str] = frozenset()
    """Fields that are answered with 501."""
    needs_output: bool = False
    """`stdout_path` and `stderr_path` are mandatory."""
    needs_filesystems: bool = False
    """The custom attribute `filesystems` is mandatory, as PBS demands there."""
    unknown_job: int = 404
    """How an unknown job is answered."""
    tells_spec: bool = True
    """Does a job's record hold its specification, where that is asked for?"""
    tells_words: bool = True
    """Does it hold the scheduler's own word, reason and restart count?"""
    completed_with_code: bool = False
    """A job that ended with an exit code of its own is called completed, whatever the code."""
    keeps_keys: str = "yes"
    """Idempotency keys: `yes`; `no`, which is said with 501; `ignored`: the header means nothing."""
    lists_jobs: bool = True
    """Does the call for all jobs come to an end?"""
    task_seconds: float = 0.0
    """How long a file operation takes."""
    status_words: frozenset[str] = frozenset({"up", "down", "degraded", "unknown"})


REFERENCE = IriProfile()
NERSC = IriProfile(
    version="v1",
    resources=(
        IriResource(id="b1ce8cd1-e8b8-4f77-b2ab-152084c70281", name="perlmutter"),
        IriResource(id="0f9eb7a4-71ae-4f4e-9d6c-5d1c1a3f1b10", name="scratch", kind="storage", part="files"),
    ),
    keeps_keys="ignored",
    lists_jobs=False,
)
ALCF = IriProfile(
    version="v1",
    resources=(
        IriResource(id="55c1c993-1124-47f9-b823-514ba3849a9a", name="polaris"),
        IriResource(id="1c3ad9d4-2e91-42bc-becb-72b1fde1235c", name="eagle", kind="storage", part="files"),
    ),
    refuses=ALCF_REFUSES,
    needs_output=True,
    needs_filesystems=True,
    unknown_job=400,
    tells_spec=False,
    tells_words=False,
    completed_with_code=True,
    keeps_keys="ignored",
    status_words=frozenset({"up", "down", "unknown"}),
)
