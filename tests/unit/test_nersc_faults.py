"""What goes wrong between the NERSC connector and its site, and what the connector makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from nersc_kit import DAY, Rehearsal, Wire, simulated_job

from connectors.errors import CredentialError, SiteBusy, SiteError, SiteUnreachable
from connectors.model import Accepted, Doubtful, JobState, Refused
from connectors.nersc import NerscSite
from sandbox.facility import Outage

KEY = "cfabcdefgh23456"
SUBMIT = {"method": "POST", "path": "/compute/jobs/"}
LIST = {"method": "GET", "path": "/compute/jobs/"}
TASK = {"method": "GET", "path": "/tasks/", "nth": 3}
"""The task of the submission: making the root and writing the job's files have tasks before it."""


class Scene:
    """A site, its wire, and rules of what goes wrong."""

    def __init__(self, folder: Path, *rules: Mapping[str, Any], **more: Any) -> None:
        self.rehearsal = Rehearsal(folder, *rules)
        self.wire = Wire(self.rehearsal.transport)
        self.site: NerscSite = self.rehearsal.site(transport=self.wire, **more)
        self.site.prepare()
        self.wire.asked.clear()

    def submit(self, **more: Any) -> Any:
        return self.site.submit([simulated_job(KEY, **({"seconds": 600} | more))])[KEY]

    @property
    def accepted(self) -> int:
        return self.rehearsal.facility.accepted().get(KEY, 0)

    @property
    def status(self) -> Any:
        [item] = self.site.status([KEY]).items
        return item

    def pass_by(self, seconds: float) -> None:
        self.rehearsal.clock.advance(seconds)


# -- the reply to a submission -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        {"fault": "reply_lost"},
        {"fault": "delay", "delay": 100},
        {"fault": "status", "code": 502, "handled": True},
        {"fault": "status", "code": 504, "handled": True},
        {"fault": "html", "handled": True},
        {"fault": "garbage", "handled": True},
        {"fault": "garbage", "text": "[]", "handled": True},
        {"fault": "huge", "handled": True},
        {"fault": "redirect"},
        {"fault": "truncated"},
        {"fault": "drip", "pause": 20, "piece": 1},
        {"fault": "status_error", "handled": True},
        {"fault": "task_forgotten", **TASK},
        {"fault": "task_stuck", "times": 0, **TASK},
        {"fault": "status", "code": 503, "times": 0, **TASK},
        {"fault": "unauthorized", "times": 0, **TASK},
        {"fault": "garbage", "text": '{"id": "9", "status": "completed", "result": null}', **TASK},
        {"fault": "garbage", "text": '{"id": "9", "status": "completed", "result": "{\\"jobid\\": {}}"}', **TASK},
    ],
    ids=lambda rule: "-".join(str(rule[word]) for word in ("fault", "code", "text", "path") if word in rule),
)
def test_a_submission_without_a_clear_answer_is_doubtful_and_ends_as_one_job(
    tmp_path: Path, rule: Mapping[str, Any]
) -> None:
    again = Scene(tmp_path, {**SUBMIT, **rule})
    answer = again.submit()
    assert isinstance(answer, Doubtful), answer
    found = [item.native_id for item in again.site.find([KEY]).items]
    if again.accepted:
        repeated = again.submit()
        assert isinstance(repeated, Accepted)
        assert (repeated.adopted, [repeated.native_id]) == (True, found)
    else:
        assert found == []
        assert isinstance(again.submit(), Accepted)
    assert again.accepted == 1
    again.pass_by(700)
    assert again.rehearsal.facility.model.journal.runs()[KEY] == 1


def test_a_post_is_never_sent_twice_by_itself(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "status", "code": 503, "times": 0, **SUBMIT})
    assert isinstance(scene.submit(), Doubtful)
    assert scene.wire.count("POST", "/compute/jobs/") == 1


@pytest.mark.fault("F29")
def test_a_busy_api_has_taken_nothing_and_may_be_asked_later(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "status", "code": 429, "retry_after": 30, **SUBMIT})
    with pytest.raises(SiteBusy) as caught:
        scene.submit()
    assert caught.value.retry_after == 30
    assert scene.accepted == 0
    assert isinstance(scene.submit(), Accepted)


