"""What the SDK raises, as our errors: whose fault, may it have happened, and the command that helps.

    CredentialError ── NeedsLogin          no token, a rejected one, a session that ended, a missing consent; `help`
                                           is the command that a person types
    SiteUnreachable ── CollectionAway      Globus answers, the collection behind it does not
    SiteBusy        ── CollectionPaused    its administrators have paused it
    RequestRefused  ── Refusal             with `status` and `code`: AlreadyThere, CannotRename, NotAllowed, Gone
    QuotaError, NotThere                   as everywhere

Globus tells most by `code`; texts are looked at in one case alone: an ended session that comes as a 502.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from globus_sdk import AuthAPIError, GlobusAPIError, GlobusError, NetworkError
from globus_sdk.exc import GlobusConnectionTimeoutError

from connectors.errors import (
    BadReply,
    CredentialError,
    NotThere,
    QuotaError,
    RequestRefused,
    SiteBusy,
    SiteError,
    SiteUnreachable,
)
from connectors.secrets import scrub

GLOBUS = "globus"
"""What Globus itself is called where a site is named."""
LOGIN = "crossfade login globus"
_TOLD = 300
_LONGEST = 1 << 16
"""Characters of a foreign text that is searched."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SCOPE = re.compile(r"scopes/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(data_access|https)", re.IGNORECASE)
_DOMAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,120}")

_AWAY = ("GCDisconnected", "ConnectFailed", "NoPhysicals", "GCNotConnected", "Timeout", "EndpointError", "GCPaused")
_LOGINS = ("LoginFailed", "NoCredException", "AuthenticationFailed", "CredentialsExpired")
_QUOTA = ("Quota", "NoSpace", "LimitExceeded")
_ABSENT = ("NotFound", "NoSuchFile", "PathNotFound")


class NeedsLogin(CredentialError):
    """A person must log in or consent; `help` is the command."""

    def __init__(self, message: str, *, command: str = LOGIN, unknown_scope: bool = False) -> None:
        super().__init__(message, site=GLOBUS)
        self.help = command
        self.unknown_scope = unknown_scope
        """Was a token asked for with a scope that is none?"""


class CollectionAway(SiteUnreachable):
    """Globus answers, but the collection does not: so nothing was done there."""

    effect_possible = False


class CollectionPaused(SiteBusy):
    """The collection's administrators have paused it."""

    help = "ask the collection's administrators"


