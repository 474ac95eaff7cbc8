"""Who may do what: tokens, consents, sessions, as the Transfer API asks for them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sandbox.faces.globus.replies import Denied
from sandbox.faces.http import Request
from sandbox.facility import FaultScript
from sandbox.globus.auth import GlobusAuth, Token
from sandbox.globus.collections import Collection
from sandbox.globus.scopes import TRANSFER, TRANSFER_ALL
from sandbox.globus.service import GlobusService


class Access:
    """The doors of the Transfer API."""

    def __init__(self, service: GlobusService, auth: GlobusAuth, faults: FaultScript) -> None:
        self._service, self._auth, self._faults = service, auth, faults

    def caller(self, request: Request) -> Token:
        """Raises Denied."""
        if not request.bearer:
            raise Denied("ClientError.AuthenticationFailed", "No credentials supplied", 400)
        token = self._auth.token(request.bearer)
        if token is None or token.refresh or token.server != TRANSFER:
            raise Denied("AuthenticationFailed", "Token is not active", 401)
        if not token.allows(TRANSFER_ALL):
            raise Denied("PermissionDenied", "The token has not the scope that is needed", 403)
        return token

    def collection(self, request: Request, token: Token, name: str) -> Collection:
        """The collection, for whoever may do something on it. Raises Denied."""
        found = self.known(name)
        if self._needs_consent(request, found) and not token.allows(TRANSFER_ALL, found.scope("data_access")):
            raise self._consent(found)
        asked = self._faults.take("session_needed", request)
        wanted = found.session if asked is None else _parameters(asked)
        if wanted and (asked is not None or not _met(wanted, token.session)):
            raise Denied(
                "PermissionDenied",
                str(wanted.get("session_message", "a new login is needed")),
                403,
                {"authorization_parameters": dict(wanted)},
            )
        if found.login_hidden or self._faults.take("login_failed", request) is not None:
            raise hidden_login(found)
        return found

    def known(self, name: str) -> Collection:
        """Raises Denied."""
        found = self._service.collections.get(name)
        if found is None:
            raise Denied("EndpointNotFound", f"No such endpoint '{name[:100]}'", 404)
        return found

    def _needs_consent(self, request: Request, collection: Collection) -> bool:
        return collection.needs_data_access or self._asked_for_consent(request, collection)

    def _asked_for_consent(self, request: Request, collection: Collection) -> bool:
        asked = self._faults.take("consent_required", request)
        return asked is not None and asked.get("collection", collection.display_name) in (
            collection.display_name,
            collection.id,
        )

    @staticmethod
    def _consent(collection: Collection) -> Denied:
        wanted = f"{TRANSFER_ALL}[*{collection.scope('data_access')}]"
        return Denied("ConsentRequired", "Missing required data_access consent", 403, {"required_scopes": [wanted]})


def hidden_login(collection: Collection) -> Denied:
    """A session that has ended, as mapped collections were seen to tell it: inside the text of another error."""
    wanted = {
        "authorization_parameters": {
            "session_message": "Session reauthentication required",
            "session_required_identities": [],
        }
    }
    text = (
        f"Login Failed, Error (list)\nEndpoint: {collection.display_name} ({collection.id})\nMessage: Login Failed\n"
        "---\nDetails: 530-Login incorrect. : GlobusError: v=1 c=LOGIN_DENIED\\r\\n"
        f"530-GridFTP-Message: {json.dumps(wanted)}\\r\\n530 End.\\r\\n"
    )
    return Denied("ExternalError.DirListingFailed.LoginFailed", text, 502)


def _parameters(asked: Mapping[str, object]) -> Mapping[str, object]:
    given = asked.get("parameters")
    return given if isinstance(given, Mapping) else {"session_message": "Session reauthentication required"}


def _met(wanted: Mapping[str, object], session: Mapping[str, object]) -> bool:
    """Has the login answered to all that was required?"""
    needed = [name for name in wanted if name.startswith("session_required_")]
    return bool(session) and all(name in session for name in needed)
