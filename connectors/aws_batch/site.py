"""AWS Batch as a site: jobs named by their submit key, files in a bucket.

Batch has no key of its own against doubles and takes any name twice: a name is looked up first, and two containers of
one attempt are kept apart by a conditional put in the bucket. Looking is a list by name and one description for each
hundred jobs, which is as much as Batch tells at once.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from connectors.aws_batch.options import BatchOptions
from connectors.aws_batch.states import DIGEST, KEY, OWNER, status_of, tag, text
from connectors.errors import (
    BadReply,
    CredentialError,
    Fault,
    RequestRefused,
    SiteBusy,
    SiteError,
    SiteUnreachable,
    UnsafePath,
)
from connectors.files.bucket import BucketFiles
from connectors.files.held import HoldsFiles
from connectors.files.pod import begin_script, environment, files_of, pod_script
from connectors.model import (
    Accepted,
    Doubtful,
    Evidence,
    Finding,
    JobSpec,
    Listing,
    Refused,
    Script,
    SmallFile,
    SubmitAnswer,
)
from connectors.names import KEY as KEY_FORM
from connectors.names import NOBODY, short_digest
from connectors.registry import Clock
from connectors.secrets import scrub

AT_ONCE = 100
"""Jobs of one description."""
NAMED = 10
"""So many keys are looked up by name; of more, all names that begin as ours do are listed."""
PREFIX = "cf"
MOST_PAGES = 500
_WORDS = ("queue", "priority", "share", "account")
_NAME = re.compile(r"[A-Za-z0-9][\w:/.-]{0,250}")
_DENIED = re.compile(
    r"(AccessDenied|Unauthorized|UnrecognizedClient|ExpiredToken|InvalidSignature|MissingAuthenticationToken).*|"
    r"InvalidClientTokenId|IncompleteSignature|OptInRequired"
)
_BUSY = re.compile(r"Throttl.*|TooManyRequests.*|RequestLimitExceeded|SlowDown")


class AwsBatchSite(HoldsFiles[BucketFiles]):
    """The port `connectors.base.Site`, Preparable, Scripted and Checkable. `client`: boto3's for "batch"."""

    inline = False
    claim = "conditional_put"

    def __init__(
        self,
        *,
        name: str,
        client: Any,
        files: BucketFiles,
        options: BatchOptions,
        clock: Clock,
        owner: str = "",
        heartbeat: int = 15,
    ) -> None:
        self.name = name
        self.files, self.options = files, options
        self._client, self._clock, self._heartbeat = client, clock, heartbeat
        self._owner = owner or NOBODY

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()
        self.files.close()

    # -- submitting ----------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        answers: dict[str, SubmitAnswer] = {}
        fit: dict[str, tuple[JobSpec, dict[str, Any], list[SmallFile]]] = {}
        for spec in specs:
            try:
                fit[spec.key] = spec, self.request(spec), files_of(spec)
            except (RequestRefused, UnsafePath) as error:
                answers[spec.key] = Refused(reason=str(error), fault=Fault.APPLICATION.value)
        for job in self._look(list(fit)):
            key = text(job.get("jobName"))
            if key not in answers:
                answers[key] = self._adopt(fit[key][0], job)
        new = {key: one for key, one in fit.items() if key not in answers}
        self.files.write_many([file for _, _, files in new.values() for file in files])
        trouble: SiteError | None = None
        for key, (_, asked, _) in new.items():
            if trouble is None:
                try:
                    answers[key] = self._send(asked)
                    continue
                except SiteError as error:
                    if all(isinstance(answer, Refused) for answer in answers.values()):
                        raise
                    trouble = error
            answers[key] = Doubtful(reason=str(trouble))  # nothing was sent: looking it up will say so
        return answers

    def _send(self, asked: Mapping[str, Any]) -> SubmitAnswer:
        """The one call. What it raises certainly left nothing behind."""
        try:
            identity = text(self._call("submit_job", **asked).get("jobId"))
            if not identity:
                raise BadReply(f"{self.name}: the job that was made has no id", site=self.name)
        except RequestRefused as error:
            return Refused(reason=str(error), fault=error.fault.value)
        except (SiteUnreachable, BadReply) as error:
            if not error.effect_possible:
                raise
            return Doubtful(reason=str(error))
        return Accepted(native_id=identity)

    def _adopt(self, spec: JobSpec, job: Mapping[str, Any]) -> SubmitAnswer:
        if tag(job, OWNER) not in {self._owner, NOBODY} or tag(job, DIGEST) != short_digest(spec.digest):
            return Refused(reason=f"{self.name}: key {spec.key} belongs to another job there")
        return Accepted(native_id=text(job.get("jobId")), adopted=True)

    def request(self, spec: JobSpec) -> dict[str, Any]:
        """What SubmitJob is called with. Raises RequestRefused, UnsafePath."""
        if not KEY_FORM.fullmatch(spec.key):
            raise RequestRefused(f"{spec.key[:80]!r} is not a submit key")
        if spec.resources.nodes > 1:
            raise RequestRefused("a job here is one container on one node; this stage asks for more nodes")
        for word, value in spec.submit.items():
            if word not in _WORDS or not _NAME.fullmatch(value):
                raise RequestRefused(f"submit: {word[:80]!r}: {value[:80]!r} is nothing that AWS Batch takes here")
        queue = spec.submit.get("queue", self.options.queue)
        if queue not in (self.options.queues or (self.options.queue,)):
            raise RequestRefused(f"{self.name}: no job would be looked for in queue {queue}: name it under queues")
        variables = environment(
            spec, place=self.files.place, endpoint=self.options.pod_endpoint, heartbeat=self._heartbeat
        )
        start = f"mkdir -p /tmp/crossfade && cd /tmp/crossfade || exit 1\n{begin_script()}"
        asked: dict[str, Any] = {
            "jobName": spec.key,
            "jobQueue": queue,
            "jobDefinition": self._definition(spec.image),
            "containerOverrides": {
                "command": ["/bin/sh", "-c", start],
                "environment": [{"name": name, "value": value} for name, value in variables.items()],
                "resourceRequirements": _resources(spec),
            },
            # a container that had to go: where to go on is the broker's to decide
            "retryStrategy": {"attempts": 1},
            "tags": {OWNER: self._owner, KEY: spec.key, DIGEST: short_digest(spec.digest)},
        }
        if spec.resources.walltime is not None:
            seconds = max(60, math.ceil(spec.resources.walltime + self.options.margin))
            asked["timeout"] = {"attemptDurationSeconds": seconds}
        if "priority" in spec.submit:
            if not re.fullmatch(r"\d{1,4}", spec.submit["priority"]):
                raise RequestRefused("submit: priority is a number from 0 to 9999")
            asked["schedulingPriorityOverride"] = int(spec.submit["priority"])
        if "share" in spec.submit:
            asked["shareIdentifier"] = spec.submit["share"]
        return asked

    def _definition(self, image: str) -> str:
        found = self.options.definitions.get(image, "") if image else self.options.definition
        if not found:
            what = (
                f"image {image[:80]!r} has no job definition: name it under definitions" if image else "no definition"
            )
            raise RequestRefused(f"{self.name}: {what} in the site's options")
        return found

    # -- looking -------------------------------------------------------------------------------------------

    def find(self, keys: Sequence[str]) -> Listing:
        return self.status(keys)

    def status(self, keys: Sequence[str]) -> Listing:
        return self._listing([job for job in self._look(keys) if self._mine(job)])

    def list_mine(self, since: int) -> Listing:
        ids = [identity for identity, _ in self._ids(f"{PREFIX}*")]
        listing = self._listing([job for job in self._described(ids) if self._mine(job)])
        items = [item for item in listing.items if item.ended_at is None or item.ended_at >= since]
        return Listing(items=items, complete=True, as_of=listing.as_of)

    def _listing(self, jobs: Iterable[Mapping[str, Any]]) -> Listing:
        now, stuck = self._clock(), self.options.stuck_after
        items = tuple(status_of(job, text(job.get("jobName")), now=now, stuck_after=stuck) for job in jobs)
        return Listing(items=items, complete=True, as_of=now)

    def _mine(self, job: Mapping[str, Any]) -> bool:
        return tag(job, OWNER) == self._owner

    def _look(self, keys: Sequence[str]) -> list[Mapping[str, Any]]:
        """The jobs of these names, the oldest first."""
        wanted = {key for key in keys if KEY_FORM.fullmatch(key)}
        if not wanted:
            return []
        together = len(wanted) > NAMED and all(key.startswith(PREFIX) for key in wanted)
        names = [f"{PREFIX}*"] if together else sorted(wanted)
        return self._described([identity for one in names for identity, name in self._ids(one) if name in wanted])

    def _ids(self, name: str) -> list[tuple[str, str]]:
        """Ids and names, in all states and queues; `name` may end in `*`."""
        found: list[tuple[str, str]] = []
        for queue in self.options.queues or (self.options.queue,):
            asked: dict[str, Any] = {"jobQueue": queue, "filters": [{"name": "JOB_NAME", "values": [name]}]}
            for _ in range(MOST_PAGES):
                page = self._call("list_jobs", **asked)
                found += [(text(it.get("jobId")), text(it.get("jobName"))) for it in page.get("jobSummaryList") or ()]
                asked["nextToken"] = text(page.get("nextToken"))
                if not asked["nextToken"]:
                    break
            else:
                raise BadReply(f"{self.name}: the list of jobs does not end", site=self.name)
        return found

    def _described(self, ids: Iterable[str]) -> list[Mapping[str, Any]]:
        asked = list(ids)
        found: list[Any] = []
        for at in range(0, len(asked), AT_ONCE):
            found += self._call("describe_jobs", jobs=asked[at : at + AT_ONCE]).get("jobs") or []
        return sorted((job for job in found if isinstance(job, dict)), key=lambda job: job.get("createdAt") or 0)

    # -- ending --------------------------------------------------------------------------------------------

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        living: dict[str, list[str]] = {}
        jobs = [job for job in self._look(keys) if self._mine(job)]
        for item in self._listing(jobs).items:
            if not item.state.final:
                living.setdefault(item.key, []).append(item.native_id)
        for ids in living.values():
            for identity in ids:
                self._call("terminate_job", jobId=identity, reason="canceled by crossfade")
        return {key: key not in living for key in keys}

    # -- the one way out -----------------------------------------------------------------------------------

    def _call(self, verb: str, **asked: Any) -> Mapping[str, Any]:
        from botocore import exceptions  # noqa: PLC0415 - an extra

        try:
            answer = getattr(self._client, verb)(**asked)
        except exceptions.ClientError as error:
            raise self._refused(verb, error.response) from error
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError) as error:
            raise CredentialError(f"{self.name}: no AWS credentials", site=self.name) from error
        except exceptions.ParamValidationError as error:
            raise RequestRefused(f"{self.name}: {verb}: {scrub(str(error))[:300]}", site=self.name) from error
        except exceptions.BotoCoreError as error:
            never = (
                exceptions.EndpointConnectionError,
                exceptions.ConnectTimeoutError,
                exceptions.ProxyConnectionError,
            )
            raise self._silent(f"{verb}: {type(error).__name__}", sent=not isinstance(error, never)) from error
        if not isinstance(answer, dict):
            raise BadReply(f"{self.name}: {verb} was answered with nonsense", site=self.name)
        return answer

    def _refused(self, verb: str, response: Any) -> SiteError:
        told = response.get("Error") or {}
        code, words = str(told.get("Code", "")), " ".join(scrub(str(told.get("Message", ""))).split())[:300]
        http = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode", 0)
        said = f"{self.name}: {verb}: {code[:60]} {words}".rstrip()
        if _DENIED.fullmatch(code) or http in {401, 403}:
            return CredentialError(said, site=self.name)
        if _BUSY.fullmatch(code) or http == 429:
            return SiteBusy(said, site=self.name)
        if http >= 500 or code == "ServerException":
            return self._silent(said.removeprefix(f"{self.name}: "), sent=True)
        return RequestRefused(said, site=self.name)

    def _silent(self, why: str, *, sent: bool) -> SiteUnreachable:
        error = SiteUnreachable(f"{self.name}: {why}", site=self.name)
        error.effect_possible = sent
        return error

    # -- files: the bucket's -------------------------------------------------------------------------------

    def prepare(self) -> str:
        return self.files.prepare()

    # -- telling -------------------------------------------------------------------------------------------

    def script(self, spec: JobSpec) -> Script:
        """The container's script, and the request. Secrets are not in them."""
        request = json.dumps(self.request(spec), indent=2)
        return Script(script=pod_script().decode(), request=f"batch SubmitJob\n\n{request}\n")

    def probe(self) -> Sequence[Evidence]:
        found = []
        for capability, ask in (("status", self._queue_up), ("files", self.files.check)):
            begun = time.monotonic()
            ok, detail = _tried(ask)
            latency = time.monotonic() - begun
            found.append(
                Evidence(site=self.name, capability=capability, ok=ok, at=self._clock(), latency=latency, detail=detail)
            )
        return found

    def _queue_up(self) -> str:
        queues = self._call("describe_job_queues", jobQueues=[self.options.queue]).get("jobQueues") or []
        if not queues:
            raise RequestRefused(f"{self.name}: there is no job queue {self.options.queue}", site=self.name)
        state, status = text(queues[0].get("state")), text(queues[0].get("status"))
        if state != "ENABLED" or status not in {"VALID", "UPDATING"}:
            raise SiteUnreachable(f"{self.name}: job queue is {state} {status}", site=self.name)
        return f"job queue {self.options.queue} is {state}"

    def check(self, *, canary: bool = False) -> Sequence[Finding]:
        steps: list[tuple[str, Callable[[], object], str]] = [
            ("credentials", self._queue_up, "renew the key pair; allow batch:DescribeJobQueues"),
            ("status", lambda: self._ids(f"{PREFIX}-none") and "", "allow batch:ListJobs and batch:DescribeJobs"),
            ("files", self.files.check, "check root, endpoint, region and the bucket's key pair"),
        ]
        found = []
        for step, do, cure in steps:
            ok, detail = _tried(do)
            found.append(Finding(step=step, ok=ok, detail=detail, help="" if ok else cure))
        said = "Batch has no trial run; submit a small stage" + (" by hand" if canary else "")
        return [*found, Finding(step="submit", ok=None, detail=said)]


def _resources(spec: JobSpec) -> list[dict[str, str]]:
    needs = spec.resources
    asked = [{"type": "VCPU", "value": str(max(1, needs.cores))}]
    if needs.memory:
        asked.append({"type": "MEMORY", "value": str(max(4, math.ceil(needs.memory / (1 << 20))))})
    if needs.gpus:
        asked.append({"type": "GPU", "value": str(needs.gpus)})
    return asked


def _tried(do: Callable[[], object]) -> tuple[bool, str]:
    try:
        said = do()
    except SiteError as error:
        return False, str(error)
    return True, said if isinstance(said, str) else ""