class Refusal(RequestRefused):
    """Globus said no, with this status and code."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message, site=GLOBUS)
        self.status, self.code = status, code


class AlreadyThere(Refusal):
    """What was to be made is there."""


class CannotRename(Refusal):
    """The storage behind the collection has no such operation."""


class NotAllowed(Refusal):
    """The identity may not do that there."""


class Gone(Refusal):
    """There is no such collection (any more)."""


def translated(error: GlobusError, doing: str) -> SiteError:
    """The same as one of ours. `doing`: what was asked, in a few words."""
    if isinstance(error, NetworkError):
        silent = SiteUnreachable(
            f"globus: {doing}: no answer ({type(error.underlying_exception).__name__})", site=GLOBUS
        )
        silent.effect_possible = not isinstance(error, GlobusConnectionTimeoutError)
        return silent
    if isinstance(error, AuthAPIError):
        return _of_auth(error, doing)
    if isinstance(error, GlobusAPIError):
        return _of_api(error, doing)
    return BadReply(f"globus: {doing}: {told(str(error))}", site=GLOBUS)


def _of_auth(error: AuthAPIError, doing: str) -> SiteError:
    """Of the token endpoint: nothing was asked of the Transfer service."""
    if error.http_status >= 500 or error.http_status == 429:
        silent = SiteUnreachable(f"globus auth: {doing}: answered with {error.http_status}", site=GLOBUS)
        silent.effect_possible = False
        return silent
    raw = error.raw_json if isinstance(error.raw_json, dict) else {}
    word = told(str(raw.get("error") or error.code or error.http_status))
    unknown = "scope" in word.casefold()
    return NeedsLogin(f"globus auth: {doing}: no token is given ({word})", unknown_scope=unknown)


def _of_api(error: GlobusAPIError, doing: str) -> SiteError:
    status, code = error.http_status, error.code or ""
    said = f"globus: {doing}: {told(code) or status}: {told(error.message or error.http_reason or '')}"
    person = _for_a_person(error, code, said)
    if person is not None:
        return person
    last = code.rpartition(".")[2]
    if status == 429:
        return SiteBusy(said, site=GLOBUS, retry_after=_retry_after(error.headers.get("Retry-After", "")))
    if "Paused" in last and "GC" not in last:
        return CollectionPaused(said, site=GLOBUS)
    if any(word in code for word in _QUOTA):
        return QuotaError(said, site=GLOBUS)
    if last == "Conflict":  # more tasks than one identity may have
        return SiteBusy(said, site=GLOBUS)
    if "Exists" in last or "NotEmpty" in last:
        return AlreadyThere(said, status=status, code=code)
    if "EndpointNotFound" in code or "EndpointDeleted" in code:
        return Gone(said, status=status, code=code)
    if any(word in code for word in _ABSENT) or status == 404:
        return NotThere(said, site=GLOBUS)
    if "NotSupported" in code or status == 405:
        return CannotRename(said, status=status, code=code)
    if "PermissionDenied" in code or status == 403:
        return NotAllowed(said, status=status, code=code)
    if any(word in code for word in _AWAY):
        return CollectionAway(said, site=GLOBUS)
    if status >= 500:
        return (CollectionAway if "ExternalError" in code else SiteUnreachable)(said, site=GLOBUS)
    return Refusal(said, status=status, code=code)


def _for_a_person(error: GlobusAPIError, code: str, said: str) -> NeedsLogin | None:
    """A missing consent, a session that ended (also where it hides in a 502), no credential."""
    if error.info.consent_required:
        return NeedsLogin(said, command=consent_command(error.info.consent_required.required_scopes or ()))
    raw = error.raw_json if isinstance(error.raw_json, dict) else {}
    wanted = raw.get("authorization_parameters")
    if isinstance(wanted, dict) and wanted:
        return NeedsLogin(said, command=session_command(wanted))
    text = error.text[:_LONGEST]
    if "LOGIN_DENIED" in text or any(word in code for word in _LOGINS):
        return NeedsLogin(said, command=session_command(_hidden(error.message or "")))
    if error.http_status == 401:
        return NeedsLogin(said)
    return None


def consent_command(scopes: Sequence[str]) -> str:
    """The login that gives these scopes."""
    found = dict.fromkeys(match[1].lower() for scope in scopes for match in _SCOPE.finditer(str(scope)))
    return " ".join([LOGIN, *(f"--consent {collection}" for collection in found)])


def session_command(wanted: Mapping[str, Any]) -> str:
    """The login after which a session is what was asked for. Words of unknown shape are left out: it is a command."""
    words = [LOGIN]
    for key, option, shape in (
        ("session_required_single_domain", "--domain", _DOMAIN),
        ("session_required_identities", "--identity", _UUID),
        ("session_required_policies", "--policy", _UUID),
    ):
        given = wanted.get(key) or ()
        values = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else ()
        words += [f"{option} {value}" for value in values if isinstance(value, str) and shape.fullmatch(value)]
    if wanted.get("session_required_mfa") is True:
        words.append("--mfa")
    return " ".join(words)


def _hidden(message: str) -> Mapping[str, Any]:
    """The authorization parameters in a GridFTP server's words, as far as they can be found."""
    at = message[:_LONGEST].find('"authorization_parameters"')
    begin = message.find("{", at) if at >= 0 else -1
    if begin < 0:
        return {}
    try:
        found, _ = json.JSONDecoder().raw_decode(message[begin:_LONGEST])
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def told(text: str) -> str:
    """A foreign text as part of ours: one line, bounded, without secrets."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _TOLD])
    return scrub(" ".join(plain.split()))[:_TOLD]


def _retry_after(value: str) -> float | None:
    return min(3600.0, float(value)) if value.isascii() and value.isdigit() else None
