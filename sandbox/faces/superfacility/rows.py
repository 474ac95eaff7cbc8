"""Jobs in the API's two forms: squeue's and sacct's columns, every one of them text, in the machine's local time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from connectors.model import JobState
from sandbox.facility import JobView

_WORDS = re.compile(r"\S+")
_SHORT = {
    "PENDING": "PD", "RUNNING": "R", "COMPLETING": "CG", "CONFIGURING": "CF", "SUSPENDED": "S", "REQUEUED": "RQ",
    "COMPLETED": "CD", "CANCELLED": "CA", "FAILED": "F", "TIMEOUT": "TO", "PREEMPTED": "PR", "NODE_FAIL": "NF",
    "BOOT_FAIL": "BF", "DEADLINE": "DL", "OUT_OF_MEMORY": "OOM", "REQUEUE_HOLD": "RH", "SPECIAL_EXIT": "SE",
}  # fmt: skip
_SQUEUE = _WORDS.findall(
    "account tres_per_node min_cpus min_tmp_disk end_time features group over_subscribe jobid name comment "
    "time_limit min_memory req_nodes command priority qos reason st user reservation wckey exc_nodes nice s:c:t "
    "exec_host cpus nodes dependency array_job_id sockets_per_node cores_per_socket threads_per_core "
    "array_task_id time_left time nodelist contiguous partition nodelist(reason) start_time state uid submit_time "
    "licenses core_spec schednodes work_dir "
)
_SACCT = _WORDS.findall(
    "account admincomment alloccpus allocnodes alloctres associd avecpu avecpufreq avediskread avediskwrite "
    "avepages averss avevmsize blockid cluster comment constraints consumedenergy consumedenergyraw cputime "
    "cputimeraw dbindex derivedexitcode elapsed elapsedraw eligible end exitcode flags gid group jobid jobidraw "
    "jobname layout maxdiskread maxdiskreadnode maxdiskreadtask maxdiskwrite maxdiskwritenode maxdiskwritetask "
    "maxpages maxpagesnode maxpagestask maxrss maxrssnode maxrsstask maxvmsize maxvmsizenode maxvmsizetask "
    "mcslabel mincpu mincpunode mincputask ncpus nnodes nodelist ntasks priority partition qos qosraw reason "
    "reqcpufreq reqcpufreqmin reqcpufreqmax reqcpufreqgov reqcpus reqmem reqnodes reqtres reservation "
    "reservationid reserved resvcpu resvcpuraw restarts start state submit suspended systemcpu systemcomment "
    "timelimit timelimitraw totalcpu tresusageinave tresusageinmax tresusageinmaxnode tresusageinmaxtask "
    "tresusageinmin tresusageinminnode tresusageinmintask tresusageintot tresusageoutave tresusageoutmax "
    "tresusageoutmaxnode tresusageoutmaxtask tresusageoutmin tresusageoutminnode tresusageoutmintask "
    "tresusageouttot uid user usercpu wckey wckeyid workdir "
)


class Columns:
    """Writes rows for one machine."""

    def __init__(self, *, zone: ZoneInfo, cluster: str, uid: int = 1000) -> None:
        self._zone = zone
        self._cluster = cluster
        self._uid = uid

    def squeue(self, view: JobView, now: int) -> Mapping[str, str]:
        """One row."""
        order, nodes = view.order, ",".join(view.nodes)
        reason = view.reason or "None"
        limit = order.walltime
        begun = view.started_at if view.state is JobState.RUNNING else view.start_expected_at
        end = begun + round(limit * 1e6) if begun is not None and limit is not None else None
        used = (now - view.started_at) / 1e6 if view.started_at is not None and begun is not None else 0.0
        left = limit - used if limit is not None else None
        return dict.fromkeys(_SQUEUE, "(null)") | {
            "account": order.account or "(null)",
            "min_cpus": str(max(1, order.cores)),
            "min_memory": _memory(order.memory),
            "min_tmp_disk": "0",
            "tres_per_node": f"gres:gpu:{order.gpus}" if order.gpus else "N/A",
            "group": order.user,
            "over_subscribe": "OK",
            "jobid": view.native_id,
            "array_job_id": view.native_id,
            "array_task_id": "N/A",
            "name": order.name,
            "comment": order.comment or "(null)",
            "time_limit": _span(limit),
            "time": _span(used),
            "time_left": _span(left),
            "command": str(order.extra.get("path", "(null)")),
            "priority": "0.000015",
            "qos": order.qos or "normal",
            "reason": reason,
            "st": _SHORT.get(view.word, view.word[:2]),
            "state": view.word,
            "user": order.user,
            "uid": str(self._uid),
            "reservation": order.reservation or "(null)",
            "nice": "0",
            "s:c:t": "*:*:*",
            "exec_host": view.nodes[0] if view.nodes else "n/a",
            "cpus": str(max(1, order.cores) * order.nodes),
            "nodes": str(order.nodes),
            "dependency": str(order.extra.get("dependency", "(null)")) if reason == "Dependency" else "(null)",
            "nodelist": nodes,
            "nodelist(reason)": nodes or f"({reason})",
            "contiguous": "0",
            "partition": order.queue,
            "submit_time": self.time(view.submitted_at),
            "start_time": self.time(begun, none="N/A"),
            "end_time": self.time(end, none="N/A"),
            "core_spec": "N/A",
            "work_dir": order.directory,
        }

    def sacct(self, view: JobView, now: int) -> Iterator[Mapping[str, str]]:
        """The job's row, then those of its steps."""
        order = view.order
        word = f"{view.word} by {self._uid}" if view.word == "CANCELLED" else view.word
        code = f"{view.exit_code or 0}:{view.signal or 0}"
        last = view.ended_at if view.ended_at is not None else now
        elapsed = max(0.0, (last - view.started_at) / 1e6) if view.started_at is not None else 0.0
        job = dict.fromkeys(_SACCT, "") | {
            "account": order.account,
            "alloccpus": str(max(1, order.cores) * order.nodes if view.started_at else 0),
            "allocnodes": str(order.nodes if view.started_at else 0),
            "cluster": self._cluster,
            "comment": order.comment,
            "derivedexitcode": "0:0",
            "elapsed": _span(elapsed),
            "elapsedraw": str(int(elapsed)),
            "eligible": self.time(view.submitted_at),
            "end": self.time(view.ended_at),
            "exitcode": code,
            "flags": "SchedMain",
            "gid": str(self._uid),
            "group": order.user,
            "jobid": view.native_id,
            "jobidraw": view.native_id,
            "jobname": order.name,
            "ncpus": str(max(1, order.cores) * order.nodes),
            "nnodes": str(order.nodes),
            "nodelist": ",".join(view.nodes) or "None assigned",
            "partition": order.queue,
            "priority": "69119",
            "qos": order.qos or "normal",
            "reason": view.reason or "None",
            "reqcpus": str(max(1, order.cores)),
            "reqmem": _memory(order.memory),
            "reqnodes": str(order.nodes),
            "reservation": order.reservation,
            "restarts": str(view.restarts),
            "start": self.time(view.started_at),
            "state": word,
            "submit": self.time(view.submitted_at),
            "suspended": "00:00:00",
            "timelimit": _span(order.walltime),
            "timelimitraw": str(int((order.walltime or 0) // 60)),
            "totalcpu": "00:00:00",
            "uid": str(self._uid),
            "user": order.user,
            "workdir": order.directory,
        }
        yield job
        if view.started_at is not None:
            for step in ("batch", "extern"):
                state = "CANCELLED" if view.word == "CANCELLED" else view.word
                name = {"jobid": f"{view.native_id}.{step}", "jobidraw": f"{view.native_id}.{step}", "jobname": step}
                yield job | name | {"user": "", "timelimit": "", "comment": "", "partition": "", "state": state}

    def time(self, at: int | None, *, none: str = "Unknown") -> str:
        """Local, without a zone, as Slurm prints."""
        return none if not at else datetime.fromtimestamp(at // 1_000_000, self._zone).strftime("%Y-%m-%dT%H:%M:%S")

    def moment(self, text: str, now: int) -> int:
        """What `--starttime` takes: now-2days, a date, a date and time. Raises ValueError."""
        found = re.fullmatch(r"now(?:([+-])(\d{1,12})(second|minute|hour|day|week)?s?)?", text)
        if found:
            unit = {"minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}.get(found[3] or "", 1)
            shift = int(found[2] or 0) * unit * 1_000_000
            return now - shift if found[1] == "-" else now + shift
        return round(datetime.fromisoformat(text).replace(tzinfo=self._zone).timestamp() * 1e6)

    def midnight(self, now: int) -> int:
        """Where sacct begins when nothing is said."""
        local = datetime.fromtimestamp(now / 1e6, self._zone)
        return round(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1e6)


def chosen(views: Sequence[JobView], wanted: Mapping[str, Sequence[str]]) -> list[JobView]:
    """Those that all filters let through."""
    tests: Mapping[str, Callable[[JobView], str]] = {
        "jobid": lambda view: view.native_id,
        "user": lambda view: view.order.user,
        "partition": lambda view: view.order.queue,
        "name": lambda view: view.order.name,
        "account": lambda view: view.order.account,
        "qos": lambda view: view.order.qos or "normal",
        "state": lambda view: view.word,
    }
    return [
        view
        for view in views
        if all(tests[name](view) in values for name, values in wanted.items() if name in tests and values)
    ]


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "UNLIMITED"
    text = str(timedelta(seconds=int(max(0.0, seconds)) % 86_400)).rjust(8, "0")
    days = int(seconds // 86_400)
    return f"{days}-{text}" if days else text


def _memory(count: int) -> str:
    return f"{count >> 20}M" if count else "0"
