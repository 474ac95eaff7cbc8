"""Slurm by its commands: sbatch, squeue, sacct where there is an accounting, scancel, sinfo, scontrol.

One script asks squeue for all names at once, and the accounting for those that squeue does not know (any more). The
id is no identity: a controller that crashed was seen to give one out twice; jobs are found by name and comment.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from connectors.command import slurm_health
from connectors.command.calls import PLAIN, Section
from connectors.command.dialect import Call, Found, Job
from connectors.command.options import CommandOptions
from connectors.errors import BadReply, Fault, SiteUnreachable
from connectors.model import Accepted, Doubtful, Evidence, Finding, JobSpec, Refused, SubmitAnswer
from connectors.slurm import SlurmJob, job_of, job_script

_SEPARATOR = "\x1f"
_QUEUE_FIELDS = (
    "JobID", "Name", "State", "RestartCnt", "exit_code", "SubmitTime", "StartTime", "EndTime", "UserName", "WorkDir",
    "Reason", "Comment",
)  # fmt: skip
_BOOK_FIELDS = (
    "JobIDRaw", "JobName", "State", "ExitCode", "Submit", "Start", "End", "User", "WorkDir", "Reason", "Comment",
)  # fmt: skip
_NO_BOOKS = re.compile(r"accounting storage is disabled|not found|no such file", re.IGNORECASE)
_FULL = re.compile(
    r"MaxSubmitJob|QOSMax|AssocMax|AssocGrp|QOSGrp|job violates accounting|quota|allocation|insufficient balance",
    re.IGNORECASE,
)
_UNHEARD = re.compile(r"timed out|unable to contact|connect|communication|zero bytes|unexpected message", re.IGNORECASE)
"""Of sbatch's words, those that do not tell whether the controller has the job."""
_ID = re.compile(r"([0-9]{1,12})(;[\w.-]+)?")

_SUBMIT = """
submit_one() { printf '%s' "$1" | base64 -d | sbatch --parsable; }
while IFS= read -r key && IFS= read -r text; do section "$key" submit_one "$text"; done
"""
_ASK = """
IFS= read -r form && IFS= read -r fields && IFS= read -r books && IFS= read -r everywhere &&
    IFS= read -r since && IFS= read -r columns && IFS= read -r keys || exit 1
me=$(id -un)
if [ "$form" = auto ]; then
    version=$(squeue --version 2>/dev/null </dev/null)
    version=${version##* }
    major=${version%%.*} minor=${version#*.}
    minor=${minor%%.*}
    minor=${minor#0}
    form=text
    case $major$minor in
        *[!0-9]* | '') ;;
        *) [ "$((major * 100 + ${minor:-0}))" -lt 2311 ] || form=json ;;
    esac
fi
set -- -h -t all -u "$me"
[ -z "$keys" ] || set -- "$@" --name="$keys"
if [ "$form" = json ]; then set -- "$@" --json; else set -- "$@" -O "$fields"; fi
# kept in a variable: what is in it decides whom the accounting is asked for
queue=$(squeue "$@" 2>&1 </dev/null)
code=$?
printf '\\ncrossfade %s out queue_%s\\n%s' "$nonce" "$form" "$queue"
printf '\\ncrossfade %s err queue_%s %s\\n' "$nonce" "$form" "$code"
[ "$code" -eq 0 ] && [ "$books" != off ] || exit_now=yes
if [ -z "${exit_now:-}" ] && [ "$everywhere" != yes ]; then
    keys=$({ printf '%s' "$keys" | tr , '\\n'; printf '\\n.\\n'; printf '%s' "$queue" | tr -cs 'a-z0-9' '\\n'; } | awk '
        part { delete want[$0]; next }
        $0 == "." { part = 1; next }
        $0 != "" { want[$0] = 1 }
        END { for (key in want) { printf "%s%s", comma, key; comma = "," } }')
    [ -n "$keys" ] || exit_now=yes
fi
if [ -z "${exit_now:-}" ]; then
    set -- -n -X -D -P --delimiter="$separator" -u "$me" -S "now-${since}seconds" -o "$columns"
    [ -z "$keys" ] || set -- "$@" --name="$keys"
    section books sacct "$@" </dev/null
fi
"""
_CANCEL = """
me=$(id -un)
while IFS= read -r name && IFS= read -r id; do
    # both: an id may have become another job's
    section "c$id" scancel --quiet --user="$me" --name="$name" "$id" </dev/null
done
"""


