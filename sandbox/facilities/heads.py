"""The head of a job script as an order: `#SBATCH` and `#PBS` lines, as sbatch and qsub read them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from sandbox.facility import Order, OrderRefused


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHORT = {
    "J": "job-name", "D": "chdir", "o": "output", "e": "error", "i": "input", "N": "nodes", "n": "ntasks",
    "c": "cpus-per-task", "G": "gpus", "t": "time", "p": "partition", "q": "qos", "A": "account", "d": "dependency",
    "H": "hold", "C": "constraint", "L": "licenses", "a": "array", "b": "begin", "M": "clusters", "S": "core-spec",
    "w": "nodelist", "x": "exclude", "s": "oversubscribe", "k": "no-kill", "W": "wait", "Q": "quiet", "v": "verbose",
}  # fmt: skip
_FLAGS = _words(
    """
    requeue no-requeue hold oversubscribe no-kill wait quiet verbose spread-job contiguous overcommit parsable
    test-only use-min-nodes
    """
)
_OPTIONAL = frozenset({"exclusive", "get-user-env", "nice", "propagate"})
"""Options whose value may be missing."""
_SILENT = _OPTIONAL | _words(
    """
    constraint licenses array begin clusters core-spec nodelist exclude export export-file mail-type mail-user
    wckey time-min deadline distribution kill-on-invalid-dep ntasks-per-core ntasks-per-socket ntasks-per-gpu
    gpu-bind gpus-per-task gpus-per-socket cpus-per-gpu mem-per-cpu mem-per-gpu mem-bind hint mincpus tmp profile
    power priority switches thread-spec threads-per-core cores-per-socket sockets-per-node network bb bbf
    acctg-freq batch image module volume container delay-boot extra-node-info gid uid gres-flags prefer umask
    """
)
"""Options that are read and change nothing here."""


def slurm_order(script: str, *, base: Order | None = None) -> Order:
    """The order that sbatch makes of a script; what stands in `base` is what was said besides, and yields to the head.

    Raises OrderRefused in sbatch's words.
    """
    order = replace(base or Order(), script=script)
    tasks = {"ntasks": 0, "ntasks-per-node": 0, "cpus-per-task": 1}
    for name, value in _options(script):
        if name in tasks:
            tasks[name] = _count(name, value)
        elif name not in _SILENT:
            order = _slurm(order, name, value)
    cores = max(tasks["ntasks-per-node"], -(-tasks["ntasks"] // max(1, order.nodes)), 1) * tasks["cpus-per-task"]
    return replace(order, cores=max(order.cores, cores))


def _options(script: str) -> Iterator[tuple[str, str]]:
    for words in _lines(script, "#SBATCH"):
        while words:
            yield _option(words)


def _option(words: list[str]) -> tuple[str, str]:
    """The next option, taken off the front."""
    word = words.pop(0)
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        known = name in _FLAGS or name in _SILENT or name in _SLURM or name in {"ntasks", "ntasks-per-node"}
        if not known and name != "cpus-per-task":
            raise OrderRefused("script", f"sbatch: unrecognized option '--{name}'")
        if equals or name in _FLAGS or name in _OPTIONAL:
            return name, value
    elif len(word) > 1 and word[0] == "-" and word[1] in _SHORT:
        name = _SHORT[word[1]]
        if len(word) > 2 or name in _FLAGS:
            return name, word[2:].removeprefix("=")
    else:
        raise OrderRefused("script", f"sbatch: error: Invalid option in the script's head: {word[:80]!r}")
    if not words:
        raise OrderRefused("script", f"sbatch: option '{word}' requires an argument")
    return name, words.pop(0)


def _lines(script: str, mark: str) -> Iterator[list[str]]:
    """The words behind each mark, up to the first command."""
    for line in script.splitlines()[:2_000]:
        if line.startswith(mark) and line[len(mark) : len(mark) + 1] in {" ", "\t"}:
            try:
                yield shlex.split(line[len(mark) :], comments=True)
            except ValueError as error:
                raise OrderRefused("script", f"the script's head: {error}: {line[:120]!r}") from error
        elif line.strip() and not line.startswith("#"):
            return


# -- Slurm's options -------------------------------------------------------------------------------------------


def _slurm(order: Order, name: str, value: str) -> Order:
    try:
        return _SLURM[name](order, value)
    except (ValueError, IndexError) as error:
        raise OrderRefused("script", f"sbatch: error: Invalid --{name} specification: {value[:80]!r}") from error


def _gres(order: Order, value: str) -> Order:
    found = re.search(r"gpu(?::[\w.-]+)?:(\d+)", value)
    return replace(order, gpus=int(found[1])) if found else order


def _gpus(order: Order, value: str) -> Order:
    return replace(order, gpus=int(value.rpartition(":")[2]))


def _signal(order: Order, value: str) -> Order:
    """`[R][B]:SIG@seconds`; without a number 60, as sbatch has it."""
    what, _, seconds = value.rpartition(":")[2].partition("@")
    if what.upper().removeprefix("SIG") not in {"USR1", "10"}:
        return order
    return replace(order, warn_before=int(seconds or 60))


def _dependency(order: Order, value: str) -> Order:
    extra = {**order.extra, "dependency": value}
    return replace(order, singleton="singleton" in re.split(r"[,?]", value), extra=extra)


def _kept(name: str) -> Callable[[Order, str], Order]:
    return lambda order, value: replace(order, extra={**order.extra, name: value})


_SLURM: Mapping[str, Callable[[Order, str], Order]] = {
    "job-name": lambda order, value: replace(order, name=value),
    "comment": lambda order, value: replace(order, comment=value),
    "chdir": lambda order, value: replace(order, directory=value),
    "output": lambda order, value: replace(order, stdout=value),
    "error": lambda order, value: replace(order, stderr=value),
    "nodes": lambda order, value: replace(order, nodes=int(value.partition("-")[0])),
    "gpus": _gpus,
    "gpus-per-node": _gpus,
    "gres": _gres,
    "mem": lambda order, value: replace(order, memory=size(value)),
    "time": lambda order, value: replace(order, walltime=slurm_time(value)),
    "partition": lambda order, value: replace(order, queue=value),
    "qos": lambda order, value: replace(order, qos=value),
    "account": lambda order, value: replace(order, account=value),
    "reservation": lambda order, value: replace(order, reservation=value),
    "requeue": lambda order, _: replace(order, requeue=True),
    "no-requeue": lambda order, _: replace(order, requeue=False),
    "hold": lambda order, _: replace(order, hold=True),
    "signal": _signal,
    "dependency": _dependency,
    "open-mode": _kept("open_mode"),
    "input": _kept("stdin"),
    **{name: lambda order, _: order for name in _FLAGS - {"requeue", "no-requeue", "hold"}},
}


def slurm_time(text: str) -> float | None:
    """Seconds of M, M:S, H:M:S, D-H, D-H:M, D-H:M:S; None: UNLIMITED. Raises ValueError."""
    if text.upper() in {"UNLIMITED", "INFINITE", "-1"}:
        return None
    days, dash, clock = text.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    if not 1 <= len(parts) <= 3 or min(parts) < 0:
        raise ValueError(text)
    if dash:
        hours, minutes, seconds = [*parts, 0, 0][:3]
    else:
        hours, minutes, seconds = {1: [0, *parts, 0], 2: [0, *parts], 3: parts}[len(parts)]
    return float(int(days or 0) * 86_400 + hours * 3_600 + minutes * 60 + seconds)


_UNITS = {"": 1 << 20, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def size(text: str) -> int:
    """Bytes of `500M`, `2G`, `100` (mebibytes), also `4gb`. Raises ValueError."""
    found = re.fullmatch(r"(\d+)([kmgt]?)i?b?", text.lower())
    if not found:
        raise ValueError(text)
    return int(found[1]) * _UNITS[found[2]]


def _count(name: str, value: str) -> int:
    if not value.isdecimal():
        raise OrderRefused("script", f"sbatch: error: Invalid numeric value {value[:40]!r} for --{name}.")
    return int(value)


# -- PBS's -----------------------------------------------------------------------------------------------------

_PBS_FLAGS = frozenset("hIVXz")


def pbs_order(script: str, *, base: Order | None = None) -> Order:
    """The order that qsub makes of a script. Raises OrderRefused in qsub's words."""
    order = replace(base or Order(), script=script)
    for words in _lines(script, "#PBS"):
        while words:
            word = words.pop(0)
            if not re.fullmatch(r"-[A-Za-z].*", word, re.DOTALL):
                raise OrderRefused("script", f"qsub: directive error: {word[:80]}")
            letter, value = word[1], word[2:]
            if letter not in _PBS_FLAGS and not value:
                if not words:
                    raise OrderRefused("script", f"qsub: directive error: {word}")
                value = words.pop(0)
            try:
                order = _pbs(order, letter, value)
            except (ValueError, IndexError) as error:
                raise OrderRefused("script", f"qsub: Illegal attribute or resource value {value[:80]}") from error
    return order


