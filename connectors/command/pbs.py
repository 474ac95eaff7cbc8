"""PBS by its commands: qsub, qselect, qstat, qdel.

A job that was accepted into a routing queue and could not be routed vanishes: then it is simply not there.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from connectors.command.calls import PLAIN, Section
from connectors.command.dialect import AskAgain, Call, Found, Job
from connectors.command.options import CommandOptions
from connectors.errors import BadReply, Fault, SiteUnreachable
from connectors.model import Accepted, Doubtful, Evidence, Finding, JobSpec, Refused, SubmitAnswer
from connectors.pbs import PbsJob, job_of, job_script, jobs_of_text

FEW = 30
"""Names that are looked for one by one; for more, all jobs of the user are listed."""
_GONE = frozenset({35, 153})
"""What qstat ends with when some of its jobs have ended, or are unknown, by now."""
_ID = re.compile(r"[0-9]{1,12}(\[\])?(\.[\w.-]+)?")
_FULL = re.compile(r"would exceed|no active allocation|allocation|quota|limit on", re.IGNORECASE)
_UNHEARD = re.compile(r"cannot connect|connection|timed out|timeout|end of file|communication", re.IGNORECASE)

_SUBMIT = """
submit_one() { printf '%s' "$1" | base64 -d | qsub; }
while IFS= read -r key && IFS= read -r text; do section "$key" submit_one "$text"; done
"""
_ASK = """
IFS= read -r form && IFS= read -r books && IFS= read -r keys || exit 1
TZ=UTC; export TZ
me=$(id -un)
pick() { # pick QSELECT...: ids of ours, by names or all
    if [ -z "$keys" ]; then "$@" -u "$me"; return; fi
    for key in $keys; do "$@" -u "$me" -N "$key" || return; done
}
ids='' past=-x
[ "$books" != off ] || past=''
# shellcheck disable=SC2086 # an option or none
if told=$(pick qselect $past 2>&1 </dev/null); then code=0; else
    code=$?
    # no history there
    if [ "$books" = auto ] && told=$(pick qselect 2>&1 </dev/null); then code=0 past=''; fi
fi
printf '\\ncrossfade %s out select\\n%s' "$nonce" "$told"
printf '\\ncrossfade %s err select %s\\n' "$nonce" "$code"
[ "$code" -ne 0 ] || ids=$(printf '%s\\n' "$told" | grep -E '^[0-9]+(\\[\\])?(\\..*)?$' | tr '\\n' ' ')
if [ -n "$ids" ]; then
    # shellcheck disable=SC2086 # ids are words
    if [ "$form" = json ]; then section json qstat $past -f -F json $ids </dev/null
    else section text qstat $past -f -w $ids </dev/null; fi
