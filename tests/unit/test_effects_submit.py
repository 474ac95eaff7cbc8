"""Submitting exactly as often as it must be: doubt, looking up, adopting, and what is never submitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from broker_kit import Lab, Stage, site
from effects_kit import Case, facts, placed, wired
from store_kit import apply

from broker.clock import micros
from broker.effects import JobCache
from broker.effects.submit import LOOKS_BEFORE_RESUBMIT, Submitter
from broker.facts import SiteSetup
from broker.jobs import Job
from broker.store.base import Changes
from connectors.errors import (
    BadReply,
    CredentialError,
    NotThere,
    QuotaError,
    RequestRefused,
    SiteBusy,
    SiteError,
    SiteUnreachable,
    UnsafePath,
)
from connectors.model import Accepted, Doubtful, Listing, Refused, Ticket
from sandbox.faults import IncompleteListing, Partition

SETTLE = 10.0
"""The settle time of the sites here, seconds; a stage's job lasts 5."""


# -- over simulated sites ----------------------------------------------------


def test_a_lost_reply_is_looked_up_by_key_and_the_job_adopted() -> None:
    lab, wire = wired(site("nersc"))
    wire.lose_reply("submit")
    run = lab.submit(Stage("a", "seconds=5"))
    assert lab.finish(run, step=1) == "SUCCEEDED"
    assert len(lab.executions()) == 1
    assert wire.verbs("submit", "find") == ["submit", "find"]
    (attempt,) = lab.attempts(run, "a")
    assert json.loads(attempt.answer)["accepted"] == attempt.native_id == lab.executions()[0].native_id


def test_a_job_is_told_which_inputs_were_brought_for_it_and_how_large_they_are() -> None:
    lab = Lab(site("nersc"))
    run = lab.submit(
        Stage("make", "seconds=1 outputs=x:3,d/y:4,d/z.log:5", outputs=["x", "d/"]),
        Stage("take", "seconds=1", inputs=[("d", "make")]),
    )
    assert lab.finish(run) == "SUCCEEDED"
    made, taken = (lab.attempts(run, name)[0].directory for name in ("make", "take"))
    told = lab.sites["nersc"].read(f"{taken}/.crossfade/inputs").decode()
    assert told == "crossfade-inputs 1\ncount 2\nfile 4 d/y\nfile 5 d/z.log\nend\n"
    with pytest.raises(NotThere):
        lab.sites["nersc"].read(f"{made}/.crossfade/inputs")


def test_a_lost_request_is_sent_again_only_after_two_looks_and_the_settle_time() -> None:
    lab, wire = wired(site("nersc"))
    wire.lose_request("submit")
    run = lab.submit(Stage("a", "seconds=5"))
    lab.run_for(SETTLE - 0.5, step=0.25)
    assert wire.verbs("submit") == ["submit"]
    assert wire.verbs("find").count("find") >= LOOKS_BEFORE_RESUBMIT
    assert lab.finish(run, step=1) == "SUCCEEDED"
    assert wire.verbs("submit") == ["submit", "submit"]
    assert len(lab.executions()) == 1


def test_a_listing_that_is_not_complete_is_never_believed() -> None:
    lab, wire = wired(site("nersc"))
    now = lab.clock()
    lab.sites["nersc"].model.inject(IncompleteListing(start=now, end=now + micros(600), hidden=1.0))
    wire.lose_request("submit")
    run = lab.submit(Stage("a", "seconds=5"))
    lab.run_for(590, step=5)
    assert wire.verbs("submit") == ["submit"]
    assert lab.attempts(run, "a")[0].state == "SUBMITTING"
    assert lab.finish(run, step=5) == "SUCCEEDED"
    assert len(lab.executions()) == 1


