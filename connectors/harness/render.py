"""From a plan to the files of an attempt's directory.

Values reach the site in two ways only: as single-quoted assignments in `job.conf`, which `stage.sh` reads, or as the
payload's own shell text. `stage.sh` itself is the same bytes for every job: nothing is ever pasted into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

from connectors.harness.pattern import literal, translate
from connectors.harness.plan import HarnessCheckpoint, HarnessPlan, Input, Link, Output
from connectors.harness.records import MAX_ENTRIES, MAX_NUMBER, RecordError, check_path, format_inputs
from connectors.model import SmallFile

ENTRY = ".crossfade/stage.sh"

GATED = 73
"""Exit code: another execution of this attempt is alive, or the attempt has already ended."""
SUPERSEDED = 74
"""Exit code: a newer generation has taken over; this one committed nothing more."""
TOO_LATE = 75
"""Exit code: `start_before` had passed."""
RESTORE_FAILED = 76
"""Exit code: the checkpoint to begin from does not verify."""
SECRET_PREFIX = "CROSSFADE_SECRET_"  # noqa: S105 - of a variable's name
"""Begins the variable by which a job is told a secret; the payload finds it under its own name alone."""
INPUT_MISSING = 77
"""Exit code: an input is not there, or has another size than the file that was brought."""

SIGNALS = ("USR1", "USR2", "TERM", "INT", "HUP", "QUIT", "ALRM", "CONT", "WINCH", "URG")
"""What a payload may be asked with; `SIGUSR1` is taken for `USR1`."""

_HERE = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_KEY = re.compile(r"[a-z0-9]{1,64}")
_WORD = re.compile(r"[!-~]{0,200}")
_LINE_ENDS = re.compile(r"[\x00-\x1f\x7f]")
_SHELLS_OWN = frozenset({"PPID", "UID", "EUID", "BASHOPTS", "SHELLOPTS", "BASH_ENV", "ENV"})
"""Names that some shells refuse to set, or that would run a file before the payload."""
_GROUPS_OF_THE_WRAPPER = 5
"""Inode, size, date and path in `scan` of stage.sh, and the one around the pattern."""
_MAX_SECONDS = 10**10
_MAX_MICROS = _MAX_SECONDS * 1_000_000


class UnsafePlan(ValueError):
    """A value that must not, or cannot, be told to the site's shell."""


def render(plan: HarnessPlan) -> tuple[SmallFile, ...]:
    """The files of one attempt, relative to its directory; raises UnsafePlan or UnsupportedPattern."""
    environment = _environment(plan)
    files = [
        *_constant_files(),
        SmallFile(path=".crossfade/job.conf", content=_encoded(_conf(plan))),
        SmallFile(path=".crossfade/payload.sh", content=_payload(plan, plan.command, environment), mode=0o700),
    ]
    if 0 < len(plan.inputs) <= MAX_ENTRIES:  # more than that no record holds, and nobody looks
        files.extend(_inputs(plan.inputs))
    if plan.links:
        files.append(SmallFile(path=".crossfade/links", content=_encoded("".join(map(_link_lines, plan.links)))))
    if plan.outputs:
        files.append(SmallFile(path=".crossfade/outputs", content=_encoded(_outputs(plan))))
    if plan.restart is not None:
        content = _payload(plan, plan.restart, environment)
        files.append(SmallFile(path=".crossfade/restart.sh", content=content, mode=0o700))
    if plan.checkpoint is not None and plan.checkpoint.ask_kind == "command":
        content = _encoded(f"{environment}{_script(plan.checkpoint.ask_value)}")
        files.append(SmallFile(path=".crossfade/ask.sh", content=content, mode=0o700))
    return tuple(files)


@cache
def _constant_files() -> tuple[SmallFile, ...]:
    """The same objects for every job: read once, hashed and stored once by whoever keeps files by digest."""
    return (
        SmallFile(path=ENTRY, content=(_HERE / "stage.sh").read_bytes(), mode=0o700),
        SmallFile(
            path=".crossfade/bin/crossfade-checkpoint",
            content=(_HERE / "crossfade-checkpoint").read_bytes(),
            mode=0o700,
        ),
    )


@cache
def _begin() -> str:
    return (_HERE / "begin.sh").read_text()


# -- the payload's own text --------------------------------------------------------------------------------