fi
"""
_CANCEL = """
while IFS= read -r number && IFS= read -r id; do section "c$number" qdel "$id" </dev/null; done
"""
_PROBE = """
section server qstat -B -f </dev/null
section queues qstat -Q </dev/null
section who id -un </dev/null
section qsub sh -c 'command -v qsub' </dev/null
"""
_PATH_HELP = "name the folder with PBS's commands: options: {path: [/opt/pbs/bin]}"


class PbsDialect:
    """The port `connectors.command.dialect.Dialect`."""

    def __init__(self, *, site: str, root: str, owner: str, umask: str, options: CommandOptions) -> None:
        self._site, self._root, self._owner, self._umask = site, root, owner, umask
        self._options = options
        self._form = "json"
        """Becomes text where the JSON there turned out to be none: a hint, found again by whoever comes anew."""

    def script(self, spec: JobSpec) -> str:
        return job_script(spec, root=self._root, owner=self._owner, umask=self._umask)

    def request(self, spec: JobSpec) -> str:
        return f"qsub  # the script above on its stdin, as {spec.key}"

    def submitting(self, scripts: Mapping[str, str]) -> Call:
        lines = [line for key, text in scripts.items() for line in (key, base64.b64encode(text.encode()).decode())]
        return Call(script=_SUBMIT, lines=lines)

    def submitted(self, section: Section | None) -> SubmitAnswer:
        if section is None:
            return Doubtful(reason="the reply does not say what became of it")
        found = [it.group() for line in section.out.splitlines() if (it := _ID.fullmatch(line.strip()))]
        if section.code == 0 and found:
            return Accepted(native_id=found[-1])
        if section.code == 0 or found or _UNHEARD.search(section.err):
            return Doubtful(reason=f"qsub: {section.said}")
        fault = Fault.QUOTA if _FULL.search(section.err) else Fault.SITE
        return Refused(reason=f"qsub: {section.said}", fault=fault.value)

    def asking(self, keys: Sequence[str], *, everywhere: bool, since: float | None) -> Call:  # noqa: ARG002
        """History comes in the same call: `everywhere` and `since` make no difference here."""
        names = " ".join(keys) if len(keys) <= FEW else ""
        return Call(script=PLAIN + _ASK, lines=[self._form, self._options.accounting, names])

    def answered(self, sections: Mapping[str, Section]) -> Found:
        select = sections.get("select") or Section.nothing()
        if select.code != 0:
            raise SiteUnreachable(f"site {self._site}: qselect: {select.said}", site=self._site)
        told = sections.get("json") or sections.get("text")
        if told is None:
            return Found(jobs=(), complete=True)
        if told.code not in _GONE | {0}:
            raise SiteUnreachable(f"site {self._site}: qstat: {told.said}", site=self._site)
        jobs = list(self._json(told.out) if "json" in sections else _from_text(told.out))
        asked = set(select.out.split())
        # ids that were just selected are shown, unless it says that they are gone
        missing = {one for one in asked if _ID.fullmatch(one)} - {job.native_id for job in jobs}
        return Found(jobs=jobs, complete=not missing or told.code in _GONE)

    def _json(self, text: str) -> Iterator[PbsJob]:
        begin = text.find("{")
        try:
            document = json.loads(text[begin:]) if begin >= 0 else {}
        except (ValueError, RecursionError) as error:
            self._form = "text"
            raise AskAgain from error
        records = document.get("Jobs", {}) if isinstance(document, dict) else None
        if not isinstance(records, dict):
            raise BadReply(f"site {self._site}: qstat's JSON has no jobs", site=self._site)
        for native_id, record in records.items():
            if isinstance(record, dict):
                yield job_of(native_id, record)

    def canceling(self, jobs: Sequence[Job]) -> Call:
        return Call(
            script=_CANCEL, lines=[line for number, job in enumerate(jobs) for line in (str(number), job.native_id)]
        )

    def probing(self) -> Call:
        return Call(script=PLAIN + _PROBE, lines=())

    def probed(self, sections: Mapping[str, Section], *, site: str, at: int, latency: float) -> Sequence[Evidence]:
        wrong = _server(sections)
        down = "" if wrong else _queues(sections)
        verdicts = {"status": wrong, "submit": wrong or down} | ({} if wrong else {"compute": down})
        return [
            Evidence(site=site, capability=name, ok=not why, at=at, latency=latency, detail=why)
            for name, why in verdicts.items()
        ]

    def checked(self, sections: Mapping[str, Section]) -> Sequence[Finding]:
        wrong, who, qsub = _server(sections), sections.get("who"), sections.get("qsub")
        has = qsub is not None and qsub.code == 0
        return [
            Finding(step="status", ok=not wrong, detail=wrong, help=_PATH_HELP if wrong else ""),
            Finding(step="allocation", ok=None, detail=f"user {who.out.strip()[:100] if who else '?'}"),
            Finding(step="submit", ok=has, detail="" if has else "no qsub", help="" if has else _PATH_HELP),
        ]


def _from_text(told: str) -> Iterator[PbsJob]:
    for native_id, attributes in jobs_of_text(told):
        yield job_of(native_id, attributes)


def _server(sections: Mapping[str, Section]) -> str:
    """What is wrong with the server; empty: it answers and works."""
    told = sections.get("server") or Section.nothing()
    if told.code != 0:
        return f"qstat -B: {told.said}"
    state = re.search(r"server_state = (\w+)", told.out)
    return "" if state is None or state[1] in {"Active", "Scheduling"} else f"the PBS server is {state[1]}"


def _queues(sections: Mapping[str, Section]) -> str:
    """Is any queue enabled, and started? Columns: Queue Max Tot Ena Str ..."""
    told = sections.get("queues") or Section.nothing()
    rows = [line.split() for line in told.out.splitlines()]
    found = [row for row in rows if len(row) > 5 and row[3] in {"yes", "no"} and row[4] in {"yes", "no"}]
    return "no queue takes and starts jobs" if found and not any(row[3] == row[4] == "yes" for row in found) else ""
