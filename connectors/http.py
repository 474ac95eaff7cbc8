"""The one HTTP seam: every call to a facility's API goes through `Http.ask`.

Each call has a deadline for all of it, however slowly the other side drips. Reading verbs are tried again within the
deadline; whatever may have an effect is sent once. Redirects are not followed: an API that moved is told to a person.
Bodies are read up to a limit. No secret is shown by what is raised here.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import time
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from connectors.errors import (
    BadReply,
    CredentialError,
    QuotaError,
    RequestRefused,
    SiteBusy,
    SiteError,
    SiteUnreachable,
)
from connectors.secrets import scrub

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
LIMIT = 32 << 20
"""Bytes of a reply, unless the caller says otherwise."""
DEADLINE = 30.0
"""Seconds for a call with all its tries."""
CONNECT = 5.0
TRIES = 3
_DEPTH = 64
_TOLD = 300
"""Characters of a foreign text that an error repeats."""
AGENT = "crossfade (workflow broker)"


class Auth(Protocol):
    """Who we are to the site."""

    def headers(self) -> Mapping[str, str]:
        """For the next call; may fetch a token. Raises CredentialError, SiteUnreachable."""
        ...

    def refused(self) -> bool:
        """The site did not accept them. True: there may be better ones, ask again once."""
        ...


class Fixed:
    """Headers that do not change, such as a project's token."""

    def __init__(self, make: Callable[[], Mapping[str, str]]) -> None:
        """`make` reads the secret anew for each call: a person may have put a newer one there."""
        self._make = make

    def headers(self) -> Mapping[str, str]:
        return self._make()

    def refused(self) -> bool:
        return False


class NoAuth:
    """For what everybody may read."""

    def headers(self) -> Mapping[str, str]:
        return {}

    def refused(self) -> bool:
        return False


