"""Globus on one address: Transfer below /v0.10, Auth below /v2, the collections' files below /collections."""

from __future__ import annotations

from sandbox.faces.globus import https
from sandbox.faces.globus.auth import PATHS, AuthApi
from sandbox.faces.globus.https import HttpsAccess
from sandbox.faces.globus.transfer import BASE, TransferApi
from sandbox.faces.http import Request, Response, answer
from sandbox.facility import FaultScript
from sandbox.globus import GlobusAuth, GlobusService


class GlobusFace:
    """The service and its login. Knows no socket and no clock but the service's."""

    def __init__(self, service: GlobusService, auth: GlobusAuth, *, faults: FaultScript | None = None) -> None:
        """`faults`: of requests; the service's own, unless others are given."""
        self.service, self.auth = service, auth
        self._transfer = TransferApi(service, auth, faults or service.faults)
        self._auth = AuthApi(auth, faults or service.faults)
        self._https = HttpsAccess(service, auth)

    def handle(self, request: Request) -> Response:
        if request.path.startswith(f"{BASE}/"):
            return self._transfer.handle(request)
        if request.path.startswith(https.BASE):
            return self._https.handle(request)
        if request.path.startswith(PATHS):
            return self._auth.handle(request)
        return answer({"code": "ClientError.NotFound", "message": "there is nothing here"}, 404)
