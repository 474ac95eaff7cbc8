"""Who sent an S3 request: AWS Signature Version 4, in the headers, in the address, or in a form's policy."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from sandbox.faces.http import Request

SKEW = timedelta(minutes=15)
UNSIGNED = "UNSIGNED-PAYLOAD"
_STREAMED = "STREAMING-"


class Denied(Exception):
    """The request is not believed. `code` as S3 names it."""

    def __init__(self, code: str, text: str, status: int = 403) -> None:
        super().__init__(text)
        self.code, self.status = code, status


def check(request: Request, keys: Mapping[str, str], now: datetime) -> None:
    """Raises Denied unless the request is signed by one of these pairs (access key: secret key), in time."""
    if request.first("X-Amz-Algorithm"):
        _presigned(request, keys, now)
    elif request.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
        _signed(request, keys, now)
    else:
        raise Denied("AccessDenied", "Access Denied")


def check_policy(form: Mapping[str, str], keys: Mapping[str, str], now: datetime, *, bucket: str, size: int) -> None:
    """A form's policy: signed, not over, and kept by all of the form's fields. Raises Denied."""
    access, scope = _credential(form.get("x-amz-credential", ""))
    secret = _secret(keys, access)
    wanted = _hmac(_key(secret, scope), form.get("policy", "")).hex()
    if not hmac.compare_digest(wanted, form.get("x-amz-signature", "")):
        raise _mismatch()
    try:
        policy = json.loads(base64.b64decode(form["policy"]))
        over = datetime.fromisoformat(policy["expiration"])
        conditions = policy["conditions"]
    except (ValueError, KeyError, TypeError) as error:
        raise Denied("InvalidPolicyDocument", "Invalid Policy: Invalid JSON.", 400) from error
    if now > over:
        raise Denied("AccessDenied", "Invalid according to Policy: Policy expired.")
    given = {**form, "bucket": bucket}
    for condition in conditions:
        if not _kept(condition, given, size):
            raise Denied(
                "AccessDenied", f"Invalid according to Policy: Policy Condition failed: {json.dumps(condition)}"
            )


def content_of(request: Request) -> bytes:
    """The body as it is to be stored: out of its chunks, where it came in such, and with the digest it promised."""
    claimed = request.headers.get("x-amz-content-sha256", "")
    body = request.body
    if claimed.startswith(_STREAMED):
        body = _unchunked(body)
    elif claimed not in {"", UNSIGNED} and hashlib.sha256(body).hexdigest() != claimed:
        raise Denied(
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
            400,
        )
    md5 = request.headers.get("content-md5")
    if md5 and base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() != md5:
        raise Denied("BadDigest", "The Content-MD5 you specified did not match what we received.", 400)
    sha256 = request.headers.get("x-amz-checksum-sha256")
    if sha256 and base64.b64encode(hashlib.sha256(body).digest()).decode() != sha256:
        raise Denied("BadDigest", "The SHA256 you specified did not match the calculated checksum.", 400)
    return body


def _signed(request: Request, keys: Mapping[str, str], now: datetime) -> None:
    told = dict(
        part.strip().split("=", 1)
        for part in request.headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(",")
        if "=" in part
    )
    access, scope = _credential(told.get("Credential", ""))
    names = told.get("SignedHeaders", "").split(";")
    stamp = request.headers.get("x-amz-date", "")
    if abs(_moment(stamp) - now) > SKEW:
        raise Denied(
            "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
        )
    unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in names]
    if "host" not in names or unsigned:
        raise Denied("AccessDenied", "There were headers present in the request which were not signed")
    digest = request.headers.get("x-amz-content-sha256", "")
    if not digest:
        raise Denied("InvalidRequest", "Missing required header for this request: x-amz-content-sha256", 400)
    _compare(
        request, _secret(keys, access), scope, stamp, names, digest, list(request.query), told.get("Signature", "")
    )


def _presigned(request: Request, keys: Mapping[str, str], now: datetime) -> None:
    access, scope = _credential(request.first("X-Amz-Credential"))
    stamp, lasts = request.first("X-Amz-Date"), request.first("X-Amz-Expires")
    begun = _moment(stamp)
    if not lasts.isdecimal() or not 0 < int(lasts) <= 604_800:
        raise Denied("AuthorizationQueryParametersError", "X-Amz-Expires must be between 1 and 604800 seconds", 400)
    if now > begun + timedelta(seconds=int(lasts)) or begun > now + SKEW:
        raise Denied("AccessDenied", "Request has expired")
    query = [(name, value) for name, value in request.query if name != "X-Amz-Signature"]
    names = request.first("X-Amz-SignedHeaders").split(";")
    _compare(request, _secret(keys, access), scope, stamp, names, UNSIGNED, query, request.first("X-Amz-Signature"))


def _compare(
    request: Request,
    secret: str,
    scope: str,
    stamp: str,
    names: list[str],
    digest: str,
    query: list[tuple[str, str]],
    signature: str,
) -> None:
    path = quote(request.path, safe="/-._~")
    pairs = sorted((quote(name, safe="-._~"), quote(value, safe="-._~")) for name, value in query)
    asked = "&".join(f"{name}={value}" for name, value in pairs)
    lines = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in names)
    canonical = "\n".join([request.method, path, asked, lines, ";".join(names), digest])
    told = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    if not hmac.compare_digest(_hmac(_key(secret, scope), told).hex(), signature):
        raise _mismatch()


def _credential(text: str) -> tuple[str, str]:
    access, slash, scope = text.partition("/")
    parts = scope.split("/")
    if not slash or len(parts) != 4 or parts[2] != "s3" or parts[3] != "aws4_request":
        raise Denied("AuthorizationHeaderMalformed", "The authorization header is malformed", 400)
    return access, scope


def _secret(keys: Mapping[str, str], access: str) -> str:
    if access not in keys:
        raise Denied("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
    return keys[access]


def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")


def _moment(stamp: str) -> datetime:
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Denied("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from error


def _mismatch() -> Denied:
    return Denied("SignatureDoesNotMatch", "The request signature we calculated does not match the one you provided.")


def _kept(condition: object, given: Mapping[str, str], size: int) -> bool:
    if isinstance(condition, dict):
        return all(given.get(name.lower()) == value for name, value in condition.items())
    if not isinstance(condition, list) or len(condition) != 3:
        return False
    kind, name, value = condition
    if kind == "content-length-range":
        return isinstance(name, int) and isinstance(value, int) and name <= size <= value
    found = given.get(str(name).removeprefix("$").lower(), "")
    return found.startswith(str(value)) if kind == "starts-with" else kind == "eq" and found == value


def _unchunked(body: bytes) -> bytes:
    """`SIZE[;chunk-signature=...]` CRLF content CRLF ..., up to a chunk of none; trailers are not kept."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        try:
            size = int(body[at:end].split(b";")[0], 16) if end >= 0 else -1
        except ValueError:
            size = -1
        if size < 0 or end + 2 + size > len(body):
            raise Denied("IncompleteBody", "The request body terminated unexpectedly", 400)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
