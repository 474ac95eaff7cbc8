"""A facility behind HTTP: a stand-in that really runs jobs, and a connector that speaks to it over a real socket.

The stand-in keeps count of what it accepted and adopts nothing by itself: a key that is submitted twice is counted
twice. It can hold its answers, or answer with an error although it has accepted.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from pydantic import ConfigDict, TypeAdapter, with_config

from broker.clock import wall_clock
from connectors.errors import BadReply, SiteUnreachable
from connectors.files.folder import FolderFiles
from connectors.files.root import Root
from connectors.local import LocalSite
from connectors.local.options import LocalOptions
from connectors.model import Evidence, JobSpec, Listing, SubmitAnswer

with_config(ConfigDict(ser_json_bytes="base64", val_json_bytes="base64"))(JobSpec)
_SPECS = TypeAdapter(list[JobSpec])
_ANSWERS = TypeAdapter(dict[str, SubmitAnswer])
_LISTING = TypeAdapter(Listing)
CUT = 0
"""For `Facility.mishaps`: the connection ends in the middle of the answer."""
PATIENCE = 1.0
"""Seconds that the connector waits for an answer."""


class Facility:
    """Jobs of a local site, told of over HTTP. A context manager."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.site = LocalSite(name=name, root=root, options=LocalOptions(), clock=wall_clock)
        self.site.prepare()
        self.accepted: Counter[str] = Counter()
        """How often each key was submitted, and accepted."""
        self.mishaps: list[int] = []
        """How the next submissions are answered, after they were accepted: with that status, or CUT short."""
        self.answering = threading.Event()
        """While it is not set, submissions are accepted and their answers held."""
        self.answering.set()
        self.holding = threading.Event()
        self._guard = threading.Lock()
        facility = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = facility._answer(self.path, body)
                try:
                    self.send_response(200 if status == CUT else status)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer[: len(answer) // 2] if status == CUT else answer)
                except OSError:
                    return  # who asked is gone

            def log_message(self, *args: Any) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name=name, daemon=True)

    def __enter__(self) -> Facility:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.answering.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def _answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        if path == "/submit":
            return self._submit(_SPECS.validate_json(body))
        asked = json.loads(body)
        if path == "/cancel":
            return 200, json.dumps(dict(self.site.cancel(asked))).encode()
        if path == "/ping":
            return 200, b"{}"
        listing = self.site.list_mine(asked) if path == "/list" else self.site.find(asked)
        return 200, _LISTING.dump_json(listing)

    def _submit(self, specs: Sequence[JobSpec]) -> tuple[int, bytes]:
        with self._guard:
            answers = dict(self.site.submit(specs))
            self.accepted.update(list(answers))
            mishap = self.mishaps.pop(0) if self.mishaps else 200
        if not self.answering.is_set():
            self.holding.set()
            self.answering.wait(60)
        return mishap, _ANSWERS.dump_json(answers) if mishap in (200, CUT) else b"<html>no</html>"


class RemoteSite(FolderFiles):
    """The port `connectors.base.Site` over HTTP. Files lie on a disk that both sides see; whoever reads them needs the
    facility's answer first, so that they are as far away as its jobs."""

    inline = False
    claim = "atomic_fs"

    def __init__(self, *, name: str, root: Path, port: int) -> None:
        super().__init__(_Behind(Root(site=name, path=root, identity=""), lambda: self._ask("/ping", b"{}")))  # type: ignore[arg-type]
        self.name, self._client = name, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)

    def close(self) -> None:
        self._client.close()

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        return _ANSWERS.validate_json(self._ask("/submit", _SPECS.dump_json(list(specs))))

    def find(self, keys: Sequence[str]) -> Listing:
        return _LISTING.validate_json(self._ask("/find", json.dumps(list(keys)).encode()))

    def status(self, keys: Sequence[str]) -> Listing:
        return self.find(keys)

    def list_mine(self, since: int) -> Listing:
        return _LISTING.validate_json(self._ask("/list", json.dumps(since).encode()))

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        ended: Mapping[str, bool] = json.loads(self._ask("/cancel", json.dumps(list(keys)).encode()))
        return ended

    def probe(self) -> Sequence[Evidence]:
        return ()

    def _ask(self, path: str, body: bytes) -> bytes:
        """What may have had its effect is never repeated here."""
        try:
            answer = self._client.post(path, content=body, headers={"Connection": "close"})
        except httpx.TransportError as error:
            raise SiteUnreachable(f"{path}: {type(error).__name__}", site=self.name) from error
        if answer.status_code != 200:
            raise BadReply(f"{path}: {answer.status_code}", site=self.name)
        return answer.content


class _Behind:
    """A root that is there only while the facility answers."""

    def __init__(self, root: Root, reach: Callable[[], object]) -> None:
        self._root, self._reach = root, reach

    @contextmanager
    def open(self) -> Iterator[Any]:
        self._reach()
        with self._root.open() as tree:
            yield tree
