"""`site check` of a machine that is reached by commands: the connection, the scheduler, the files, a job of seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence

from connectors.base import ComputeSite
from connectors.command.calls import Caller
from connectors.command.dialect import Dialect
from connectors.errors import CredentialError, SiteError
from connectors.model import Accepted, Finding, JobSpec, JobState, Refused, SmallFile

_LOOKS, _PAUSE = 20, 0.5
"""How often, and after how many seconds each, a canary is looked at."""


def walk(caller: Caller, dialect: Dialect, *, files_wrong: str, root: str) -> list[Finding]:
    """Each step, in the order in which a person would mend them. `files_wrong`: what is; empty: nothing."""
    call = dialect.probing()
    try:
        sections = caller.ask(call.script, call.lines)
    except CredentialError as error:
        return [Finding(step="credentials", ok=False, detail=str(error), help=f"crossfade login {caller.site}")]
    except SiteError as error:
        return [Finding(step="status", ok=False, detail=str(error), help=type(error).help)]
    told = dialect.checked(sections)
    return [
        Finding(step="credentials", ok=True, detail=f"commands run {caller.transport.told()}"),
        *(finding for finding in told if finding.step != "submit"),
        Finding(
            step="files",
            ok=not files_wrong,
            detail=files_wrong or root,
            help="add the site anew to make its root" if files_wrong else "",
        ),
        *(finding for finding in told if finding.step == "submit"),
    ]


def run_canary(site: ComputeSite, *, at: int) -> Finding:
    """A job that does nothing, submitted and waited for a little. `at`: µs, for a name of its own."""
    key = f"cfcanary{at // 1000 % 10**7:07}"
    spec = JobSpec(
        key=key,
        digest="canary",
        directory=f"canary/{key}",
        entry="canary.sh",
        files=(SmallFile(path="canary.sh", content=b"exit 0\n"),),
        requeue=False,
    )
    try:
        answer = site.submit([spec])[key]
        if not isinstance(answer, Accepted):
            detail = answer.reason if isinstance(answer, Refused) else "nobody knows whether it was accepted"
            return Finding(step="canary", ok=False, detail=detail)
        end = _ended(site, key)
        if end is None:
            site.cancel([key])
            return Finding(step="canary", ok=None, detail="accepted; canceled, as it did not start within seconds")
        return Finding(step="canary", ok=end is JobState.SUCCEEDED, detail=end.value)
    except SiteError as error:
        return Finding(step="canary", ok=False, detail=str(error), help=type(error).help)


def _ended(site: ComputeSite, key: str) -> JobState | None:
    for _ in range(_LOOKS):
        states: Sequence[JobState] = [item.state for item in site.status([key]).items]
        if states and states[0].final:
            return states[0]
        time.sleep(_PAUSE)
    return None
