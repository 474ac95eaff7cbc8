"""A Kubernetes cluster as a site: each job is a Job of one pod, named by its submit key; files are in a bucket.

The name is the claim: a second creation under it is refused by the cluster. Looking is one watch of Jobs and one of
pods, by our labels, however many keys are asked for; what is in doubt is listed. Canceling ends a Job by its deadline,
so that it stays to be told about; one that was never let go is deleted, under the condition that it still is as it was
seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from connectors.errors import (
    BadReply,
    CredentialError,
    Fault,
    QuotaError,
    RequestRefused,
    SiteBusy,
    SiteError,
    SiteUnreachable,
    UnsafePath,
)
from connectors.files.bucket import BucketFiles
from connectors.files.held import HoldsFiles
from connectors.files.pod import files_of, pod_script
from connectors.http import Http, Refusal, Reply
from connectors.kubernetes.check import check, probe
from connectors.kubernetes.manifest import CANCELED, manifest
from connectors.kubernetes.options import KubernetesOptions
from connectors.kubernetes.questions import NAMED, Questions, key_of, uid_of
from connectors.kubernetes.states import Seen, mapping, seen_of, text
from connectors.kubernetes.watch import Watch, over_and_well
from connectors.model import (
    Accepted,
    Doubtful,
    Evidence,
    Finding,
    JobSpec,
    JobState,
    Listing,
    Refused,
    Script,
    SmallFile,
    SubmitAnswer,
)
from connectors.names import KEY, NOBODY
from connectors.registry import Clock

_DONE = (200, 201, 202)


class KubernetesSite(HoldsFiles[BucketFiles]):
    """The port `connectors.base.Site`, Preparable, Scripted and Checkable."""

    inline = False
    claim = "unique_name"

    def __init__(
        self,
        *,
        name: str,
        http: Http,
        files: BucketFiles,
        options: KubernetesOptions,
        clock: Clock,
        owner: str = "",
        heartbeat: int = 15,
        until: Callable[[], int | None] = lambda: None,
    ) -> None:
        self.name = name
        self.files, self.options, self.http = files, options, http
        self.owner, self.heartbeat, self.clock = owner, heartbeat, clock
        self.until = until
        """When the cluster's credential ends; µs."""
        self.jobs = f"/apis/batch/v1/namespaces/{options.namespace}/jobs"
        self.pods = f"/api/v1/namespaces/{options.namespace}/pods"
        self.questions = Questions(http=http, site=name, owner=owner)
        self.watch = Watch(self.questions, jobs=self.jobs, pods=self.pods, clock=clock)

    def close(self) -> None:
        """Let go of the connections."""
        self.http.close()
        self.files.close()

    # -- submitting ----------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        """One look at all keys, so that no file of a living job is written over; then one creation for each."""
        answers: dict[str, SubmitAnswer] = {}
        fit: dict[str, tuple[JobSpec, dict[str, Any], list[SmallFile]]] = {}
        for spec in specs:
            try:
                fit[spec.key] = spec, self.manifest(spec), files_of(spec)
            except (RequestRefused, UnsafePath) as error:
                answers[spec.key] = Refused(reason=str(error), fault=Fault.APPLICATION.value)
        there = {seen.key: seen for seen in self._look(list(fit))} if fit else {}
        for key, seen in there.items():
            answers[key] = self._adopt(fit[key][0], seen)
        new = {key: one for key, one in fit.items() if key not in there}
        if not self.options.suspend:
            self.files.write_many([file for _, _, files in new.values() for file in files])
        trouble: SiteError | None = None
        for key, (spec, job, files) in new.items():
            if trouble is None:
                try:
                    answers[key] = self._create(spec, job, files)
                    continue
                except SiteError as error:
                    if all(isinstance(answer, Refused) for answer in answers.values()):
                        raise
                    trouble = error
            # nothing was sent for this one: looking it up will say so
            answers[key] = Doubtful(reason=str(trouble))
        return answers

    def manifest(self, spec: JobSpec) -> dict[str, Any]:
        """The Job for a spec. Raises RequestRefused, UnsafePath."""
        place = self.files.place
        return manifest(spec, options=self.options, place=place, owner=self.owner, heartbeat=self.heartbeat)

    def _create(self, spec: JobSpec, job: Mapping[str, Any], files: Sequence[SmallFile]) -> SubmitAnswer:
        """The one call. What it raises certainly left nothing behind."""
        try:
            reply = self.http.ask("POST", self.jobs, json=job, accept=(403, 409))
            if reply.status == 403:
                raise self._forbidden(reply)
            if reply.status == 409:
                return self._taken(spec, reply)
            uid = text(mapping(reply.mapping().get("metadata")).get("uid"))
            if not uid:
                raise BadReply(f"{self.name}: the Job that was made has no uid", site=self.name)
        except QuotaError as error:
            return Refused(reason=str(error), fault=error.fault.value)
        except Refusal as error:
            return Refused(reason=str(error), fault=error.fault.value)
        except (SiteUnreachable, BadReply) as error:
            if not error.effect_possible:
                raise
            return Doubtful(reason=str(error))
        if self.options.suspend:
            return self._release(spec, files, Accepted(native_id=uid))
        return Accepted(native_id=uid)

    def _release(self, spec: JobSpec, files: Sequence[SmallFile], answer: Accepted) -> SubmitAnswer:
        """Bring the files of a Job that is held, and let it go; where that fails, the next submission goes on."""
        try:
            self.files.write_many(files)
            if not self._queue_of(spec):  # there it is Kueue's to let it go
                self._patch(spec.key, {"spec": {"suspend": False}})
        except SiteError as error:
            return Doubtful(reason=f"the Job is there, and held: {error}")
        return answer

    def _queue_of(self, spec: JobSpec) -> str:
        return spec.submit.get("queue", self.options.queue)

    def _taken(self, spec: JobSpec, reply: Reply) -> SubmitAnswer:
        """409: the name is there since the look."""
        said = text(mapping(reply.json()).get("reason"))
        if said != "AlreadyExists":
            raise SiteBusy(f"{self.name}: the cluster could not take the Job now ({said[:60]})", site=self.name)
        found = self.http.ask("GET", f"{self.jobs}/{spec.key}", accept=(404,))
        if found.status == 404:
            return Doubtful(reason=f"{self.name}: a Job {spec.key} was there, and is not any more")
        seen = self._seen(found.json(), [])
        if seen is None:
            return Refused(reason=f"{self.name}: a Job {spec.key} that is not ours is in the way")
        return self._adopt(spec, seen)

    def _adopt(self, spec: JobSpec, seen: Seen) -> SubmitAnswer:
        label = seen.label
        if label is None or label.owner not in {self.owner, NOBODY} or not label.matches(spec):
            whose = "another job" if label is None or label.key != spec.key else f"another job (digest {label.digest})"
            return Refused(reason=f"{self.name}: key {spec.key} belongs to {whose} there")
        answer = Accepted(native_id=seen.uid, adopted=True)
        if self.options.suspend and seen.status.state is JobState.HELD:
            return self._release(spec, files_of(spec), answer)
        return answer

    def _forbidden(self, reply: Reply) -> SiteError:
        """403 is also what a full quota, or a policy for pods, is answered with."""
        message = ""
        try:
            message = " ".join(text(mapping(reply.json()).get("message")).split())[:300]
        except BadReply:
            message = "not allowed"
        what = f"{self.name}: the cluster refuses the Job: {message}"
        if "exceeded quota" in message:
            return QuotaError(what, site=self.name)
        if "violates PodSecurity" in message or "admission webhook" in message:
            return Refusal(what, site=self.name, status=403, detail=message)
        return CredentialError(what, site=self.name)

    # -- looking -------------------------------------------------------------------------------------------

    def find(self, keys: Sequence[str]) -> Listing:
        """Jobs are all the sources there are. A list, whatever is known: who asks is in doubt."""
        now, wanted = self.clock(), set(keys)
        return self._listing([seen for seen in self._look(keys) if seen.key in wanted], now)

    def status(self, keys: Sequence[str]) -> Listing:
        """By what has changed since the last look."""
        asked = _askable(keys)
        if not asked:
            return self._listing([], self.clock())
        known = self.watch.known(asked)
        found = [seen for job in known.jobs if (seen := self._seen(job, known.pods.get(key_of(job), [])))]
        return self._listing(found, known.as_of)

    def list_mine(self, since: int) -> Listing:
        now = self.clock()
        found = self._listed("")
        return self._listing([it for it in found if it.status.ended_at is None or it.status.ended_at >= since], now)

    def _listing(self, found: Sequence[Seen], as_of: int) -> Listing:
        return Listing(items=tuple(seen.status for seen in found), complete=True, as_of=as_of)

    def _look(self, keys: Sequence[str]) -> list[Seen]:
        """Our Jobs behind these keys, as the cluster has them now."""
        asked = _askable(keys)
        if not asked:
            return []
        return [seen for seen in self._listed(",".join(asked) if len(asked) <= NAMED else "") if seen.key in set(asked)]

    def _listed(self, names: str) -> list[Seen]:
        jobs = self.questions.listed(self.jobs, names).items
        alive = [job for job in jobs if not over_and_well(job)]
        pods: dict[str, list[Any]] = {}
        for pod in self.questions.listed(self.pods, names).items if alive else ():
            pods.setdefault(key_of(pod), []).append(pod)
        return [seen for job in jobs if (seen := self._seen(job, pods.get(key_of(job), [])))]

    def _seen(self, job: Any, pods: Sequence[Any]) -> Seen | None:
        # of one that ended well there may be pods or none, as others were asked about: it is told in one way
        mine = [] if over_and_well(job) else [pod for pod in pods if _belongs(pod, uid_of(job))]
        return seen_of(job, mine, now=self.clock(), stuck_after=self.options.stuck_after)

    # -- ending --------------------------------------------------------------------------------------------

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        there = {seen.key: seen for seen in self._look(keys)}
        return {key: self._cancel(there[key]) if key in there else True for key in keys}

    def _cancel(self, seen: Seen) -> bool:
        if seen.status.state.final:
            return seen.quiet
        if seen.suspended and seen.quiet:
            return self._delete(seen)
        if not seen.canceled:
            marks = {CANCELED: str(self.clock())}
            self._patch(seen.key, {"metadata": {"annotations": marks}, "spec": {"activeDeadlineSeconds": 1}})
        return False

    def _delete(self, seen: Seen) -> bool:
        """One that never ran; if it was let go meanwhile, nothing happens."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        conditions = {"uid": seen.uid, **({"resourceVersion": seen.version} if seen.version else {})}
        asked = {**body, "preconditions": conditions}
        reply = self.http.ask("DELETE", f"{self.jobs}/{seen.key}", json=asked, accept=(404, 409))
        return reply.status in {*_DONE, 404}

    def _patch(self, key: str, change: Mapping[str, Any]) -> None:
        content = json.dumps(change).encode()
        headers = {"content-type": "application/merge-patch+json"}
        self.http.ask("PATCH", f"{self.jobs}/{key}", content=content, headers=headers, accept=(404,))

    # -- files: the bucket's -------------------------------------------------------------------------------

    def prepare(self) -> str:
        return self.files.prepare()

    # -- telling -------------------------------------------------------------------------------------------

    def script(self, spec: JobSpec) -> Script:
        """The pod's script, and the Job. Secrets are not in them: pods take theirs from the cluster."""
        job = json.dumps(self.manifest(spec), indent=2)
        request = f"POST {self.http.base}{self.jobs}\n\n{job}\n"
        return Script(script=pod_script().decode(), request=request)

    def probe(self) -> Sequence[Evidence]:
        return probe(self)

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        return list(check(self, canary=canary))


def _askable(keys: Sequence[str]) -> list[str]:
    """Those that a Job of ours can have."""
    return sorted({key for key in keys if KEY.fullmatch(key) and len(key) <= 52})


def _belongs(pod: Any, uid: str) -> bool:
    """Is it this very Job's, and not one's that had the name before?"""
    owners = mapping(mapping(pod).get("metadata")).get("ownerReferences")
    if not isinstance(owners, list):
        return True
    return any(mapping(owner).get("uid") == uid for owner in owners)
