"""With each connector in turn, an answer that is lost after acceptance ends with exactly one execution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rehearsal_kit import SITES, Served, put_up, served

from sandbox.facilities.live import wall_clock
from sandbox.script import FaultScript, script_of

SUBMISSION = {
    "nersc": {"facility": "nersc", "method": "POST", "path": "/compute/jobs/"},
    "alcf": {"facility": "alcf", "method": "POST", "path": "/compute/job/"},
    "olcf": {"facility": "olcf", "method": "POST", "path": "/job/submit"},
    "cloud": {"facility": "cloud", "face": "kubernetes", "method": "POST", "path": "/jobs"},
}
LATER = (
    # a second submission at the same facility: nothing was submitted twice, or these would hit another one
    {"fault": "delay", "delay": 6, "nth": 2, **SUBMISSION["nersc"]},
    {"fault": "status", "code": 503, "handled": True, "nth": 2, **SUBMISSION["alcf"]},
    {"fault": "status", "code": 503, "handled": True, "nth": 2, **SUBMISSION["cloud"]},
)
CONTACT = "ada@example.org"
DEADLINE = 3.0
"""Seconds that the connector waits at NERSC: less than the delay."""


def short_patience(sites: dict[str, Any]) -> None:
    sites["nersc"]["options"]["deadline"] = DEADLINE


class Lost:
    """What became of one run for each fault."""

    def __init__(self, served: Served, script: FaultScript) -> None:
        self.served, self.script = served, script
        self.first = {site: served.submit(f"lost-{site}", site, contact=CONTACT) for site in SITES}
        self.states = dict(zip(self.first, served.ended(*self.first.values()), strict=True))
        self.after_first = [(item.facility, item.fault) for item in script.happened]
        later = {"nersc": "delay", "alcf": "status", "cloud": "status"}
        self.later = {site: served.submit(f"{fault}-{site}", site) for site, fault in later.items()}
        self.later_states = dict(zip(self.later, served.ended(*self.later.values()), strict=True))


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    folder = tmp_path_factory.mktemp("lost")
    rules = [{"fault": "reply_lost", **where} for where in SUBMISSION.values()]
    script = script_of(*rules, *LATER, clock=wall_clock)
    with put_up(folder, script) as sandbox, served(folder, sandbox, short_patience) as running:
        yield Lost(running, script)


def ran_exactly_once(lost: Lost, site: str, run: str, name: str) -> None:
    served = lost.served
    (attempt,) = served.attempts(run)
    assert (attempt.site, attempt.state) == (site, "SUCCEEDED")
    assert served.accepted(site, attempt.submit_key) == 1
    assert served.executions(name) == 1
    assert served.violations(run) == []
    (effect,) = [effect for effect in served.store.effects(run) if effect.kind == "submit"]
    assert "doubt_since" in effect.note  # its end was told, or it was looked up


@pytest.mark.parametrize("site", SITES)
@pytest.mark.fault("F26")
def test_a_reply_that_is_lost_after_acceptance_ends_with_one_execution(lost: Lost, site: str) -> None:
    assert (site, "reply_lost") in lost.after_first
    assert lost.states[site] == "SUCCEEDED"
    ran_exactly_once(lost, site, lost.first[site], f"lost-{site}")


def test_a_reply_that_comes_after_the_clients_deadline_ends_with_one_execution(lost: Lost) -> None:
    assert [item.facility for item in lost.script.happened if item.fault == "delay"] == ["nersc"]
    assert lost.later_states["nersc"] == "SUCCEEDED"
    ran_exactly_once(lost, "nersc", lost.later["nersc"], "delay-nersc")


@pytest.mark.parametrize("site", ["alcf", "cloud"])
@pytest.mark.fault("F27")
def test_an_error_of_the_server_after_acceptance_ends_with_one_execution(lost: Lost, site: str) -> None:
    assert site in {item.facility for item in lost.script.happened if item.fault == "status"}
    assert lost.later_states[site] == "SUCCEEDED"
    ran_exactly_once(lost, site, lost.later[site], f"status-{site}")


@pytest.mark.parametrize("site", ["nersc", "olcf", "cloud"])
def test_the_contact_stands_in_the_comment_of_the_job_at_the_facility(lost: Lost, site: str) -> None:
    (attempt,) = lost.served.attempts(lost.first[site])
    orders = [view.order for view in lost.served.sandbox.facilities[site].jobs()]
    (comment,) = [order.comment for order in orders if attempt.submit_key in order.comment]
    assert comment.endswith(f"{lost.first[site]}/only@1 {CONTACT}")