class SlurmDialect:
    """The port `connectors.command.dialect.Dialect`."""

    def __init__(self, *, site: str, root: str, owner: str, umask: str, options: CommandOptions) -> None:
        self._site, self._root, self._owner, self._umask = site, root, owner, umask
        self._options = options

    # -- submitting ----------------------------------------------------------------------------------------

    def script(self, spec: JobSpec) -> str:
        singleton = self._options.singleton
        return job_script(spec, root=self._root, owner=self._owner, singleton=singleton, umask=self._umask)

    def request(self, spec: JobSpec) -> str:
        return f"sbatch --parsable  # the script above on its stdin, as {spec.key}"

    def submitting(self, scripts: Mapping[str, str]) -> Call:
        lines = [line for key, text in scripts.items() for line in (key, base64.b64encode(text.encode()).decode())]
        return Call(script=_SUBMIT, lines=lines)

    def submitted(self, section: Section | None) -> SubmitAnswer:
        if section is None:
            return Doubtful(reason="the reply does not say what became of it")
        found = [it for line in section.out.splitlines() if (it := _ID.fullmatch(line.strip()))]
        if section.code == 0 and found:
            return Accepted(native_id=found[-1].group(1))
        if section.code == 0 or found or _UNHEARD.search(section.err):
            return Doubtful(reason=f"sbatch: {section.said}")
        fault = Fault.QUOTA if _FULL.search(section.err) else Fault.SITE
        return Refused(reason=f"sbatch: {section.said}", fault=fault.value)

    # -- asking --------------------------------------------------------------------------------------------

    def asking(self, keys: Sequence[str], *, everywhere: bool, since: float | None) -> Call:
        fields = ",".join(f"{field}:{_SEPARATOR}" for field in _QUEUE_FIELDS)
        past = int(min(self._options.history, since) if since is not None else self._options.history)
        lines = [
            self._options.squeue, fields, self._options.accounting, "yes" if everywhere or not keys else "no",
            str(max(60, past)), ",".join(_BOOK_FIELDS), ",".join(keys),
        ]  # fmt: skip
        return Call(script=f"{PLAIN}separator='{_SEPARATOR}'\n{_ASK}", lines=lines)

    def answered(self, sections: Mapping[str, Section]) -> Found:
        form, queue = next(
            ((name, found) for name, found in sections.items() if name.startswith("queue_")), ("", Section.nothing())
        )
        if not form or queue.code != 0:
            raise SiteUnreachable(f"site {self._site}: squeue: {queue.said}", site=self._site)
        live = list(self._json(queue.out) if form == "queue_json" else _text(queue.out))
        books = sections.get("books")
        if books is None:
            return Found(jobs=live, complete=True)
        if books.code != 0:
            # no accounting at all has nothing to say; one that does not answer might have
            silent = _NO_BOOKS.search(books.err + books.out) and self._options.accounting != "on"
            return Found(jobs=live, complete=bool(silent))
        return Found(jobs=_together(live, _books(books.out)), complete=True)

    def _json(self, text: str) -> Iterator[SlurmJob]:
        begin = text.find("{")
        try:
            document, _ = json.JSONDecoder().raw_decode(text, begin) if begin >= 0 else (None, 0)
            records = document.get("jobs") if isinstance(document, dict) else None
        except (ValueError, RecursionError) as error:
            raise BadReply(f"site {self._site}: squeue printed no JSON", site=self._site) from error
        if not isinstance(records, list):
            raise BadReply(f"site {self._site}: squeue's JSON has no list of jobs", site=self._site)
        for record in records:
            job = job_of(record) if isinstance(record, dict) else None
            if job is not None:
                yield job

    # -- the rest ------------------------------------------------------------------------------------------

    def canceling(self, jobs: Sequence[Job]) -> Call:
        return Call(script=_CANCEL, lines=[line for job in jobs for line in (job.name, job.native_id)])

    def probing(self) -> Call:
        return slurm_health.probing()

    def probed(self, sections: Mapping[str, Section], *, site: str, at: int, latency: float) -> Sequence[Evidence]:
        return slurm_health.evidence(sections, site=site, at=at, latency=latency)

    def checked(self, sections: Mapping[str, Section]) -> Sequence[Finding]:
        return slurm_health.findings(sections)


def _text(told: str) -> Iterator[SlurmJob]:
    """The queue's own columns; what is no such line is a word of something else."""
    for line in told.split("\n"):
        parts = line.split(_SEPARATOR)
        if len(parts) < len(_QUEUE_FIELDS):
            continue
        told_ = dict(zip(_QUEUE_FIELDS, (part.strip() for part in parts), strict=False))
        job = job_of(
            {
                "job_id": told_["JobID"],
                "name": told_["Name"],
                "job_state": told_["State"],
                "restart_cnt": told_["RestartCnt"],
                "exit_code": told_["exit_code"],
                "submit_time": told_["SubmitTime"],
                "start_time": told_["StartTime"],
                "end_time": told_["EndTime"],
                "user_name": told_["UserName"],
                "current_working_directory": told_["WorkDir"],
                "state_reason": told_["Reason"],
                "comment": told_["Comment"],
            }
        )
        if job is not None:
            yield job


def _books(told: str) -> Iterator[SlurmJob]:
    """The accounting's rows: each execution of a requeued job has one, the last is what became of it."""
    rows: dict[tuple[str, str], list[SlurmJob]] = {}
    for line in told.split("\n"):
        parts = line.split(_SEPARATOR)
        if len(parts) != len(_BOOK_FIELDS):
            continue
        row = dict(zip(_BOOK_FIELDS, parts, strict=True))
        job = job_of(
            {
                "job_id": row["JobIDRaw"],
                "name": row["JobName"],
                "job_state": row["State"],
                "exit_code": row["ExitCode"],
                "submit_time": row["Submit"],
                "start_time": row["Start"],
                "end_time": row["End"],
                "user": row["User"],
                "current_working_directory": row["WorkDir"],
                "state_reason": row["Reason"],
                "comment": row["Comment"],
            }
        )
        if job is not None:
            rows.setdefault((job.native_id, job.name), []).append(job)
    for executions in rows.values():
        yield replace(executions[-1], restarts=len(executions) - 1)


def _together(live: Sequence[SlurmJob], ended: Iterator[SlurmJob]) -> list[SlurmJob]:
    """The queue knows better what it knows; the accounting adds what has left it."""
    known = {(job.native_id, job.name) for job in live}
    return [*live, *(job for job in ended if (job.native_id, job.name) not in known)]
