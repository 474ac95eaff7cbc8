"""The face of OLCF's S3M: Slurm's REST API below `/slurm/open/VERSION/MACHINE/`, published status, facts of tokens.

Routes and fields are those of OLCF's documentation; the bodies of errors of its own gateway are believed, not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sandbox.faces.http import Request, Response, answer
from sandbox.faces.slurmrest.face import SlurmRestFace, admitted
from sandbox.faces.slurmrest.machine import Machine
from sandbox.faces.slurmrest.tokens import Token, TokenBook
from sandbox.facility import Facility, Outage

_RENEWED = 900
"""Seconds for which the published status is kept."""
_SOON = 10 * 86_400_000_000


class S3mFace:
    """`Face`: one machine behind S3M."""

    def __init__(
        self,
        facility: Facility,
        tokens: TokenBook,
        *,
        machine: Machine | None = None,
        versions: Sequence[str] = ("v0.0.42", "v0.0.43", "v0.0.44"),
    ) -> None:
        self._facility = facility
        self._tokens = tokens
        self._slurm = SlurmRestFace(
            facility, tokens, machine=machine, versions=versions, accounting=False, both_shapes=True
        )
        self.machine = self._slurm.machine

    def handle(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        match parts:
            case ["olcf", "v1alpha", "status", *rest]:
                return self._status(request, rest)
            case ["olcf", "v1", "token", "ctls", verb]:
                return self._token(request, verb)
            case ["slurm", "open", version, resource, *rest] if resource == self.machine.name:
                form = self._slurm.form(version)
                if form is None or not rest:
                    return _not_found()
                token = self._admitted(request)
                if token is None:
                    return _unauthenticated()
                return self._slurm.of_slurm(request, form, "/".join(rest), token)
        return _not_found()

    def _admitted(self, request: Request) -> Token | None:
        """The token as it is, as the documentation shows it; one behind `Bearer` is taken, too."""
        value = request.bearer or request.headers.get("authorization", "").strip()
        return admitted(self._facility, self._tokens, request, value)

    # -- tokens --------------------------------------------------------------------------------------------

    def _token(self, request: Request, verb: str) -> Response:
        token = self._admitted(request)
        if token is None:
            return _unauthenticated()
        match (request.method, verb):
            case ("GET", "introspect"):
                return answer({"token": self._told(token)})
            case ("DELETE", "revoke"):
                self._tokens.revoke(token.value)
                return answer({})
        return _not_found()

    def _told(self, token: Token) -> Mapping[str, Any]:
        return {
            "username": token.user,
            "project": token.project,
            "plannedExpiration": _iso(token.until) if token.until is not None else "",
            "securityEnclave": "OPEN",
            "description": token.description,
            "oneTimeToken": token.once,
            "delayedStart": token.since is not None,
            "delayDate": _iso(token.since) if token.since is not None else "",
        }

    # -- status --------------------------------------------------------------------------------------------

    def _status(self, request: Request, rest: Sequence[str]) -> Response:
        if request.method != "GET":
            return _not_found()
        match rest:
            case []:
                return answer({"resources": [self._resource(request)]})
            case ["downtimes"]:
                return answer({"downtimes": self._downtimes(lambda _: True)})
            case ["downtimes", "upcoming"]:
                return answer({"downtimes": self._downtimes(self._upcoming)})
            case [name] if name == self.machine.name:
                return answer({"resources": [self._resource(request)]})
        return _not_found()

    def _resource(self, request: Request) -> Mapping[str, Any]:
        faults = self._facility.faults
        now = self._facility.now()
        down = any(_covers(one, now) and not one.degraded for one in self._outages())
        word = "UNAVAILABLE" if down else "OPERATIONAL"
        said = faults.take("status_word", request)
        if said is not None:
            word = str(said.get("word", "DEGRADED"))
        stale = faults.take("stale_feed", request)
        step = _RENEWED * 1_000_000
        retrieved = now - now % step if stale is None else now - round(float(stale.get("age", 7200)) * 1e6)
        return {
            "name": self.machine.name,
            "description": "a rehearsal's machine",
            "systemType": "COMPUTE",
            "securityEnclave": "OPEN",
            "organization": "OLCF",
            "status": word,
            "downtimeScheduleAvailable": True,
            "upcomingDowntimes": self._downtimes(self._upcoming),
            "retrievedAt": _iso(retrieved),
        }

    def _downtimes(self, wanted: Callable[[Outage], bool]) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "resourceName": self.machine.name,
                "status": "UNAVAILABLE",
                "start": _iso(one.start),
                "end": _iso(one.end) if one.end is not None else "",
                "description": one.description,
                "attributes": {"scheduled": one.planned, "reboot": False},
                "updatedAt": _iso(one.start),
            }
            for one in self._outages()
            if wanted(one)
        ]

    def _upcoming(self, one: Outage) -> bool:
        now = self._facility.now()
        return one.start > now and one.start - now <= _SOON

    def _outages(self) -> Sequence[Outage]:
        """Of the machine; an outage that names no part is of all."""
        return [one for one in self._facility.outages() if one.resource in ("", self.machine.name, self._facility.name)]


def _covers(one: Outage, now: int) -> bool:
    return one.start <= now and (one.end is None or now < one.end)


def _iso(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat().replace("+00:00", "Z")


def _unauthenticated() -> Response:
    return answer({"code": 16, "message": "the token is not valid", "details": []}, 401)


def _not_found() -> Response:
    return answer({"code": 5, "message": "Not Found", "details": []}, 404)
