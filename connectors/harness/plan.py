"""What the harness is told of one attempt: frozen values, complete before anything is rendered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A file, or a folder with all below it, that the payload should leave; `path` is relative to its directory."""

    path: str
    required: bool = True


@dataclass(frozen=True, slots=True)
class Input:
    """A file that was brought to the attempt's directory before its job was submitted."""

    path: str
    """Relative to the attempt's directory."""
    size: int
    """Bytes, as whoever brought it has verified them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An input that is read where it lies: a symbolic link is made before the payload starts."""

    name: str
    """Relative to the attempt's directory."""
    target: str
    """Absolute, as the site's own file system has it."""
    match: str | None = None
    """Of a folder, only files whose path in it matches this pattern of the shell's, each by a link of its own."""
    wait: int = 0
    """Seconds that the target may still be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessCheckpoint:
    """How this payload writes checkpoints, and how it is asked for one.

    With `match` the wrapper finds them: the files below `path` whose whole relative name matches, and that share
    group 1 (digits), are one checkpoint. Without it only `crossfade-checkpoint` makes them.
    """

    path: str = "."
    match: str | None = None
    complete: str | None = None
    """The marker that says a checkpoint is whole, same group 1; None: sizes that stayed the same over two ticks."""
    ask_kind: str | None = None
    """None, "file" (the wrapper makes it), "signal" (to the payload's group) or "command" (run beside it)."""
    ask_value: str = ""
    """A relative path, a signal's name, or text for `/bin/sh -eu`, already rendered."""
    before_end: int = 0
    """Seconds before its end that the payload is asked; also how long a stop waits for the checkpoint."""
    every: int | None = None
    """Seconds between two asks; None: it writes by its own clock."""
    restore_style: str = "dir"
    """ "dir": CROSSFADE_RESTORE_DIR names the folder. "in_place": the files are put back where they were, too."""
    keep: int = 2
    """How many of a generation's newest checkpoints stay at the site; at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessRestore:
    """Checkpoint `seq` lies in `.crossfade/restore/` (`manifest`, `files/`) before the job starts."""

    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessPlan:
    """One attempt, as the wrapper at the site needs it. Times are int64 microseconds UTC, durations seconds."""

    key: str
    """The submit key."""
    digest: str
    """Digest of the spec that would run."""
    directory_depth: int
    """Components of `JobSpec.directory`: that many folders up is the site's root, and there `spool/`."""
    command: str
    """The payload for `/bin/sh -eu`; the broker has chosen between `run` and `restart`."""
    restart: str | None = None
    """Used instead of `command` when a requeue restores a checkpoint that this attempt wrote itself."""
    setup: str = ""
    """Shell lines before the payload, run without `-u`: module systems do not bear it."""
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Sequence[str] = ()
    """Variables whose values are in no file: the job is started with each as CROSSFADE_SECRET_NAME."""
    inputs: Sequence[Input] = ()
    """What has to be there, with that size, before the payload starts."""
    links: Sequence[Link] = ()
    outputs: Sequence[Output] = ()
    checkpoint: HarnessCheckpoint | None = None
    restore: HarnessRestore | None = None
    start_before: int | None = None
    """The payload is not started after this."""
    stop_before: int | None = None
    """The payload has ended before this."""
    walltime: int | None = None
    """Seconds of the whole job, as asked from the site."""
    grace_seconds: int = 10
    """Between TERM and KILL, within the bounds; never more than a tenth of the time there is."""
    fence_seconds: int = 60
    """A generation silent for longer is taken for dead; at least twice `heartbeat_seconds`."""
    heartbeat_seconds: int = 15
    """Also the rhythm in which bounds, requests and new checkpoints are looked at."""
    native_id_var: str | None = None
    """The scheduler's variable that holds the job's id (SLURM_JOB_ID); None: the wrapper's own process."""
    restart_var: str | None = None
    """The scheduler's variable that counts restarts (SLURM_RESTART_COUNT)."""
    duplicates: str = "allow"
    """"allow", "never" or "ask": only `allow` lets a second generation begin without a person."""