class Refusal(RequestRefused):
    """The site refused the request, with this HTTP status and these words."""

    def __init__(self, message: str, *, site: str, status: int, detail: str, document: object = None) -> None:
        super().__init__(message, site=site)
        self.status = status
        self.detail = detail
        self.document = document
        """The body, where it is JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer with a status that the caller takes."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    content: bytes
    seconds: float
    site: str = ""

    def json(self) -> Any:
        """The body as JSON, bounded in depth; raises BadReply."""
        return _json(self.content, self.site)

    def mapping(self) -> Mapping[str, Any]:
        """The body as a JSON object; raises BadReply."""
        found = self.json()
        if not isinstance(found, dict):
            raise BadReply(f"{self.site}: a JSON object was expected, not {type(found).__name__}", site=self.site)
        return found

    def items(self) -> Sequence[Any]:
        """The body as a JSON list; raises BadReply."""
        found = self.json()
        if not isinstance(found, list):
            raise BadReply(f"{self.site}: a JSON list was expected, not {type(found).__name__}", site=self.site)
        return found


@dataclass(slots=True, weakref_slot=True)
class Http:
    """Calls to one API. Thread-safe; connections are kept between calls."""

    base: str
    """The API's address; paths are put after it."""
    site: str
    auth: Auth = field(default_factory=NoAuth)
    transport: httpx.BaseTransport | None = None
    """Instead of the network, such as a stand-in in this process."""
    deadline: float = DEADLINE
    limit: int = LIMIT
    headers: Mapping[str, str] = field(default_factory=dict)
    sleep: Callable[[float], None] = time.sleep
    elapsed: Callable[[], float] = time.monotonic
    _client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        if not self.base.startswith(("https://", "http://")):
            raise RequestRefused(f"{self.site}: {self.base[:80]!r} is no http or https address", site=self.site)
        self._client = httpx.Client(
            transport=self.transport,
            headers={"User-Agent": AGENT, "Accept": "application/json", "Accept-Encoding": "identity", **self.headers},
            follow_redirects=False,
            trust_env=True,
        )
        if self.transport is None:  # its connections go with it, closed or not; a given transport is another's
            weakref.finalize(self, self._client.close)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def get(self, path: str, **more: Any) -> Reply:
        """`ask` with GET."""
        return self.ask("GET", path, **more)

    def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | Sequence[tuple[str, str]] | None = None,
        json: object = None,
        form: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
        safe: bool | None = None,
        deadline: float | None = None,
        limit: int | None = None,
    ) -> Reply:
        """One call. `path`: below the base, or an address of its own on the base's host. `accept`: statuses beside
        2xx that are answers, not errors. `safe`: may it be sent several times? None: as its method says.

        Raises CredentialError (401, 403), SiteBusy (429), Refusal (other 4xx), QuotaError (507), SiteUnreachable (no
        answer, 408, 5xx; `effect_possible` says whether it may have been done), BadReply (redirect, too large,
        encoded).
        """
        call = _Call(
            method=method,
            url=self._url(path),
            sent={"params": params, "json": json, "data": form, "files": files, "content": content},
            headers=headers or {},
            accept=frozenset(accept),
            end=self.elapsed() + (deadline or self.deadline),
            limit=limit or self.limit,
        )
        again = method in SAFE if safe is None else safe
        if not again:
            return self._authorized(call)
        tries = Retrying(
            stop=stop_after_attempt(TRIES),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            retry=retry_if_exception(lambda error: _passes(error) and self.elapsed() < call.end),
            sleep=lambda seconds: self.sleep(max(0.0, min(seconds, call.end - self.elapsed()))),
            reraise=True,
        )
        return tries(self._authorized, call)

    def _url(self, path: str) -> str:
        if path.startswith(("http://", "https://")):
            if httpx.URL(path).netloc != httpx.URL(self.base).netloc:
                raise BadReply(f"{self.site}: an address on another host is not followed", site=self.site)
            return path
        return self.base.rstrip("/") + "/" + path.lstrip("/") if path else self.base

    def _authorized(self, call: _Call) -> Reply:
        try:
            return self._once(call)
        except CredentialError:
            # nothing was done: with a new token this is the same first time
            if not self.auth.refused():
                raise
        return self._once(call)

    def _once(self, call: _Call) -> Reply:
        begun = self.elapsed()
        left = call.end - begun
        if left <= 0:
            raise self._silent("no time left", sent=False)
        mine = {**self.auth.headers(), **call.headers}
        given = {key: value for key, value in call.sent.items() if value is not None}
        timeout = httpx.Timeout(left, connect=min(CONNECT, left))
        try:
            with self._client.stream(call.method, call.url, headers=mine, timeout=timeout, **given) as answer:
                content = self._body(answer, call)
                status, told = answer.status_code, {name.lower(): value for name, value in answer.headers.items()}
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol) as error:
            raise self._silent(_words(error), sent=False) from error
        except httpx.InvalidURL as error:
            raise RequestRefused(f"{self.site}: no address: {_told(str(error))}", site=self.site) from error
        except httpx.HTTPError as error:
            raise self._silent(_words(error), sent=True) from error
        reply = Reply(status=status, headers=told, content=content, seconds=self.elapsed() - begun, site=self.site)
        if 200 <= status < 300 or status in call.accept:
            return reply
        raise self._error(call, reply)

    def _body(self, answer: httpx.Response, call: _Call) -> bytes:
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            raise BadReply(f"{self.site}: the reply is encoded, which was not asked for", site=self.site)
        parts, size = [], 0
        for part in answer.iter_bytes():
            size += len(part)
            if size > call.limit:
                raise BadReply(f"{self.site}: the reply is larger than {call.limit} bytes", site=self.site)
            if self.elapsed() > call.end:
                raise self._silent("the reply did not end in time", sent=True)
            parts.append(part)
        return b"".join(parts)

    def _silent(self, why: str, *, sent: bool) -> SiteUnreachable:
        error = SiteUnreachable(f"{self.site}: {scrub(why)}", site=self.site)
        error.effect_possible = sent
        return error

    def _error(self, call: _Call, reply: Reply) -> SiteError:
        status, document = reply.status, None
        with contextlib.suppress(BadReply):
            document = reply.json()
        detail = _told(_detail(document) or _plain(reply))
        said = f"{self.site}: {call.method} {httpx.URL(call.url).path} was answered with {status}" + (
            f": {detail}" if detail else ""
        )
        match status:
            case 401 | 403:
                return CredentialError(said, site=self.site)
            case 429:
                return SiteBusy(said, site=self.site, retry_after=_retry_after(reply.headers))
            case 507:
                return QuotaError(said, site=self.site)
            case 408:
                return self._silent(said.removeprefix(f"{self.site}: "), sent=True)
            case _ if status >= 500:
                error = self._silent(said.removeprefix(f"{self.site}: "), sent=True)
                error.status, error.document = status, document  # type: ignore[attr-defined]
                return error
            case _ if 300 <= status < 400:
                return BadReply(f"{said} (redirects are not followed)", site=self.site)
            case _:
                return Refusal(said, site=self.site, status=status, detail=detail, document=document)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    method: str
    url: str
    sent: Mapping[str, Any]
    headers: Mapping[str, str]
    accept: frozenset[int]
    end: float
    limit: int