def _pbs(order: Order, letter: str, value: str) -> Order:
    match letter:
        case "N":
            return replace(order, name=value)
        case "q":
            return replace(order, queue=value)
        case "A":
            return replace(order, account=value)
        case "o":
            return replace(order, stdout=value)
        case "e":
            return replace(order, stderr=value)
        case "j":
            return replace(order, stderr="")
        case "r":
            return replace(order, requeue=value == "y")
        case "h":
            return replace(order, hold=True)
        case "v":
            pairs = [item.partition("=") for item in value.split(",")]
            return replace(order, env={**order.env, **{name: text for name, equals, text in pairs if equals}})
        case "l":
            for item in value.split(","):
                order = _resource(order, item)
    return order


def _resource(order: Order, item: str) -> Order:
    name, _, value = item.partition("=")
    if name == "walltime":
        parts = [int(part) for part in value.split(":")]
        return replace(order, walltime=float(sum(part * 60**n for n, part in enumerate(reversed(parts)))))
    if name == "select":
        count, *chunk = value.split(":")
        words = dict(word.partition("=")[::2] for word in chunk)
        return replace(
            order,
            nodes=int(count),
            cores=int(words.get("ncpus", 1)),
            gpus=int(words.get("ngpus", 0)),
            memory=size(words["mem"]) if "mem" in words else order.memory,
        )
    return replace(order, extra={**order.extra, name: value}) if value else order