def _payload(plan: HarnessPlan, command: str, environment: str) -> bytes:
    asked = plan.checkpoint
    # the shell must outlive a signal that is meant for what it runs; `trap ''` would hide it from the children
    trap = f"trap : {_signal(asked)}\n" if asked is not None and asked.ask_kind == "signal" else ""
    setup = f"set +u\n{_script(plan.setup)}set -eu\n" if plan.setup else ""
    return _encoded(f"{_begin()}{trap}{environment}{setup}{_script(command)}")


def _environment(plan: HarnessPlan) -> str:
    lines = []
    for name, value in plan.env.items():
        _check_variable(name)
        lines.append(f"export {name}={_quoted(value)}\n")
    for name in plan.secrets:
        _check_variable(name)
        lines.append(f'export {name}="${{{SECRET_PREFIX}{name}?}}"\nunset {SECRET_PREFIX}{name}\n')
    # after the plan's own PATH, so that `crossfade-checkpoint` is always found
    lines.append('PATH="${CROSSFADE_CHECKPOINT_DIR%/*/*}/bin:$PATH"\nexport PATH\n')
    return "".join(lines)


@lru_cache(maxsize=1024)
def _check_variable(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UnsafePlan(f"{name[:80]!r} is not a name for an environment variable")
    if name.startswith("CROSSFADE_") or name in _SHELLS_OWN:
        raise UnsafePlan(f"the environment variable {name} is not yours to set")


def _script(text: str) -> str:
    if "\0" in text:
        raise UnsafePlan("a command holds a NUL character")
    return text if text.endswith("\n") else text + "\n"


# -- job.conf ----------------------------------------------------------------------------------------------


def _conf(plan: HarnessPlan) -> str:
    """Assignments only. Every name is always set, so that none is taken from the site's environment."""
    if not _KEY.fullmatch(plan.key) or not _WORD.fullmatch(plan.digest):
        raise UnsafePlan("the key or the digest is not one of ours")
    if not 1 <= plan.heartbeat_seconds <= plan.fence_seconds // 2 <= _MAX_SECONDS:
        raise UnsafePlan("fence_seconds must be at least twice heartbeat_seconds, and that at least 1")
    if plan.duplicates not in {"allow", "never", "ask"}:
        raise UnsafePlan("duplicates must be allow, never or ask")
    return (
        f"cf_key='{plan.key}'\n"
        f"cf_digest={_quoted(plan.digest)}\n"
        f"cf_spool='{'../' * _count(plan.directory_depth, 64)}spool'\n"
        f"cf_duplicates='{plan.duplicates}'\n"
        f"cf_native_var='{_variable(plan.native_id_var)}'\n"
        f"cf_restart_var='{_variable(plan.restart_var)}'\n"
        f"cf_fence='{_count(plan.fence_seconds)}'\n"
        f"cf_beat='{_count(plan.heartbeat_seconds)}'\n"
        f"cf_grace='{_count(plan.grace_seconds)}'\n"
        f"cf_start_before='{_moment(plan.start_before)}'\n"
        f"cf_stop_before='{_moment(plan.stop_before)}'\n"
        f"cf_walltime='{_optional(plan.walltime)}'\n"
        f"cf_restore='{'' if plan.restore is None else _count(plan.restore.seq)}'\n"
        f"{_NO_CHECKPOINT if plan.checkpoint is None else _checkpoint_conf(plan.checkpoint)}"
    )


_CHECKPOINT_NAMES = (
    "style", "keep", "path", "match", "match_group", "complete", "complete_group",
    "ask_kind", "ask_value", "before_end", "every",
)  # fmt: skip


@lru_cache(maxsize=256)
def _checkpoint_conf(checkpoint: HarnessCheckpoint) -> str:
    """Cached: the thousand members of one sweep share one declaration."""
    if checkpoint.restore_style not in {"dir", "in_place"} or checkpoint.keep < 1:
        raise UnsafePlan("a checkpoint needs restore: dir or in_place, and keep of at least 1")
    path = "." if checkpoint.path in {".", "./"} else _below(checkpoint.path.rstrip("/"))
    match, match_group = _pattern(path, checkpoint.match)
    complete, complete_group = _pattern(path, checkpoint.complete)
    values = (
        checkpoint.restore_style,
        str(_count(checkpoint.keep)),
        path,
        match,
        match_group,
        complete,
        complete_group,
        checkpoint.ask_kind or "",
        _ask_value(checkpoint),
        str(_count(checkpoint.before_end)),
        _optional(checkpoint.every),
    )
    return "".join(f"cf_{name}={_quoted(value)}\n" for name, value in zip(_CHECKPOINT_NAMES, values, strict=True))


def _ask_value(checkpoint: HarnessCheckpoint) -> str:
    match checkpoint.ask_kind:
        case None | "command":
            return ""
        case "file":
            return _below(checkpoint.ask_value)
        case "signal":
            return _signal(checkpoint)
        case other:
            raise UnsafePlan(f"a checkpoint is asked for by file, signal or command, not by {other[:40]!r}")


def _signal(checkpoint: HarnessCheckpoint) -> str:
    name = checkpoint.ask_value.upper().removeprefix("SIG")
    if name not in SIGNALS:
        raise UnsafePlan(f"cannot ask with the signal {checkpoint.ask_value[:40]!r}; use one of {', '.join(SIGNALS)}")
    return name


def _pattern(folder: str, text: str | None) -> tuple[str, str]:
    """An expression for whole paths from the attempt's directory, and where `sed` finds the number in it."""
    if text is None:
        return "", ""
    translated = translate(text)
    prefix = "" if folder == "." else literal(folder + "/")
    return f"{prefix}({translated.ere})", str(_GROUPS_OF_THE_WRAPPER + translated.number_group)


def _inputs(inputs: Sequence[Input]) -> Iterator[SmallFile]:
    """`.crossfade/inputs`, and `inputs.2` and so on for what one small file does not hold."""
    records = format_inputs([(_inside(given.path), _count(given.size, MAX_NUMBER)) for given in inputs])
    for number, content in enumerate(records, 1):
        yield SmallFile(path=f".crossfade/inputs.{number}" if number > 1 else ".crossfade/inputs", content=content)


def _outputs(plan: HarnessPlan) -> str:
    return "".join([_output_line(output) for output in plan.outputs])


def _link_lines(link: Link) -> str:
    """Four lines, which `stage.sh` reads as they are: nothing in them is ever the shell's."""
    if not link.target.startswith("/") or _LINE_ENDS.search(link.target + (link.match or "")):
        raise UnsafePlan(f"no link can lead to {link.target[:80]!r}")
    return f"{_below(link.name.rstrip('/'))}\n{link.target}\n{link.match or ''}\n{_count(link.wait)}\n"


@lru_cache(maxsize=4096)
def _output_line(output: Output) -> str:
    return f"{'required' if output.required else 'optional'} {_below(output.path.rstrip('/'))}\n"


@lru_cache(maxsize=4096)
def _below(path: str) -> str:
    return _inside(path)


def _inside(path: str) -> str:
    """A relative path that stays in the attempt's directory and out of ours."""
    path = path.removeprefix("./")
    try:
        check_path(path)
    except RecordError as error:
        raise UnsafePlan(str(error)) from error
    if path.split("/", 1)[0] == ".crossfade":
        raise UnsafePlan(f"the folder .crossfade is not yours to use: {path[:80]!r}")
    return path


def _quoted(value: str) -> str:
    """One shell word, whatever the value holds; a newline stays a newline, a NUL is refused."""
    if "\0" in value:
        raise UnsafePlan("a value holds a NUL character")
    return "'" + value.replace("'", "'\\''") + "'"


def _variable(name: str | None) -> str:
    if name is None:
        return ""
    if not _NAME.fullmatch(name):
        raise UnsafePlan(f"{name[:80]!r} is not a name for an environment variable")
    return name


def _count(value: int, most: int = _MAX_SECONDS) -> int:
    if not 0 <= value <= most:
        raise UnsafePlan(f"a number is out of its range: {value} (0 to {most})")
    return int(value)


def _optional(seconds: int | None) -> str:
    return "" if seconds is None else str(_count(seconds))


def _moment(micros: int | None) -> str:
    """Whole seconds, rounded down: a bound may only come earlier."""
    return "" if micros is None else str(_count(micros, _MAX_MICROS) // 1_000_000)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnsafePlan("a value cannot be written as UTF-8") from error


_NO_CHECKPOINT = _checkpoint_conf(HarnessCheckpoint())
