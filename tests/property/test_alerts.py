"""Whatever happens in whatever order, whoever dies: no notice is lost, none goes out under a second id, none goes on
after somebody took care of it or it has passed."""

from __future__ import annotations

from collections import defaultdict

from alert_kit import fresh_alerts
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.alerts.message import message_of
from broker.alerts.rows import AlertRow, Over, new_alert

SECOND = 1_000_000
KINDS = ("needs_person", "moved", "deadline_at_risk")


class Telling(RuleBasedStateMachine):
    """Decisions, senders of whom any may die at any moment, people who acknowledge, and addresses that take nothing."""

    @initialize()
    def begin(self) -> None:
        self.now = 1_000 * SECOND
        self.store, self.decide = fresh_alerts()
        self.claims: list[AlertRow] = []
        self.got: dict[str, list[str]] = defaultdict(list)
        """Names of messages by the id of their notice, as the receiver saw them."""
        self.said: dict[tuple[str, int], int] = {}
        self.over: set[str] = set()
        self.acked: dict[str, int] = {}
        self.ids: dict[str, str] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self._send_all()
            for row in self.store.alerts.ls(limit=1000):
                heard = [name for name in self.got[row.id] if not name.endswith(".over")]
                known = heard or row.over_at is not None or row.acked_at is not None
                assert known, f"{row.key} was lost"
                if heard and row.over_at is not None and row.over_why:
                    assert f"{row.id}.over" in self.got[row.id], f"the end of {row.key} was lost"
            self.store.close()

    # -- what happens ------------------------------------------------------------------------------------------

    @rule(kind=st.sampled_from(KINDS), n=st.integers(0, 1), which=st.integers(0, 2))
    def decided(self, kind: str, n: int, which: int) -> None:
        row = new_alert(
            installation="me",
            key=f"{kind}:{n}:{which}",
            kind=kind,
            address="command:page",
            now=self.now,
            body={"text": kind},
            run_id="r",
            n=n,
            about=f"s{n}",
        )
        assert self.ids.setdefault(row.key, row.id) == row.id
        self.decide([row], [], self.now)

    @rule(kind=st.sampled_from(("", *KINDS)), n=st.integers(0, 1))
    def passed(self, kind: str, n: int) -> None:
        self.decide([], [Over("r", n, kind, "it has passed")], self.now)

    @rule(seconds=st.sampled_from([1, 70, 1000, 20_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * SECOND

    @rule(who=st.sampled_from(["one", "two"]))
    def claimed(self, who: str) -> None:
        self.claims += self.store.alerts.claim(claim=who, now=self.now, limit=3, seconds=60.0)

    @precondition(lambda self: self.claims)
    @rule(data=st.data(), taken=st.booleans(), dies=st.booleans())
    def sent(self, data: st.DataObject, taken: bool, dies: bool) -> None:
        """`dies`: after the message has gone out, and before anything was written down."""
        row = self.claims.pop(data.draw(st.integers(0, len(self.claims) - 1)))
        if taken:
            self._receive(row)
        if not dies:
            self.store.alerts.give_back(row, now=self.now, error="" if taken else "503")

    @precondition(lambda self: self.claims)
    @rule()
    def died_before(self) -> None:
        self.claims.pop()

    @rule(data=st.data())
    def acknowledged(self, data: st.DataObject) -> None:
        rows = self.store.alerts.ls(limit=1000)
        if rows:
            row = rows[data.draw(st.integers(0, len(rows) - 1))]
            for done in self.store.alerts.ack([row.id], by="ann", reason="on it", now=self.now):
                self.acked[done.id] = self.now

    # -- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def each_has_one_id(self) -> None:
        if hasattr(self, "store"):
            rows = self.store.alerts.ls(limit=1000)
            assert sorted(row.id for row in rows) == sorted(self.ids.values())

    @invariant()
    def nothing_is_due_for_ever_after_it_was_taken_care_of(self) -> None:
        if hasattr(self, "store"):
            for row in self.store.alerts.ls(limit=1000):
                if row.acked_at is not None and row.over_at is None and not row.claim:
                    assert row.due_at is None

    def _receive(self, row: AlertRow) -> None:
        message = message_of(row, installation="me")
        assert message.id == self.ids[row.key]
        names = self.got[row.id]
        numbers = [int(name.rpartition(".")[2]) for name in names if not name.endswith(".over")]
        if not message.data["over"]:
            assert message.data["number"] in (*numbers, max(numbers, default=0) + 1)
        names.append(message.name)

    def _send_all(self) -> None:
        """Whoever is left sends what is left."""
        for _ in range(5):
            self.now += 16 * 60 * SECOND
            for row in self.store.alerts.claim(claim="last", now=self.now, limit=100, seconds=60.0):
                self._receive(row)
                assert self.store.alerts.give_back(row, now=self.now)


TestTelling = Telling.TestCase
TestTelling.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)
