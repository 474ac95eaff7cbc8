"""Steps of `site check` that are the same at every site which runs jobs by a queue and has files."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from connectors.base import Scripted, Site
from connectors.model import Accepted, Finding, JobSpec, Refused, Resources, SmallFile
from connectors.registry import SiteConfig

CANARY_SECONDS = 120.0
"""How long a canary is waited for, in the queue and running."""
LOOK_EVERY = 5.0
_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


def files_step(site: Site, root: str) -> Finding:
    """Write a small file, read it, remove it. Raises SiteError."""
    path, content = f"check/{secrets.token_hex(8)}", secrets.token_bytes(64)
    site.write(path, content)
    same = site.read(path) == content
    site.remove([path])
    told = "written, read, removed" if same else "something else was read than written"
    return Finding(step="files", ok=same, detail=f"{root}: {told}")


def submit_step(site: Scripted, config: SiteConfig) -> Finding:
    """What a submission would be; nothing is submitted. Raises SiteError."""
    request = site.script(canary_job(config)).request.splitlines()[0]
    helping = f"crossfade site check {config.name} --canary submits a job of seconds"
    return Finding(step="submit", ok=None, detail=f"not tried; would be {request}", help=helping)


def canary_step(
    site: Site, config: SiteConfig, *, elapsed: Callable[[], float], sleep: Callable[[float], None]
) -> Finding:
    """Submit a job of a second and see it through; whatever happens it is canceled. Raises SiteError."""
    spec = canary_job(config)
    answer = site.submit([spec])[spec.key]
    if isinstance(answer, Refused):
        return Finding(step="canary", ok=False, detail=answer.reason, help="mend `account`, `submit` or `lanes`")
    told = f"job {answer.native_id}" if isinstance(answer, Accepted) else "its id was not told"
    try:
        state, ok = _waited(site, spec.key, elapsed=elapsed, sleep=sleep)
    finally:
        site.cancel([spec.key])
    return Finding(step="canary", ok=ok, detail=f"{told}: {state}")


def canary_job(config: SiteConfig) -> JobSpec:
    """A job that does nothing, under a key that no attempt has."""
    key = "cf" + "".join(secrets.choice(_LETTERS) for _ in range(13))
    return JobSpec(
        key=key,
        digest="canary",
        directory=f"check/{key}",
        entry="canary.sh",
        # the second one makes the folder in which the scheduler opens the job's log
        files=(SmallFile(path="canary.sh", content=b"exit 0\n"), SmallFile(path=".crossfade/canary", content=b"")),
        resources=Resources(walltime=60.0),
        submit={**config.submit, **({"account": config.account} if config.account else {})},
        comment="site check",
        requeue=False,
    )


def _waited(
    site: Site, key: str, *, elapsed: Callable[[], float], sleep: Callable[[float], None]
) -> tuple[str, bool | None]:
    until = elapsed() + CANARY_SECONDS
    while True:
        items = site.find([key]).items
        if items and items[0].state.final:
            return items[0].native_state, items[0].exit_code == 0
        if items and items[0].stuck_reason:
            return f"will never start: {items[0].stuck_reason}", False
        if elapsed() >= until:
            state = items[0].native_state if items else "not seen"
            return f"{state} after {CANARY_SECONDS:g} s; canceled", None if items else False
        sleep(LOOK_EVERY)
