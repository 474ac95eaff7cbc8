"""Bodies as FastAPI takes them, and the errors that it answers with."""

from __future__ import annotations

import re
from email.message import Message

from sandbox.faces.http import Request, Response, answer


def field(request: Request, name: str) -> str | None:
    """A field of a form, urlencoded or multipart; None: not there."""
    if "multipart/form-data" in request.headers.get("content-type", ""):
        content = part(request, name)
        return None if content is None else content.decode("utf-8", "replace")
    return next((value for key, value in request.form() if key == name), None)


def fields(request: Request, name: str) -> list[str]:
    """All values of a field of an urlencoded form."""
    return [value for key, value in request.form() if key == name]


def part(request: Request, name: str) -> bytes | None:
    """A part of a multipart body; None: not there."""
    head = Message()
    head["content-type"] = request.headers.get("content-type", "")
    boundary = head.get_param("boundary")
    if head.get_content_type() != "multipart/form-data" or not isinstance(boundary, str) or not boundary:
        return None
    for piece in (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode("ascii", "replace")):
        top, blank, content = piece.partition(b"\r\n\r\n")
        found = re.search(rb'content-disposition:[^\r\n]*;\s*name="?([^";\r\n]*)"?', top, re.IGNORECASE)
        if blank and found and found[1].decode("utf-8", "replace") == name:
            return content
    return None


def truth(text: str | None) -> bool | None:
    """A boolean as FastAPI reads one; None: it is none."""
    plain = (text or "").lower()
    if plain in {"true", "1", "yes", "on", "t", "y"}:
        return True
    return False if plain in {"false", "0", "no", "off", "f", "n"} else None


def invalid(
    name: str, *, where: str = "body", text: str = "field required", kind: str = "value_error.missing"
) -> Response:
    """What a request is answered with that does not validate."""
    return answer({"detail": [{"loc": [where, name], "msg": text, "type": kind}]}, 422)


NOT_FOUND = answer({"detail": "Not Found"}, 404)
NOT_ALLOWED = answer({"detail": "Method Not Allowed"}, 405)
