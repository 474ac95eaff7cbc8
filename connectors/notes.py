"""Notes kept in this process alone: for whoever needs no crash to be survived, and for tests."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence


class MemoryNotes:
    """`connectors.base.Notes`, gone with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: dict[str, str] = {}

    def get(self, keys: Sequence[str]) -> Mapping[str, str]:
        with self._lock:
            return {key: self._texts[key] for key in keys if key in self._texts}

    def put_first(self, key: str, text: str) -> str:
        with self._lock:
            return self._texts.setdefault(key, text)

    def put(self, key: str, text: str) -> None:
        with self._lock:
            self._texts[key] = text

    def drop(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._texts.pop(key, None)
