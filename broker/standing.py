"""How a site stands in a few words: since when, who says so, what happens next by itself and when, what stops it."""

from __future__ import annotations

from dataclasses import dataclass

from broker.overview_silence import Silence, clock_time
from broker.store.base import SiteRow
from broker.views import View
from policies.intervals import span


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What stands beside a site's state on the screen."""

    age: float | None
    """Seconds for which it has been so; of a site that answers, since it last did. None: nobody knows."""
    source: str
    next: str
    stop: str = ""
    """The command that stops that, or changes it."""

    @property
    def view(self) -> View:
        return {
            "age_seconds": None if self.age is None else round(self.age, 1),
            "age": "" if self.age is None else span(self.age),
            "source": self.source,
            "next": self.next,
            "stop": self.stop,
        }


def standing(view: View, row: SiteRow | None, silence: Silence | None, *, now: int) -> Standing:
    """`view`: the site as `site ls` has it."""
    name = str(view["site"])
    if row is None:
        return Standing(age=None, source="nobody has asked", next="asked when somebody serves")
    if row.quarantined:
        stop = f"crossfade site release {name} --reason ..."
        return Standing(age=None, source="a restored backup", next="ends when its jobs are listed", stop=stop)
    if row.mode != "up":
        age = _since(row.mode_at, now)
        stop = f"crossfade site resume {name} --reason ..."
        return Standing(age=age, source=row.mode_by or "an operator", next=f"stays {row.mode}", stop=stop)
    if row.override and row.override_until is not None and row.override_until > now:
        stop = f"crossfade site override {name} none --reason ..."
        ends = f"counts as {row.override} until {clock_time(row.override_until)}, then evidence speaks again"
        return Standing(age=None, source=row.override_by, next=ends, stop=stop)
    if silence is not None:
        return _silent(silence, row, now)
    source = "its own answer" if row.last_ok_at is not None else "nobody has asked"
    health = str(view["health"])
    next_ = f"asked again {_clock_of(view['asked_again'])}"
    if health not in ("up", "unknown"):
        return Standing(
            age=_since(row.last_ok_at, now), source="evidence", next=next_, stop=f"crossfade site show {name}"
        )
    return Standing(age=_since(row.last_ok_at, now), source=source, next=next_)


def _silent(silence: Silence, row: SiteRow, now: int) -> Standing:
    age = _since(silence.since, now)
    source = f"{silence.probes} probes"
    if silence.doubt:
        stop = f"crossfade site override {silence.site} down --reason ..."
        return Standing(age=age, source=source, next="nothing moves: it may be us", stop=stop)
    if silence.frozen:
        return Standing(age=age, source=source, next="nothing moves: frozen", stop="crossfade freeze off moves")
    if silence.moves_at is not None:
        then = clock_time(silence.moves_at) if silence.moves_at > now else "as soon as a site can take it"
        return Standing(age=age, source=source, next=f"moving {then}", stop=silence.stop)
    again = f"asked again {clock_time(row.next_poll_at)}" if row.next_poll_at else "asked again"
    return Standing(age=age, source=source, next=again)


def _since(at: int | None, now: int) -> float | None:
    return None if at is None else max(0.0, (now - at) / 1e6)


def _clock_of(iso: object) -> str:
    """As clocks here show it."""
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(str(iso)).astimezone().strftime("%H:%M:%S") if iso else "soon"
