"""The face of a slurmrestd: `/slurm/VERSION/...` and `/slurmdb/VERSION/jobs`, tokens in its headers.

What slurmrestd 22.05 was seen to do is done here for v0.0.38: a body that is no JSON, a path that is none, a missing
token are answered in plain text; a token that the controller does not take is HTTP 500 with an error that does not say
so. For newer versions the numbers and texts of such errors are believed, not seen; their shapes are the published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from connectors.errors import SiteUnreachable
from sandbox.faces.http import Request, Response
from sandbox.faces.slurmrest import machine as machines
from sandbox.faces.slurmrest.diag import statistics
from sandbox.faces.slurmrest.form import VERSIONS, Form, RestError
from sandbox.faces.slurmrest.machine import Machine
from sandbox.faces.slurmrest.orders import order_of
from sandbox.faces.slurmrest.records import accounting_record, job_record
from sandbox.faces.slurmrest.replies import (
    LATER,
    REFUSALS,
    backfilled,
    empty,
    plain_text,
    spoilt_by,
    unknown_job,
    unspecified,
    updated,
)
from sandbox.faces.slurmrest.tokens import Token, TokenBook
from sandbox.facility import Facility, JobView, OrderRefused

_PAGE = b"Unable find requested URL. Please view /openapi/v3 for API reference."
_VERB = b"Requested REST method is not defined at URL. Please view /openapi/v3 for API reference."
_Handler = Callable[[Request, Form, str, Token], Response]


class SlurmRestFace:
    """`Face`: one machine's slurmrestd."""

    def __init__(
        self,
        facility: Facility,
        tokens: TokenBook,
        *,
        machine: Machine | None = None,
        versions: Sequence[str] = VERSIONS,
        accounting: bool = True,
        both_shapes: bool = False,
    ) -> None:
        """`accounting`: is there a slurmdbd? `both_shapes`: one job's record is told in both shapes, as S3M does."""
        self._facility = facility
        self._tokens = tokens
        self.machine = machine or Machine(name=facility.name)
        self._forms = {version: Form(version, self.machine.name) for version in versions}
        self._accounting = accounting
        self._both_shapes = both_shapes
        self._routes: Mapping[str, Mapping[str, _Handler]] = {
            "ping": {"GET": self._ping},
            "diag": {"GET": self._diag},
            "nodes": {"GET": self._nodes},
            "node": {"GET": self._node},
            "partitions": {"GET": self._partitions},
            "partition": {"GET": self._partition},
            "reservations": {"GET": self._reservations},
            "reservation": {"GET": self._reservation},
            "jobs": {"GET": self._jobs},
            "job": {"GET": self._job, "DELETE": self._cancel, "POST": self._submit},
        }

    def handle(self, request: Request) -> Response:
        kind, _, rest = request.path.strip("/").partition("/")
        version, _, what = rest.partition("/")
        form = self._forms.get(version)
        if form is None or kind not in {"slurm", "slurmdb"}:
            return plain_text(404, _PAGE)
        token = self._admitted(request)
        if isinstance(token, Response):
            return token
        if token is None:
            return self.unknown_token(request, form, what)
        if kind == "slurmdb":
            return self._remembered(request, form, what)
        return self.of_slurm(request, form, what, token)

    def form(self, version: str) -> Form | None:
        return self._forms.get(version)

    def of_slurm(self, request: Request, form: Form, what: str, token: Token) -> Response:
        """What stands behind `/slurm/VERSION/`, for who has been let in."""
        name, _, item = what.strip("/").partition("/")
        verbs = self._routes.get(name)
        if verbs is None or (name in {"node", "partition", "reservation", "job"}) != bool(item):
            return plain_text(404, _PAGE)
        handler = verbs.get(request.method)
        if handler is None or (request.method == "POST") != (item == "submit"):
            return plain_text(405, _VERB)
        spoilt = self._facility.faults.take("status_error", request)
        if spoilt is not None and not spoilt.get("handled", False):
            return form.refusal(spoilt_by(spoilt))
        try:
            response = handler(request, form, item, token)
        except RestError as error:
            return form.refusal(error, empty(name, form))
        except SiteUnreachable:
            return self._controller_away(request, form, name)
        return response if spoilt is None else form.refusal(spoilt_by(spoilt))

    # -- who asks ------------------------------------------------------------------------------------------

    def _admitted(self, request: Request) -> Token | Response | None:
        """A response: not even asked who it is. None: a token that the controller does not take."""
        value = request.headers.get("x-slurm-user-token", "") or request.bearer
        user = request.headers.get("x-slurm-user-name", "")
        if not value:
            return plain_text(401, b"Authentication failure")
        found = admitted(self._facility, self._tokens, request, value)
        return found if found is not None and user in ("", found.user) else None

    def unknown_token(self, request: Request, form: Form, what: str) -> Response:
        if not form.plain:
            error = RestError(401, 1007, "Protocol authentication error", source="slurmctld")
            return form.refusal(error, empty(what, form))
        if request.method == "GET":
            return form.refusal(unspecified("request failed", "slurm_load"), empty(what, form))
        description = "Zero Bytes were transmitted or received"
        source = "slurm_kill_job" if request.method == "DELETE" else ""
        return form.refusal(RestError(500, 5005, description, source=source))

    def _controller_away(self, request: Request, form: Form, name: str) -> Response:
        """As when slurmctld is down: its own daemon answers that it cannot."""
        if request.method == "GET":
            unclear = form.plain
            text = "Unable to contact slurm controller (connect failure)"
            error = (
                unspecified("request failed", "slurm_load") if unclear else RestError(500, 1800, text, source="slurm")
            )
            return form.refusal(error, empty(name, form))
        text = "Unable to contact slurm controller (connect failure)"
        return form.refusal(RestError(500, 1800, text, source="slurm_kill_job" if request.method == "DELETE" else ""))

    # -- the machine ---------------------------------------------------------------------------------------

    def _ping(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        up = self._facility.up("status")
        if not up and form.plain:
            raise SiteUnreachable("the controller is away")
        return form.reply({"pings": machines.pings(form, up=up)})

    def _diag(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        now = self._facility.now()
        return form.reply({"statistics": statistics(self._facility.jobs(), form, now)})

    def _nodes(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        now = self._facility.now()
        jobs = self._facility.jobs(ended_too=False)
        found = [one for one in machines.nodes(self.machine, jobs, form, now) if item in ("", one["name"])]
        if item and not found:
            raise RestError(500, 2018, "Invalid node name specified", source="slurm_load_node")
        return form.reply({"nodes": found, **updated(form, now)})

    _node = _nodes

    def _partitions(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        self._asked()
        found = [one for one in machines.partitions(self.machine, form) if item in ("", one["name"])]
        if item and not found:
            raise RestError(500, 2000, "Invalid partition name specified", source="slurm_load_partitions")
        return form.reply({"partitions": found, **updated(form, self._facility.now())})

    _partition = _partitions

    def _reservations(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        self._asked()
        found = [one for one in machines.reservations(self.machine, form) if item in ("", one["name"])]
        if item and not found:
            raise RestError(500, 2053, "Requested reservation is invalid", source="slurm_load_reservations")
        return form.reply({"reservations": found, **updated(form, self._facility.now())})

    _reservation = _reservations

    def _asked(self) -> None:
        if not self._facility.up("status"):
            raise SiteUnreachable("the controller is away")

    # -- jobs ----------------------------------------------------------------------------------------------

    def _jobs(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        views = list(self._facility.jobs())
        cached = self._facility.faults.take("cached", request)
        if cached is not None:
            oldest = self._facility.now() - round(float(cached.get("age", 30)) * 1e6)
            views = [view for view in views if view.submitted_at <= oldest]
        errors = []
        partial = self._facility.faults.take("partial_listing", request)
        if partial is not None:
            views = views[: max(0, len(views) - int(partial.get("hidden", len(views))))]
            errors = [unspecified("not all jobs could be loaded", "slurm_load_jobs")]
        told = {"jobs": [job_record(view, form) for view in views], **backfilled(form, self._facility.now())}
        return form.reply(told, errors=errors)

    def _job(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        view = self._view(item)
        if view is None:
            raise unknown_job(f"Unable to find JobId={item}", "slurm_load_job")
        record = dict(job_record(view, form))
        if self._both_shapes and not form.plain:
            remembered = accounting_record(view, form)
            record |= {"state": remembered["state"], "time": remembered["time"]}
        return form.reply({"jobs": [record], **backfilled(form, self._facility.now())})

    def _view(self, item: str) -> JobView | None:
        if not item.isascii() or not item.isdecimal():
            raise RestError(400, 9000, "Query empty or not RFC7320 compliant", source="job_id")
        return self._facility.job(str(int(item)))

    def _cancel(self, request: Request, form: Form, item: str, token: Token) -> Response:
        _may_write(token)
        view = self._view(item)
        if view is None or view.order.user != token.user:
            number, text = (2017, "Invalid job id specified") if view is None else (2002, "Access/permission denied")
            described = f"unable to kill JobId={item} with signal 9: {text}"
            raise RestError(500, number, text, description=described, source="slurm_kill_job")
        signal = request.first("signal")
        if signal in {"0", "-1"}:
            raise RestError(400, 9000, "Query empty or not RFC7320 compliant", source="HTTP request: signal")
        self._facility.cancel(view.native_id, signal=signal)
        killed = {"step_id": item, "job_id": form.count(int(item)), "federation": {"sibling": ""},
                  "error": {"string": "", "code": 0, "message": ""}}  # fmt: skip
        return form.reply({} if form.plain else {"status": [killed]})

    def _submit(self, request: Request, form: Form, item: str, token: Token) -> Response:  # noqa: ARG002
        _may_write(token)
        try:
            body = request.json()
        except ValueError:
            return plain_text(400, b"Unable to parse query.")
        order = order_of(body, form, user=token.user, home=self._facility.files.root)
        try:
            native_id = self._facility.submit(order)
        except OrderRefused as refusal:
            number, text = REFUSALS.get(refusal.kind, (2050, str(refusal)))
            raise RestError(500, number, text, source="" if form.plain else "slurm_submit_batch_job") from refusal
        view = self._facility.job(native_id)
        later = LATER.get(view.reason) if view is not None else None
        errors = [RestError(200, *later, source="" if form.plain else "slurm_submit_batch_job")] if later else []
        told = {"job_id": int(native_id), "step_id": "BATCH" if form.plain else "batch", "job_submit_user_msg": ""}
        return form.reply(told, errors=errors)

    # -- the accounting ------------------------------------------------------------------------------------

    def _remembered(self, request: Request, form: Form, what: str) -> Response:
        if not self._accounting or what.strip("/") != "jobs":
            return plain_text(404, _PAGE)
        if request.method != "GET":
            return plain_text(405, _VERB)
        try:
            views = list(self._facility.accounting())
        except SiteUnreachable:
            error = RestError(500, 7000, "Unable to connect to database", source="slurmdb_connection_get")
            return form.refusal(error, {"jobs": []})
        names = {name for value in request.all("job_name") for name in value.split(",") if name}
        since = request.first("start_time", "0")
        oldest = int(since) * 1_000_000 if since.isdecimal() else 0
        told = [
            view
            for view in views
            if (not names or view.order.name in names) and (view.ended_at is None or view.ended_at >= oldest)
        ]
        return form.reply({"jobs": [accounting_record(view, form) for view in told]})


def admitted(facility: Facility, tokens: TokenBook, request: Request, value: str) -> Token | None:
    """The token of that value, if it is good now."""
    soon = facility.faults.take("token_expiry", request)
    if soon is not None:
        tokens.expire(value, facility.now() + round(float(soon.get("in", 3600)) * 1e6))
    return tokens.look(value, facility.now())


def _may_write(token: Token) -> None:
    if not token.writes:
        raise RestError(
            403, 2002, "Access/permission denied", description="the token is for reading alone", source="token"
        )
