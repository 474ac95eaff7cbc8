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

    def collections(self, request: Request, token: Token, *names: str) -> list[Collection]:
        """The collections, for whoever may do something on all of them. Raises Denied."""
        consent, session = self._faults.take("consent_required", request), self._faults.take("session_needed", request)
        hidden = self._faults.take("login_failed", request) is not None
        found = [self.known(name) for name in dict.fromkeys(names)]
        for one in found:
            needed = one.needs_data_access or _is_meant(one, consent)
            if needed and not token.allows(TRANSFER_ALL, one.scope("data_access")):
                raise _consent(one)
            self._check_session(one, token, session)
            if hidden or one.login_hidden:
                raise hidden_login(one)
        return found

    @staticmethod
    def _check_session(collection: Collection, token: Token, asked: Mapping[str, object] | None) -> None:
        wanted = collection.session if asked is None else _parameters(asked)
        if wanted and (asked is not None or not _met(wanted, token.session)):
            text = str(wanted.get("session_message", "a new login is needed"))
            raise Denied("PermissionDenied", text, 403, {"authorization_parameters": dict(wanted)})

    def known(self, name: str) -> Collection:
        """Raises Denied."""
        found = self._service.collections.get(name)
        if found is None:
            raise Denied("EndpointNotFound", f"No such endpoint '{name[:100]}'", 404)
        return found


def _is_meant(collection: Collection, asked: Mapping[str, object] | None) -> bool:
    return asked is not None and asked.get("collection", collection.id) in (collection.display_name, collection.id)


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
