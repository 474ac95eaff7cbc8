"""A site that refuses to tell is written down when it says something new, else once a minute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from broker_kit import Lab, site

from broker.watch import Watcher
from connectors.errors import CredentialError, SiteBusy, SiteError


class Refusing:
    """The simulated site; its status call raises what it was last told to."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._site: Any = lab.sites["nersc"]
        self.error: SiteError | None = CredentialError("nersc: 401: the token has expired", site="nersc")
        self.watcher = Watcher(store=lab.store, setups=lab.broker.world.sites, sites={"nersc": self}, clock=lab.clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._site, name)

    def status(self, keys: Sequence[str]) -> Any:
        if self.error is not None:
            raise self.error
        return self._site.status(keys)

    def list(self, path: str, **more: Any) -> Any:
        if self.error is not None:
            raise self.error
        return self._site.list(path, **more)

    def polls(self, count: int, *, every: float = 1.0) -> None:
        """So many looks, as the broker makes them."""
        for _ in range(count):
            sightings = self.watcher.look("nersc").sightings
            if not sightings.empty():
                self._lab.store.record(sightings, now=self._lab.clock())
            self._lab.clock.advance(every)

    def told(self) -> list[tuple[str, bool, str]]:
        """The rows of evidence, the oldest first."""
        rows = self._lab.store.evidence("nersc", limit=10_000)
        return [(capability, ok, detail) for _, _, capability, ok, _, detail, *_ in reversed(rows)]


def refusing() -> Refusing:
    return Refusing(Lab(site("nersc")))


def test_an_hour_of_refused_polls_leaves_one_row_a_minute() -> None:
    there = refusing()
    there.polls(3600)
    assert len(there.told()) == 60
    assert set(there.told()) == {("credentials", False, "nersc: 401: the token has expired")}


def test_what_a_site_says_anew_is_written_at_once() -> None:
    there = refusing()
    there.polls(5)
    there.error = CredentialError("nersc: 403: this address may not use this client", site="nersc")
    there.polls(5)
    there.error = SiteBusy("nersc: 429: later", site="nersc")
    there.polls(5)
    assert [row[::2] for row in there.told()] == [
        ("credentials", "nersc: 401: the token has expired"),
        ("credentials", "nersc: 403: this address may not use this client"),
        ("status", "nersc: 429: later"),
    ]


def test_an_id_of_the_answer_is_nothing_new() -> None:
    there = refusing()
    for number in range(50):
        there.error = CredentialError(f"nersc: 401: request {number:012x}-77 refused", site="nersc")
        there.polls(1)
    assert len(there.told()) == 1


def test_a_refusal_after_an_answer_is_written_again() -> None:
    there = refusing()
    refusal = there.error
    there.polls(3)
    there.error = None
    there.polls(1)
    there.error = refusal
    there.polls(3)
    assert [ok for _, ok, _ in there.told()] == [False, True, False]
