"""Any interleaving of submissions, faults and time at the Globus stand-in: slots, final states, and whole files."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from globus_kit import CLIENT, Globus
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sandbox.faces.globus.submission import order_of
from sandbox.globus import Pace
from sandbox.globus.orders import Kind
from sandbox.globus.task import Status, Task

FILES = {f"{number}": bytes([number]) * (number * 100 + 1) for number in range(4)}


class GlobusMachine(RuleBasedStateMachine):
    """One identity, two collections, and a day that goes wrong."""

    @initialize(rate=st.sampled_from([0.0, 50.0]))
    def begin(self, rate: float) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.globus = Globus(Path(self.folder.name), pace=Pace(latency=1.0, rate=rate, block=64))
        for name, content in FILES.items():
            self.globus.put("a", f"d/{name}", content)
        self.tasks: list[Task] = []
        self.ended: dict[str, tuple[Status, int | None]] = {}
        self.ids: list[str] = []

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.globus.service.drop()
            self.folder.cleanup()

    @rule(verify=st.booleans(), again=st.booleans(), number=st.integers(0, 3))
    def submit(self, verify: bool, again: bool, number: int) -> None:
        submission = self.ids[number % len(self.ids)] if again and self.ids else str(uuid.uuid4())
        document = self.globus.order(("/d", "/e"), submission=submission, verify_checksum=verify)
        service = self.globus.service
        order = order_of(document, Kind.TRANSFER, limits=service.limits, now=service.now())
        accepted = service.submit(order, owner=CLIENT.id, username="u")
        assert accepted.duplicate == (submission in self.ids)
        if not accepted.duplicate:
            self.ids.append(submission)
            self.tasks.append(accepted.task)

    @rule(seconds=st.sampled_from([0.5, 3, 60, 3600, 90_000]))
    def wait(self, seconds: float) -> None:
        self.globus.go_on(seconds)

    @rule(name=st.sampled_from(["a", "b"]), down=st.sampled_from(["", "CONNECT_FAILED"]))
    def connect_or_not(self, name: str, down: str) -> None:
        self.globus.collections[name].down = down

    @rule(name=st.sampled_from(["a", "b"]), paused=st.sampled_from(["", "later"]))
    def pause_or_not(self, name: str, paused: str) -> None:
        self.globus.collections[name].paused = paused

    @rule(name=st.sampled_from(["a", "b"]), expired=st.booleans())
    def log_in_or_out(self, name: str, expired: bool) -> None:
        self.globus.collections[name].login_expired = expired

    @rule(room=st.sampled_from([None, 0, 250]))
    def fill(self, room: int | None) -> None:
        self.globus.collections["b"].room = room

    @rule(number=st.integers(0, 10))
    def cancel(self, number: int) -> None:
        if self.tasks:
            task = self.tasks[number % len(self.tasks)]
            self.globus.service.look()
            over = task.status.final
            assert self.globus.service.cancel(task) == ("TaskComplete" if over else "Canceled")

    @invariant()
    def three_are_worked_at(self) -> None:
        if hasattr(self, "tasks"):
            assert sum(task.slot for task in self.tasks) <= 3

    @invariant()
    def what_is_over_stays_over(self) -> None:
        for task in getattr(self, "tasks", []):
            if task.status.final:
                end = (task.status, task.completed_at)
                assert self.ended.setdefault(task.id, end) == end
                assert not task.slot
                assert not task.pending

    @invariant()
    def every_file_at_the_destination_is_whole(self) -> None:
        if not hasattr(self, "globus"):
            return
        names = self.globus.names("b")
        for name in names:
            if not name.startswith("e/.cf-"):
                assert self.globus.read("b", name) == FILES[name.removeprefix("e/")]
        working = sum(not task.status.final for task in self.tasks)
        assert sum(name.startswith("e/.cf-") for name in names) <= working

    @invariant()
    def success_means_that_all_is_there(self) -> None:
        for task in getattr(self, "tasks", []):
            if task.status is Status.SUCCEEDED:
                assert {f"e/{name}" for name in FILES} <= set(self.globus.names("b"))
                assert task.counts.succeeded == task.counts.subtasks == len(FILES) + 2

    @invariant()
    def the_books_agree(self) -> None:
        for task in getattr(self, "tasks", []):
            counts = task.counts
            told = counts.succeeded + counts.failed + counts.canceled + counts.expired + counts.skipped_errors
            assert counts.subtasks == told + task.left
        if hasattr(self, "globus"):
            assert self.globus.service.counted["transfers"] == len(self.tasks)


GlobusMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30)
TestGlobusMachine = GlobusMachine.TestCase
