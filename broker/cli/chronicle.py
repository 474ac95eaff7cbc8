"""What has happened in this home since the last look, as lines: the log of `serve`."""

from __future__ import annotations

from broker.cli.telling import QUIET, clock_line, local_time
from broker.overview_silence import silences
from broker.service import Service

MOST_LINES = 200
"""Of one stream per look; what is left out is counted, and stays in `crossfade timeline`."""


class Chronicle:
    """Reads the streams of events from where they are now."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen = {name: seq for name, seq, _ in service.store.streams()}
        self._silent: dict[str, tuple[int, int | None]] = {}
        """Site to how many stages were said to be unreachable, and when they would move."""

    def news(self) -> list[str]:
        """New lines, in order within each stream."""
        lines: list[str] = []
        for name, seq, _ in self._service.store.streams():
            before = self._seen.get(name, 0)
            if seq > before:
                self._seen[name] = seq
                lines += self._of(name, after=before)
        return lines + self._silences()

    def _of(self, name: str, *, after: int) -> list[str]:
        events = [e for e in self._service.store.events(name, after=after) if e.kind not in QUIET]
        prefix = "" if ":" in name else f"{name[-8:]} "
        lines = [f"{local_time(e.at)} {prefix}{clock_line(e)[9:]}" for e in events[:MOST_LINES]]
        if len(events) > MOST_LINES:
            lines.append(f"{name}: and {len(events) - MOST_LINES} more")
        return lines

    def _silences(self) -> list[str]:
        """A site that cannot be asked is told of when its meaning changes, not at every look."""
        now = self._service.store.now()
        lines, silent = [], {}
        for silence in silences(self._service):
            meaning = (silence.unreachable, silence.moves_at)
            silent[silence.site] = meaning
            if self._silent.get(silence.site) != meaning:
                lines.append(f"{local_time(now)} {silence.line(now)}")
        self._silent = silent
        return lines
