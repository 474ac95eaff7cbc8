"""Replies of the SDK's connections, read up to a limit: what comes is foreign, and may not end."""

from __future__ import annotations

from typing import Any

import requests
from requests.adapters import HTTPAdapter

LARGEST = 64 << 20
"""Bytes of a reply. A listing of 100 000 entries has some thirty million."""
_PART = 1 << 16


class BoundedAdapter(HTTPAdapter):
    """As requests' own, but that a reply is read here, and not beyond the limit."""

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,  # noqa: ARG002 - it is always read in parts
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: dict[str, str] | None = None,
    ) -> requests.Response:
        answer = super().send(request, stream=True, timeout=timeout, verify=verify, cert=cert, proxies=proxies)
        parts: list[bytes] = []
        size = 0
        for part in answer.iter_content(_PART):
            size += len(part)
            if size > LARGEST:
                answer.close()
                raise requests.exceptions.ContentDecodingError(f"the reply is larger than {LARGEST} bytes")
            parts.append(part)
        answer._content = b"".join(parts)  # noqa: SLF001 - where requests itself keeps what it has read
        answer._content_consumed = True  # noqa: SLF001
        return answer