def _passes(error: BaseException) -> bool:
    """Might the same question be answered a moment later?"""
    if isinstance(error, SiteBusy):
        return (error.retry_after or 0.0) <= 2.0
    return isinstance(error, SiteUnreachable)


def _json(content: bytes, site: str) -> Any:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        what = "HTML" if content.lstrip()[:1] == b"<" else "no JSON"
        raise BadReply(f"{site}: the reply is {what}", site=site) from error
    if _deeper(found, _DEPTH):
        raise BadReply(f"{site}: the reply is nested too deeply", site=site)
    return found


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return False
    return True


def _inner(value: Any) -> Iterator[Any]:
    found = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (one for one in found if isinstance(one, dict | list))


def _detail(document: object) -> str:
    """What the usual shapes of errors say: problem+json, FastAPI's detail, Slurm's errors, Kubernetes' Status."""
    if not isinstance(document, dict):
        return ""
    for name in ("detail", "message", "error_description", "error", "title"):
        found = document.get(name)
        if isinstance(found, str) and found:
            return found
        if isinstance(found, list) and found:
            return "; ".join(str(one.get("msg", one)) if isinstance(one, dict) else str(one) for one in found[:3])
    errors = document.get("errors")
    if isinstance(errors, list):
        told = [one.get("description") or one.get("error") for one in errors[:3] if isinstance(one, dict)]
        return "; ".join(str(one) for one in told if one)
    return ""


def _plain(reply: Reply) -> str:
    if "html" in reply.headers.get("content-type", ""):
        return "an HTML page"
    return reply.content[:_TOLD].decode("utf-8", "replace")


def _told(text: str) -> str:
    """A foreign text as part of ours: one line, bounded, no control characters, no secrets."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text[: 4 * _TOLD])
    return scrub(" ".join(plain.split()))[:_TOLD]


def _words(error: Exception) -> str:
    name = {
        "ConnectTimeout": "no connection in time",
        "ConnectError": "no connection",
        "ReadTimeout": "no answer in time",
        "WriteTimeout": "the request could not be sent in time",
        "RemoteProtocolError": "the connection broke before an answer came",
        "ReadError": "the connection broke",
    }.get(type(error).__name__, type(error).__name__)
    more = _told(str(error))
    return f"{name} ({more})" if more else name


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, at most an hour; dates are taken, too."""
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return min(3600.0, max(0.0, float(value)))
    with contextlib.suppress(ValueError, TypeError):
        when = email.utils.parsedate_to_datetime(value)
        return min(3600.0, max(0.0, when.timestamp() - time.time()))
    return None