def test_after_one_lost_reply_the_rest_of_the_batch_is_not_sent(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "reply_lost", "nth": 2, **SUBMIT})
    keys = [f"cfbatch{n}" for n in range(4)]
    answers = scene.site.submit([simulated_job(key, seconds=60) for key in keys])
    assert isinstance(answers[keys[0]], Accepted)
    assert all(isinstance(answers[key], Doubtful) for key in keys[1:])
    assert scene.rehearsal.facility.accepted() == {keys[0]: 1, keys[1]: 1}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "site"),
        ("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)", "quota"),
    ],
)
@pytest.mark.fault("F28")
def test_what_sbatch_refuses_is_refused_in_its_words(tmp_path: Path, text: str, kind: str) -> None:
    scene = Scene(tmp_path, {"fault": "task_error", "text": text, **SUBMIT})
    answer = scene.submit()
    assert isinstance(answer, Refused)
    assert answer.fault == kind
    assert text.split("failed: ")[1][:20] in answer.reason
    assert scene.accepted == 0


@pytest.mark.parametrize(
    "text", ["Socket timed out on send/recv operation", "Unable to contact slurm controller (connect failure)"]
)
def test_an_sbatch_that_got_no_answer_leaves_a_doubt(tmp_path: Path, text: str) -> None:
    said = f"sbatch: error: Batch job submission failed: {text}"
    assert isinstance(Scene(tmp_path, {"fault": "task_error", "text": said, **SUBMIT}).submit(), Doubtful)


def test_a_job_of_our_name_without_our_comment_is_not_adopted(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.rehearsal.facility.submit(_foreign(KEY, "crossfade elsewhere " + KEY + " d1"))
    answer = scene.submit()
    assert isinstance(answer, Refused)
    assert scene.site.find([KEY]).items == ()
    assert scene.site.list_mine(0).items == ()


def _foreign(name: str, comment: str) -> Any:
    from sandbox.facility import Order

    script = "#!/bin/sh\nsleep 600\n"
    return Order(name=name, comment=comment, script=script, user="user", walltime=3600.0)


# -- credentials ---------------------------------------------------------------------------------------------


def test_a_token_is_renewed_at_four_fifths_of_its_life(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    given = scene.rehearsal.face.doorkeeper
    assert given.given == 1
    scene.pass_by(479)
    scene.site.status([KEY])
    assert given.given == 1
    scene.pass_by(2)
    scene.site.status([KEY])
    assert given.given == 2


@pytest.mark.fault("F30")
def test_a_token_that_is_refused_in_mid_run_is_renewed_and_the_call_repeated(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.rehearsal.face.doorkeeper.revoke()
    assert scene.site.status([KEY]).complete
    scene.rehearsal.face.doorkeeper.revoke()
    assert isinstance(scene.submit(), Accepted)
    assert scene.accepted == 1


def test_a_401_to_a_submission_is_one_submission(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "unauthorized", **SUBMIT})
    assert isinstance(scene.submit(), Accepted)
    assert scene.accepted == 1


@pytest.mark.parametrize("fault", ["unauthorized", "forbidden"])
@pytest.mark.fault("F30")
def test_a_refused_credential_is_one_and_no_outage(tmp_path: Path, fault: str) -> None:
    scene = Scene(tmp_path, {"fault": fault, "times": 0, **LIST})
    for ask in (scene.site.status, scene.site.find, scene.site.cancel):
        with pytest.raises(CredentialError):
            ask([KEY])
    scene = Scene(tmp_path / "submit", {"fault": fault, "times": 0, **SUBMIT})
    answer = scene.submit()
    assert isinstance(answer, Refused)
    assert (answer.fault, scene.accepted) == ("credential", 0)


def test_a_refused_client_is_evidence_about_credentials_alone(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "forbidden", "times": 0, "path": "/account/clients"})
    bad = [item for item in scene.site.probe() if not item.ok]
    assert [item.capability for item in bad] == ["credentials"]


def test_the_end_of_a_client_is_told(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    [evidence] = [item for item in scene.site.probe() if item.capability == "credentials"]
    assert evidence.ok
    assert evidence.until == scene.rehearsal.client.expires_at
    scene.pass_by(2 * 86_400 + 1)
    [evidence] = [item for item in scene.site.probe() if item.capability == "credentials"]
    assert not evidence.ok


def test_a_token_endpoint_that_is_down_is_an_outage_and_no_refusal(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "status", "code": 503, "nth": 2, "times": 0, "path": "/c2id/token"})
    scene.pass_by(700)
    with pytest.raises(SiteUnreachable) as caught:
        scene.submit()
    assert not caught.value.effect_possible


# -- looking -------------------------------------------------------------------------------------------------


def test_an_error_in_an_envelope_is_an_outage_and_never_an_absent_job(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "status_error", "nth": 3, "times": 1, **LIST})  # two looks before the submission
    assert isinstance(scene.submit(), Accepted)
    with pytest.raises(SiteUnreachable, match="slurm controller"):
        scene.site.status([KEY])
    assert scene.status.state is JobState.RUNNING