@pytest.mark.fault("F29")
def test_a_busy_site_is_asked_again_without_doubt_and_without_the_settle_time() -> None:
    lab, wire = wired(site("nersc"))
    wire.lose_request("submit", times=3, error=SiteBusy("come later"))
    run = lab.submit(Stage("a", "seconds=5"))
    lab.run_for(3, step=0.1)
    # pauses of 0.1, 0.2 and 0.4 s: long before the settle time
    assert wire.verbs("submit") == ["submit"] * 4
    assert lab.finish(run, step=1) == "SUCCEEDED"
    assert len(lab.executions()) == 1


def test_many_jobs_go_to_a_site_in_one_call() -> None:
    lab, wire = wired(site("nersc", slots=40))
    run = lab.submit(*[Stage(f"s{n}", "seconds=5") for n in range(40)])
    lab.settle()
    assert wire.verbs("submit") == ["submit"]
    assert len(lab.store.open_attempts("nersc")) == 40
    assert lab.finish(run) == "SUCCEEDED"


# -- what an error means ----------------------------------------------------

ERRORS: list[tuple[SiteError, str]] = [
    # error of the one call -> what is kept of it
    (SiteUnreachable("x"), "doubt"),
    (BadReply("x"), "doubt"),
    (SiteBusy("x"), "clean"),
    (CredentialError("x"), "credential"),
    (QuotaError("x"), "quota"),
    (RequestRefused("x"), "site"),
    (UnsafePath("x"), "application"),
]


@dataclass
class Desk:
    """A site that says what it was told to."""

    answer: Any = None
    listing: Listing | None = None
    ended: bool = True
    asked: int = 0
    name: str = "nersc"
    inline: bool = True

    def submit(self, specs: Sequence[Any]) -> dict[str, Any]:
        self.asked += len(specs)
        if isinstance(self.answer, Exception):
            raise self.answer
        return {spec.key: self.answer for spec in specs} if self.answer is not None else {}

    def find(self, _: Sequence[str]) -> Listing:
        assert self.listing is not None
        return self.listing

    def cancel(self, keys: Sequence[str]) -> dict[str, bool]:
        return dict.fromkeys(keys, self.ended)


def case(**stage: Any) -> Case:
    return placed(Lab(site("nersc")), Stage("a", "seconds=5", **stage))


def submitter(case: Case, **changed: Any) -> Submitter:
    return Submitter(store=case.lab.store, world=replace(case.world, **changed), clock=case.lab.clock)


CLEAN = '{"clean":true,"try":1}'
"""Kept of a first try that the site answered with «busy»."""
NOTHING = Listing(items=(), complete=True, as_of=0)


@pytest.mark.parametrize(("error", "kept"), ERRORS, ids=lambda value: type(value).__name__)
def test_the_error_says_whether_anything_can_have_happened(error: SiteError, kept: str) -> None:
    c = case()
    result = submitter(c).submit(Desk(error), [(c.effect, c.job)])
    if kept in ("doubt", "clean"):
        (again,) = result.again
        assert json.loads(again.note).get("clean", False) is (kept == "clean")
        assert ("doubt_since" in json.loads(again.note)) == (kept == "doubt")
        assert result.done == result.seen == []
    else:
        assert json.loads(str(facts(result)["answer"])) == {"refused": "x", "fault": kept}
        assert result.again == []


ANSWERS = [
    (Accepted(native_id="7"), {"accepted": "7"}, ""),
    (Accepted(native_id="7", adopted=True), {"accepted": "7"}, ""),
    (Refused(reason="no such queue"), {"refused": "no such queue", "fault": "site"}, ""),
    (Ticket(ticket="t1"), None, "the site will say later which job it became"),
    (Doubtful(reason="connection reset"), None, "connection reset"),
    (None, None, "the site's answer left this job out"),
]


@pytest.mark.parametrize(("answer", "known", "reason"), ANSWERS, ids=lambda value: type(value).__name__)
def test_every_answer_is_kept_or_doubted(answer: Any, known: dict[str, object] | None, reason: str) -> None:
    c = case()
    result = submitter(c).submit(Desk(answer), [(c.effect, c.job)])
    if known is not None:
        told = json.loads(str(facts(result)["answer"]))
        assert told.items() >= known.items()
        assert facts(result).get("native_id", "") == known.get("accepted", "")
    else:
        note = json.loads(result.again[0].note)
        assert (note["last"], note["looks"], note["doubt_since"]) == (reason, 0, c.lab.clock())
        assert "clean" not in note


