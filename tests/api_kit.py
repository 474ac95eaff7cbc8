"""The HTTP face over a real store, asked without a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from broker.api.app import close_api, make_api
from broker.api.auth import Token
from broker.config import Settings
from broker.service import Service, open_service
from broker.store.base import Store

TOKEN = Token("right-token-" + "r" * 32)
HELLO = "crossfade: 1\nname: hello\nstages:\n  first: {run: 'true'}\n  second: {run: 'true', needs: [first]}\n"


class Face:
    """One installation and its API."""

    def __init__(self, service: Service, **options: Any) -> None:
        self.service = service
        self.app = make_api(service, TOKEN, **options)
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")

    def ask(self, method: str, path: str, *, token: str | None = TOKEN.value, **given: Any) -> httpx.Response:
        """One request; with the right token unless another is given."""
        headers = httpx.Headers(given.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return self._runner.run(self._client.request(method, path, headers=headers, **given))

    def get(self, path: str, **given: Any) -> httpx.Response:
        return self.ask("GET", path, **given)

    def post(self, path: str, body: object = None, **given: Any) -> httpx.Response:
        if body is not None:
            given["content"] = body if isinstance(body, bytes) else json.dumps(body).encode()
            given["headers"] = {"Content-Type": "application/json", **given.get("headers", {})}
        return self.ask("POST", path, **given)

    def submit(self, document: object = HELLO, **more: Any) -> str:
        answer = self.post("/v1/runs", {"document": document, **more})
        assert answer.status_code in (200, 201), answer.text
        run: str = answer.json()["run"]
        return run

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
        close_api(self.app)


@contextmanager
def open_face(
    folder: Path, *, around: Callable[[Store], Any] = lambda store: store, sites: str = "", **options: Any
) -> Iterator[Face]:
    """`around`: what the service gets instead of its store."""
    document = folder / "sites.yaml"
    document.write_text(sites or f"crossfade: 1\nsites:\n  here: {{profile: local, root: {folder}/root}}\n")
    service = open_service(Settings(home=folder / "home", sites=document, user="ann"))
    store = service.store
    service.store = around(store)
    face = Face(service, **options)
    try:
        yield face
    finally:
        face.close()
        store.close()