def test_a_listing_without_the_accounting_is_not_complete(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "status_error", "nth": 4, "times": 1, **LIST})
    assert isinstance(scene.submit(), Accepted)
    listing = scene.site.status([KEY, "cfabsent"])  # the second question of this look fails
    assert not listing.complete
    assert [item.key for item in listing.items] == [KEY]
    assert scene.site.status([KEY, "cfabsent"]).complete


def test_a_cached_answer_is_not_asked_for(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "cached", "age": 600, "times": 0, **LIST})
    assert isinstance(scene.submit(), Accepted)
    assert scene.status.state is JobState.RUNNING


def test_a_cached_answer_would_miss_a_fresh_job(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "cached", "age": 600, "times": 0, **LIST})
    scene.submit()
    http = scene.site._api.http
    assert http.get("compute/jobs/perlmutter").mapping()["output"] == []
    assert len(http.get("compute/jobs/perlmutter", params={"cached": "false"}).mapping()["output"]) == 1


def test_a_job_hidden_after_its_acceptance_turns_up(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "hide", "job": KEY, "seconds": 20})
    assert isinstance(scene.submit(), Accepted)
    assert scene.site.status([KEY]).items == ()
    scene.pass_by(30)
    assert scene.status.state is JobState.RUNNING


def test_a_job_that_was_accepted_and_forgotten_is_absent_from_a_complete_listing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "forget", "job": KEY})
    scene.submit()
    scene.pass_by(5)
    listing = scene.site.status([KEY])
    assert (listing.complete, listing.items) == (True, ())


def test_the_end_of_a_job_that_left_the_queue_long_ago_is_in_the_accounting(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.submit(seconds=5, exit_code=9)
    scene.pass_by(1.5 * 86_400)
    assert (scene.status.state, scene.status.exit_code) == (JobState.FAILED, 9)


@pytest.mark.parametrize("lookup", ["user", "name"])
def test_the_accounting_is_asked_by_user_or_by_name(tmp_path: Path, lookup: str) -> None:
    scene = Scene(tmp_path, options={"lookup": lookup})
    scene.submit(seconds=5)
    scene.pass_by(10)
    assert scene.status.state is JobState.SUCCEEDED


@pytest.mark.parametrize("reason", ["PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "InvalidAccount"])
def test_a_reason_that_time_will_not_cure_is_told(tmp_path: Path, reason: str) -> None:
    scene = Scene(tmp_path, {"fault": "stuck", "job": KEY, "reason": reason})
    scene.submit()
    assert (scene.status.state, scene.status.stuck_reason) == (JobState.QUEUED, reason)


def test_a_preempted_job_that_is_requeued_tells_of_its_restart(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "preempt", "job": KEY, "after": 10, "notice": 1, "requeue": True})
    scene.submit()
    first = scene.status.native_id
    scene.pass_by(10)
    for look in (scene.site.find, scene.site.status):
        [item] = look([KEY]).items
        assert (item.native_id, item.state, item.restarts) == (first, JobState.QUEUED, 1)


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ({"fault": "preempt", "requeue": False, "notice": 1}, JobState.PREEMPTED),
        ({"fault": "node_fail", "requeue": False}, JobState.NODE_FAILED),
        ({"fault": "boot_fail"}, JobState.NODE_FAILED),
        ({"fault": "time_out"}, JobState.TIMED_OUT),
        ({"fault": "deadline"}, JobState.TIMED_OUT),
        ({"fault": "out_of_memory"}, JobState.OUT_OF_MEMORY),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else "",
)
def test_every_way_to_end_is_told_apart(tmp_path: Path, fault: Mapping[str, Any], state: JobState) -> None:
    scene = Scene(tmp_path, {**fault, "job": KEY, "after": 10})
    scene.submit(requeue=False)
    scene.pass_by(60)
    assert scene.status.state is state


def test_an_unknown_word_is_unknown_and_kept(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "unknown_word", "job": KEY, "word": "HIBERNATED"})
    scene.submit()
    scene.pass_by(1)
    assert (scene.status.state, scene.status.native_state) == (JobState.UNKNOWN, "HIBERNATED")
    assert not scene.status.state.final


def test_a_cancel_that_was_taken_and_not_done_is_no_death(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "ignore_cancel", "job": KEY, "times": 0})
    scene.submit(seconds=60)
    assert scene.site.cancel([KEY]) == {KEY: False}
    assert scene.site.cancel([KEY]) == {KEY: False}
    scene.pass_by(100)
    assert scene.site.cancel([KEY]) == {KEY: True}
    assert scene.status.state is JobState.SUCCEEDED


def test_a_cancel_without_a_complete_look_is_no_death(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "status_error", "nth": 2, "times": 1, **LIST})
    assert scene.site.cancel(["cfabsent"]) == {"cfabsent": False}
    assert scene.site.cancel(["cfabsent"]) == {"cfabsent": True}