def test_a_worker_that_died_in_the_call_leaves_a_doubt_too() -> None:
    c = case()
    desk = Desk(Accepted(native_id="7"), listing=NOTHING)
    result = submitter(c).submit(desk, [(c.again(), c.job)])  # a second try, and no note of the first
    assert desk.asked == 0
    assert json.loads(result.again[0].note)["looks"] == 1


def test_a_try_that_died_after_a_clean_one_is_a_doubt_also_when_the_next_look_fails() -> None:
    """The note tells of try 1 (busy: clean); try 2 died in the call; at try 3 the site gives no answer."""
    c = case()
    hands, site = c.lab.broker.hands, c.lab.sites["nersc"]
    site.model.inject(Partition(start=c.lab.clock(), end=c.lab.clock() + micros(1)))
    third = c.again(tries=3, note=CLEAN)
    (again,) = hands.perform([third], JobCache(c.lab.store)).effects_again
    c.lab.clock.advance(1)
    desk = Desk(Accepted(native_id="7"), listing=NOTHING)
    submitter(c).submit(desk, [(c.again(tries=4, note=again.note), c.job)])
    assert desk.asked == 0


def test_a_worker_that_stood_still_past_its_claim_submits_nothing() -> None:
    c = case()
    desk = Desk(Accepted(native_id="7"))
    for claim_until, asked in ((c.lab.clock(), 0), (c.lab.clock() + 1, 1)):
        submitter(c).submit(desk, [(c.effect._replace(claim_until=claim_until), c.job)])
        assert desk.asked == asked


# -- when nothing was found under the key ----------------------------------------------------

LOOKS = [
    # looks before this one, seconds since the doubt, complete -> submitted?
    (0, 60.0, True, False),  # one look alone is not enough
    (1, 9.9, True, False),  # two, but too soon
    (1, 10.0, True, True),
    (5, 5.0, True, False),
    (1, 60.0, False, False),  # the second look was not complete: it does not count
    (2, 60.0, False, True),  # two complete ones were there before
]


@pytest.mark.parametrize(("looks", "seconds", "complete", "sent"), LOOKS)
def test_two_complete_looks_and_the_settle_time_allow_it_again(
    looks: int, seconds: float, complete: bool, sent: bool
) -> None:
    c = case()
    note = json.dumps({"doubt_since": c.lab.clock() - micros(seconds), "looks": looks, "try": 1})
    desk = Desk(Accepted(native_id="7"), listing=Listing(items=(), complete=complete, as_of=0))
    result = submitter(c).submit(desk, [(c.again(note=note), c.job)])
    assert desk.asked == int(sent)
    assert bool(result.again) is not sent


@pytest.mark.parametrize(
    "let_go", [{"orphan": 1}, {"cancel_requested_at": 5}, {"open": 0}], ids=lambda columns: next(iter(columns))
)
def test_an_attempt_that_was_let_go_meanwhile_is_never_submitted(let_go: dict[str, int]) -> None:
    c = case()
    apply(c.lab.store, Changes(attempts=[c.job.attempt._replace(**let_go)]), now=c.lab.clock(), run_id=c.run)
    desk = Desk(Accepted(native_id="7"), listing=NOTHING)
    result = submitter(c).submit(desk, [(c.again(note=CLEAN), c.job)])
    assert desk.asked == 0
    assert json.loads(str(facts(result)["dead"])) == {"how": "never submitted"}


