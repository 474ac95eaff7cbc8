"""How a cluster and its bucket are, and whether they are as this site's entry says."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from connectors.errors import SiteError
from connectors.kubernetes.manifest import MANAGED, OWNER, owner_label
from connectors.kubernetes.questions import Lost
from connectors.kubernetes.states import mapping, text
from connectors.model import Accepted, Evidence, Finding, JobSpec, JobState, SmallFile

if TYPE_CHECKING:
    from connectors.kubernetes.site import KubernetesSite

_SOON = 3 * 86_400 * 1_000_000
_CANARY_SECONDS = 300.0
_TRIAL = "trial"
_WATCH_SECONDS = 15.0


def probe(site: KubernetesSite) -> list[Evidence]:
    """One list of a single Job, one of a single object."""
    found = []
    for capability, ask in (("status", lambda: _status(site)), ("files", site.files.check)):
        begun = time.monotonic()
        ok, detail = _tried(ask)
        latency = time.monotonic() - begun
        found.append(
            Evidence(site=site.name, capability=capability, ok=ok, at=site.clock(), latency=latency, detail=detail)
        )
    until = _until(site)
    if until is not None:
        ok = until > site.clock()
        detail = "" if ok else "the credential has ended"
        found.append(
            Evidence(site=site.name, capability="credentials", ok=ok, at=site.clock(), detail=detail, until=until)
        )
    return found


def check(site: KubernetesSite, *, canary: bool) -> Iterator[Finding]:
    """As the port says."""
    yield _credentials(site)
    yield _expiry(site)
    yield _finding("status", lambda: _version(site), help="is the API's address right, and reachable from here?")
    yield _finding("allocation", lambda: _quotas(site), help="ask for get on resourcequotas, or ignore it")
    yield _finding("files", lambda: _files(site), help="check root, endpoint, region and the bucket's key pair")
    yield _finding("claim", lambda: _claim(site), help="the store ignores If-None-Match: do not use it")
    yield _finding("submit", lambda: _dry_run(site), help=f"allow create on jobs in namespace {site.options.namespace}")
    if canary:
        yield _finding("canary", lambda: _canary(site), help="see kubectl describe job; is the Secret there?")
    else:
        yield Finding(step="canary", ok=None, detail="not tried", help="site check --canary")


def _credentials(site: KubernetesSite) -> Finding:
    return _finding("credentials", lambda: _list_one(site), help="renew the kubeconfig or the token")


def _expiry(site: KubernetesSite) -> Finding:
    until = _until(site)
    if until is None:
        return Finding(step="expiry", ok=None, detail="the credential does not say when it ends")
    left = until - site.clock()
    said = f"ends in {max(0, left) // 3_600_000_000} h"
    return Finding(step="expiry", ok=left > _SOON, detail=said, help="renew it" if left <= _SOON else "")


def _until(site: KubernetesSite) -> int | None:
    try:
        ends = [site.until(), site.files.keys().until]
    except SiteError:
        return None
    return min((end for end in ends if end is not None), default=None)


def _list_one(site: KubernetesSite) -> str:
    selector = f"{MANAGED}=crossfade,{OWNER}={owner_label(site.owner)}"
    site.http.get(site.jobs, params={"labelSelector": selector, "limit": "1"}).mapping()
    return f"Jobs in namespace {site.options.namespace} can be listed"


def _status(site: KubernetesSite) -> str:
    _list_one(site)
    return f"looks are whole lists: {site.watch.trouble}"[:300] if site.watch.trouble else ""


def _version(site: KubernetesSite) -> str:
    told = text(site.http.get("/version").mapping().get("gitVersion"))
    return f"Kubernetes {told[:40]}; {_watched(site)}"


def _watched(site: KubernetesSite) -> str:
    """Is the watch allowed? Without it all goes on, by lists."""
    try:
        for path in (site.jobs, site.pods):
            version = site.questions.listed(path, _TRIAL).version
            if version is None:
                return "its versions are no numbers: looks are lists"
            site.questions.happened(path, version, seconds=1, deadline=_WATCH_SECONDS)
    except Lost:
        return "watched"
    except SiteError as error:
        return f"no watch, looks are lists: {error}; allow watch on jobs and pods"
    return "watched"


def _quotas(site: KubernetesSite) -> str:
    items = site.http.get(f"/api/v1/namespaces/{site.options.namespace}/resourcequotas").mapping().get("items")
    told = []
    for item in items if isinstance(items, list) else ():
        status = mapping(mapping(item).get("status"))
        used = mapping(status.get("used"))
        told += [f"{name}: {used.get(name, 0)} of {most}" for name, most in mapping(status.get("hard")).items()]
    return "; ".join(told)[:300] or "no quota"


def _files(site: KubernetesSite) -> str:
    name, content = f".crossfade/check-{uuid.uuid4().hex}", uuid.uuid4().bytes
    site.files.write(name, content)
    try:
        if site.files.read(name) != content:
            raise SiteError("what was written is not what is read", site=site.name)
    finally:
        site.files.remove([name])
    return "written, read and removed"


def _claim(site: KubernetesSite) -> str:
    name = f".crossfade/claim-{uuid.uuid4().hex}"
    first, second = site.files.put_new(name, b"1"), site.files.put_new(name, b"2")
    site.files.remove([name])
    if not first or second:
        raise SiteError("a conditional put won twice", site=site.name)
    return "unique_name: a second conditional put was refused"


def _trial() -> JobSpec:
    key = f"cfcheck{uuid.uuid4().hex[:8]}"
    content = b"echo crossfade canary\n"
    file = SmallFile(path="canary.sh", content=content)
    return JobSpec(key=key, digest="canary", directory=f"{_TRIAL}/{key}", entry="canary.sh", files=(file,))


def _dry_run(site: KubernetesSite) -> str:
    if not site.options.image:
        return "not tried: the site has no image of its own"
    reply = site.http.ask("POST", site.jobs, params={"dryRun": "All"}, json=site.manifest(_trial()))
    return f"a Job would be accepted ({reply.status}), nothing was made"


def _canary(site: KubernetesSite) -> str:
    spec = _trial()
    answer = site.submit([spec])[spec.key]
    if not isinstance(answer, Accepted):
        raise SiteError(getattr(answer, "reason", "not accepted"), site=site.name)
    end = time.monotonic() + _CANARY_SECONDS
    state, reason = JobState.QUEUED, ""
    while time.monotonic() < end and not state.final and not reason:
        time.sleep(1.0)
        for item in site.status([spec.key]).items:
            state, reason = item.state, item.stuck_reason or (item.native_reason if item.state.final else "")
    if state is not JobState.SUCCEEDED:
        site.cancel([spec.key])
        raise SiteError(f"it ended {state.value} {reason}".rstrip(), site=site.name)
    return "a job ran and ended well"


def _finding(step: str, do: Callable[[], str], *, help: str) -> Finding:  # noqa: A002 - as the field is called
    ok, detail = _tried(do)
    return Finding(step=step, ok=ok, detail=detail, help="" if ok else help)


def _tried(do: Callable[[], object]) -> tuple[bool, str]:
    try:
        said = do()
    except SiteError as error:
        return False, str(error)
    return True, said if isinstance(said, str) else ""