# -- health --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "ok"), [("active", [True]), ("degraded", [True]), ("unavailable", [False]), ("other", []), ("odd", [])]
)
def test_the_published_word_is_evidence_and_an_unknown_one_is_none(tmp_path: Path, word: str, ok: list[bool]) -> None:
    scene = Scene(tmp_path, {"fault": "status_word", "word": word, "text": "see the notes", "path": "/status$"})
    found = [item for item in scene.site.probe() if item.capability == "submit"]
    assert [item.ok for item in found] == ok
    assert all("see the notes" in item.detail for item in found)


def test_an_outage_is_told_with_its_end_and_a_planned_one_before_it_begins(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    facility, now = scene.rehearsal.facility, scene.rehearsal.clock()
    facility.announce(Outage(resource="global_homes", start=now - DAY, end=now + DAY // 4, planned=False))
    facility.announce(Outage(resource="perlmutter", start=now + DAY // 2, end=now + DAY, planned=True))
    facility.announce(Outage(resource="perlmutter", start=now + 9 * DAY, end=now + 10 * DAY, planned=True))
    evidence = scene.site.probe()
    [files] = [item for item in evidence if item.capability == "files" and item.until]
    assert (files.ok, files.until) == (False, now + DAY // 4)
    [submit] = [item for item in evidence if item.capability == "submit" and item.until]
    assert (submit.ok, submit.until) == (True, now + DAY // 2)
    assert "planned" in submit.detail


def test_the_check_tells_what_is_wrong_and_goes_on(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {"fault": "forbidden", "times": 0, "path": "/account/projects"}, account="m9999")
    found = scene.site.check()
    assert [item.step for item in found if item.ok is False] == ["allocation"]
    assert {item.step for item in found} == {"credentials", "expiry", "status", "allocation", "files", "submit"}
    assert scene.rehearsal.facility.accepted() == {}


def test_an_account_that_is_not_ours_is_told(tmp_path: Path) -> None:
    [finding] = [one for one in Scene(tmp_path, account="m9999").site.check() if one.step == "allocation"]
    assert (finding.ok, "m1234" in finding.detail) == (False, True)


def test_a_canary_is_a_job_of_seconds(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    [finding] = [one for one in scene.site.check(canary=True) if one.step == "canary"]
    assert finding.ok, finding
    assert list(scene.rehearsal.facility.accepted().values()) == [1]


# -- hostile replies -----------------------------------------------------------------------------------------

HOSTILE: list[Mapping[str, Any]] = [
    {"fault": "html"},
    {"fault": "huge", "bytes": 40 << 20},
    {"fault": "redirect"},
    {"fault": "truncated", "bytes": 5},
    *(
        {"fault": "garbage", "text": text}
        for text in (
            "null", "[]", "[[[]]]", "7", '"text"', "{}", '{"status": "OK"}', '{"status": 7, "output": {}}',
            '{"status": "OK", "output": [7]}', '{"status": "OK", "output": [{"jobid": {}, "state": [], "name": 7}]}',
            '{"task_id": {}, "status": "OK"}', '{"task_id": "../../x", "status": "OK"}', '{"clients": 7}', "[" * 5000,
            '[{"name": "perlmutter", "status": {}, "start_at": [], "expiresAt": 7}]', "\ufffe", "\x00",
            '{"id": [], "status": {}, "result": []}', '{"id": "1", "status": "completed", "result": "[1]"}',
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("rule", HOSTILE, ids=lambda rule: str(rule.get("text", rule["fault"]))[:40])
def test_a_hostile_reply_is_a_clear_error_in_every_verb(tmp_path: Path, rule: Mapping[str, Any]) -> None:
    scene = Scene(tmp_path)
    spoiled = Scene(tmp_path / "spoiled", {**rule, "times": 0, "from": 1, "path": "/api/"})
    spoiled.site._user = "user"
    spoiled.pass_by(2)
    site, job = spoiled.site, simulated_job(KEY)
    verbs = {
        "submit": lambda: site.submit([job]),
        "find": lambda: site.find([KEY]),
        "status": lambda: site.status([KEY]),
        "list_mine": lambda: site.list_mine(0),
        "cancel": lambda: site.cancel([KEY]),
        "read": lambda: site.read("some/file"),
        "write": lambda: site.write("some/file", b"x"),
        "list": lambda: site.list("some"),
    }
    for verb in verbs.values():
        told = ""
        try:
            verb()
        except SiteError as error:
            told = str(error)
        assert len(told) < 1000
        assert told.isprintable()
    assert all(item.detail for item in site.probe() if not item.ok)
    assert all(one.detail for one in site.check())
    assert spoiled.accepted == 0
    assert scene.site.status([KEY]).complete