def test_an_attempt_that_was_let_go_while_others_of_its_batch_were_looked_up_is_not_submitted() -> None:
    lab = Lab(site("nersc"))
    slow, fresh = placed(lab, Stage("slow", "seconds=5")), placed(lab, Stage("fresh", "seconds=5"))

    class LetsGo(Desk):
        def find(self, _: Sequence[str]) -> Listing:
            canceled = fresh.job.attempt._replace(cancel_requested_at=lab.clock())
            apply(lab.store, Changes(attempts=[canceled]), now=lab.clock(), run_id=fresh.run)
            return Listing(items=(), complete=False, as_of=0)

    desk = LetsGo(Accepted(native_id="7"))
    result = submitter(fresh).submit(desk, [(slow.again(), slow.job), (fresh.effect, fresh.job)])
    assert desk.asked == 0
    assert json.loads(str(facts(result)["dead"])) == {"how": "never submitted"}


def test_a_job_that_is_found_is_adopted_although_the_attempt_was_let_go() -> None:
    c = case()
    lab = c.lab
    lab.broker.act()  # the job exists; its answer is forgotten
    apply(lab.store, Changes(attempts=[lab.attempts(c.run, "a")[0]._replace(orphan=1)]), now=lab.clock(), run_id=c.run)
    result = submitter(c).submit(lab.sites["nersc"], [(c.again(), c.job)])
    assert (
        facts(result)["native_id"]
        == lab.sites["nersc"].model.look_up([c.job.attempt.submit_key], lab.clock()).items[0].native_id
    )


# -- what cannot be told to a site ----------------------------------------------------


def with_body(job: Job, **changed: Any) -> Job:
    body = {**json.loads(job.stage.body), **changed}
    return replace(job, stage=job.stage._replace(body=json.dumps(body)))


def test_a_plan_that_is_not_safe_is_the_documents_fault_and_spoils_no_other() -> None:
    c = case()
    bad = with_body(c.job, env={"not a name": "x"})
    desk = Desk(Accepted(native_id="7"))
    result = submitter(c).submit(desk, [(c.effect, bad), (c.effect, c.job)])
    assert desk.asked == 1
    refused, accepted = (json.loads(str(seen.facts["answer"])) for seen in result.seen)
    assert refused["fault"] == "application"
    assert "not a name" in refused["refused"]
    assert accepted["accepted"] == "7"


def test_a_variable_that_its_site_lost_since_is_the_sites_fault() -> None:
    c = case()
    needy = with_body(c.job, run="echo ${{ site.vars.scratch }}")
    result = submitter(c).submit(Desk(), [(c.effect, needy)])
    answer = json.loads(str(facts(result)["answer"]))
    assert answer["fault"] == "site"
    assert "sites.nersc.vars" in answer["refused"]
    config = replace(c.world.sites["nersc"].config, vars={"scratch": "/scratch"})
    desk = Desk(Accepted(native_id="7"))
    submitter(c, sites={"nersc": SiteSetup(config=config)}).submit(desk, [(c.effect, needy)])
    assert desk.asked == 1


# -- ending jobs ----------------------------------------------------


def test_a_cancel_is_done_when_the_site_confirms_the_death() -> None:
    c = case()
    result = submitter(c).cancel(Desk(ended=True), [(c.effect, c.job)])
    assert json.loads(str(facts(result)["dead"])) == {"how": "canceled and confirmed"}
    result = submitter(c).cancel(Desk(ended=False), [(c.effect, c.job)])
    assert (result.seen, json.loads(result.again[0].note)["last"]) == ([], "asked, not yet confirmed")


def test_the_pause_between_tries_doubles_to_ten_seconds() -> None:
    c = case()
    now = c.lab.clock()
    pauses = []
    for tries in (1, 2, 3, 7, 8, 50):
        result = submitter(c).cancel(Desk(ended=False), [(c.effect._replace(tries=tries), c.job)])
        pauses.append((result.again[0].due_at - now) / 1e6)
    # 0.1 s times 2 to the number of tries before; 0.1 * 2**7 = 12.8 is cut
    assert pauses == [0.1, 0.2, 0.4, 6.4, 10.0, 10.0]
