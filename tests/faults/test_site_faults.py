"""Sites that fall silent, forget, lie, or go down one after the other: simulated ones, under a virtual clock; and
a real job behind a real network that swallows everything.

The rows are judged by the audit, and by what really ran: the sites' own journals, which no broker reads.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, site
from facility_kit import Facility
from kill_kit import workshop
from proxy_kit import Proxy

from broker.audit import audit_run
from broker.clock import micros
from broker.drill.truth import Broken, judge
from connectors.model import JobState
from sandbox.faults import AccountingPurged, NodeFailure, Partition

HOUR = 3600.0
CARRIED = {"sites": {"prefer": ["old"]}}
"""Begins at `old`; after five minutes of silence it is carried elsewhere, where there is an elsewhere."""
TWICE = {"sites": {"prefer": ["old", "new"]}}


def dark(lab: Lab, name: str, start: float, end: float) -> None:
    """No answer between these seconds from now; queue, jobs and disks go on behind it."""
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now + micros(start), end=now + micros(end)))


def states(lab: Lab, run: str, stage: str = "a") -> list[tuple[str, str]]:
    return [(row.site, row.state) for row in lab.attempts(run, stage)]


def put_away(lab: Lab) -> list[str]:
    """What is wrong when everything has had its time to come to its end."""
    lab.run_for(400)
    return judge(lab.store, lab.sites, Broken())


# -- F31: the API is away, the job runs on --------------------------------------------------------------------


@pytest.mark.fault("F31")
def test_a_job_whose_sites_api_is_away_is_shown_as_unreachable_and_taken_up_when_it_answers() -> None:
    lab = Lab(site("old"), site("new"))
    run = lab.submit(Stage("a", "seconds=400 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 200)
    lab.run_for(100)
    (attempt,) = lab.attempts(run, "a")
    assert (attempt.state, attempt.unreachable_since is not None) == ("RUNNING", True)
    assert lab.finish(run) == "SUCCEEDED"
    assert states(lab, run) == [("old", "SUCCEEDED")]
    assert put_away(lab) == []


@pytest.mark.fault("F31")
def test_a_job_that_ends_behind_a_silent_api_is_neither_lost_nor_run_again() -> None:
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 10 * HOUR)
    lab.run_for(9 * HOUR, step=60)
    assert lab.state(run) == "RUNNING"
    assert lab.finish(run, step=60) == "SUCCEEDED"
    assert sum(e.began for e in lab.executions()) == 1
    assert put_away(lab) == []


@pytest.mark.fault("F31")
def test_a_copy_that_still_runs_when_its_site_answers_again_is_ended_there() -> None:
    lab = Lab(site("old"), site("new"))
    run = lab.submit(Stage("a", "seconds=3000 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 600)
    lab.run_for(900)
    assert states(lab, run) == [("old", "CANCELED"), ("new", "RUNNING")]
    assert lab.finish(run, step=20) == "SUCCEEDED"
    assert put_away(lab) == []


# -- F32: both sites run it -----------------------------------------------------------------------------------


def both_run(lab: Lab, *, old: float, until: float, new_dark_from: float | None = None) -> str:
    """A stage of `old` seconds whose site is silent from 100 s to `until`; its second copy begins at about 400 s."""
    run = lab.submit(Stage("a", f"seconds={old:g} outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.settle()
    dark(lab, "old", 100, until)
    if new_dark_from is not None:
        dark(lab, "new", new_dark_from, until)
    assert lab.finish(run) == "SUCCEEDED"
    copies = [e for e in lab.executions() if e.began]
    assert len(copies) == 2
    assert copies[1].started_at < (copies[0].ended_at or lab.clock())
    return run


@pytest.mark.fault("F32")
def test_when_the_old_copy_ends_first_its_result_is_taken_and_the_new_copy_ended() -> None:
    lab = Lab(site("old"), site("new"))
    run = both_run(lab, old=1000, until=1050)
    (product,) = lab.store.products(run)
    assert (product.site, product.adopted) == ("old", 1)
    assert put_away(lab) == []
    assert states(lab, run) == [("old", "SUCCEEDED"), ("new", "SUPERSEDED")]


@pytest.mark.fault("F32")
def test_when_the_old_copy_ends_last_it_changes_nothing_and_is_put_away() -> None:
    lab = Lab(site("old"), site("new"))
    run = both_run(lab, old=1000, until=5000)
    (product,) = lab.store.products(run)
    assert (product.site, product.adopted) == ("new", 0)
    lab.run_for(5000)
    assert put_away(lab) == []
    assert states(lab, run) == [("old", "SUPERSEDED"), ("new", "SUCCEEDED")]


@pytest.mark.fault("F32")
def test_when_both_copies_have_ended_at_the_same_look_one_of_them_counts() -> None:
    lab = Lab(site("old"), site("new"))
    run = both_run(lab, old=1000, until=2000, new_dark_from=900)
    assert len(lab.store.products(run)) == 1
    assert put_away(lab) == []
    assert not any(row.open for row in lab.attempts(run, "a"))
    assert sum(count for s in lab.sites.values() for count in s.model.journal.completions().values()) == 2


# -- F33: it comes back and knows nothing of the job ------------------------------------------------------------


def forget(lab: Lab, after: float) -> None:
    now = lab.clock()
    lab.sites["old"].model.inject(AccountingPurged(start=now + micros(after)))


@pytest.mark.fault("F33")
def test_of_a_job_that_its_site_has_forgotten_the_exit_record_and_the_files_say_that_it_succeeded() -> None:
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 1000)
    forget(lab, 900)
    assert lab.finish(run) == "SUCCEEDED"
    (attempt,) = lab.attempts(run, "a")
    assert not lab.sites["old"].find([attempt.submit_key]).items
    assert sum(e.began for e in lab.executions()) == 1
    assert put_away(lab) == []


@pytest.mark.fault("F33")
def test_of_a_job_that_its_site_has_forgotten_the_exit_record_says_that_it_failed() -> None:
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 exit=3", rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 1000)
    forget(lab, 900)
    assert lab.finish(run) == "FAILED"
    assert [(row.failure, row.number) for row in lab.attempts(run, "a")] == [("application", 1)]
    assert put_away(lab) == []


@pytest.mark.fault("F33")
def test_a_forgotten_job_that_left_no_record_either_is_lost_and_begun_again() -> None:
    """Absence from a complete listing, and no sign of life: neither success nor the payload's failure is inferred."""
    lab = Lab(site("old"))
    run = lab.submit(Stage("a", "seconds=200 outputs=o:9", outputs=["o"], rules=CARRIED))
    lab.run_for(100)
    dark(lab, "old", 0, 1000)
    forget(lab, 900)
    lab.sites["old"].model.inject(NodeFailure(start=lab.clock() + micros(10)))
    assert lab.finish(run) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    assert (first.state, first.reason) == ("FAILED", "the site does not know the job")
    assert (first.failure, first.exit, second.state) == ("site", "", "SUCCEEDED")
    assert put_away(lab) == []


# -- F34: it says "done" and it is not so ------------------------------------------------------------------------


@pytest.mark.fault("F34")
@pytest.mark.parametrize(
    ("lie", "seen"),
    [
        ("outputs missing", "o should have 900 bytes, it has gone"),
        ("outputs truncated", "o should have 900 bytes, it has 450"),
        ("no exit record", "there is no exit record"),
    ],
)
def test_what_a_site_calls_done_counts_only_when_its_outputs_are_there_and_whole(lie: str, seen: str) -> None:
    lab = Lab(site("old"), site("new"))
    run = lab.submit(Stage("a", "seconds=50 outputs=o:900", outputs=["o"], rules=CARRIED))
    lab.sites["old"].model._dice.lies = (lie,)
    lab.sites["old"].model.ordain("liar")
    assert lab.finish(run) == "SUCCEEDED"
    first, second = lab.attempts(run, "a")
    assert json.loads(first.job)["state"] == JobState.SUCCEEDED.value
    assert (first.state, first.failure) == ("FAILED", "site")
    assert seen in first.reason
    (product,) = lab.store.products(run)
    assert (product.site, second.state) == ("new", "SUCCEEDED")
    assert put_away(lab) == []


# -- F41: where it went goes down, too ---------------------------------------------------------------------------


@pytest.mark.fault("F41")
def test_when_the_site_that_took_over_falls_silent_too_the_stage_goes_on_at_a_third_from_its_newest_checkpoint() -> (
    None
):
    lab = Lab(site("old"), site("new"), site("third"))
    run = lab.submit(
        Stage(
            "a",
            "seconds=3000 checkpoint_every=100 outputs=o:9",
            outputs=["o"],
            rules={**TWICE, "checkpoint": CHECKPOINT},
        )
    )
    lab.run_for(650)
    dark(lab, "old", 0, 2 * HOUR)
    lab.run_for(750)
    dark(lab, "new", 0, 2 * HOUR)
    assert lab.finish(run) == "SUCCEEDED"
    attempts = lab.attempts(run, "a")
    assert [row.site for row in attempts] == ["old", "new", "third"]
    restored = [json.loads(row.restore)["seq"] for row in attempts[1:]]
    assert 0 < restored[0] < restored[1]
    lab.run_for(2 * HOUR, step=60)
    assert put_away(lab) == []


@pytest.mark.fault("F41")
def test_a_site_that_falls_silent_while_files_are_on_their_way_there_is_left_as_well() -> None:
    lab = Lab(site("old"), site("new"), site("third"))
    lab.mover._latency = 30.0
    run = lab.submit(
        Stage("make", "seconds=10 outputs=x:9", outputs=["x"], rules={"sites": {"allow": ["third"]}}),
        Stage("a", "seconds=900 outputs=o:9", outputs=["o"], inputs=[("x", "make")], rules=TWICE),
    )
    lab.run_for(100)
    dark(lab, "old", 0, 2 * HOUR)
    while len(lab.attempts(run, "a")) < 2:
        lab.step(5)
    assert states(lab, run)[-1] == ("new", "STAGING_IN")
    dark(lab, "new", 0, 2 * HOUR)
    assert lab.finish(run, step=10) == "SUCCEEDED"
    assert [row.site for row in lab.attempts(run, "a")] == ["old", "new", "third"]
    lab.run_for(2 * HOUR, step=60)
    assert put_away(lab) == []


@pytest.mark.fault("F41")
def test_while_all_sites_are_silent_everything_waits_where_it_is_and_nothing_wanders() -> None:
    """They fall silent one after the other, each for longer than the patience that failover has."""
    lab = Lab(site("old"), site("new"))
    run = lab.submit(
        *[Stage(name, "seconds=500 outputs=o:9", outputs=["o"], rules=CARRIED) for name in "abcd"],
        Stage("after", needs=["a", "b", "c", "d"]),
    )
    lab.run_for(100)
    dark(lab, "old", 0, 5 * HOUR)
    dark(lab, "new", 10, 5 * HOUR)
    lab.run_for(4 * HOUR, step=300)
    assert lab.state(run) == "RUNNING"
    assert {name: len(lab.attempts(run, name)) for name in "abcd"} == dict.fromkeys("abcd", 1)
    assert lab.finish(run, step=60) == "SUCCEEDED"
    assert sum(e.began for e in lab.executions()) == 5
    assert put_away(lab) == []


@pytest.mark.fault("F41")
def test_two_sites_that_fall_silent_in_turn_do_not_play_ping_pong_with_a_stage() -> None:
    """Each time the stage is carried over, the other one falls silent. It moves as often as its document allows."""
    lab = Lab(site("old"), site("new"))
    rules = {**CARRIED, "failover": {"after": 60.0, "max": 3}}
    run = lab.submit(Stage("a", "seconds=20000 outputs=o:9", outputs=["o"], rules=rules))
    lab.run_for(50)
    for _ in range(6):
        here = lab.attempts(run, "a")[-1].site
        dark(lab, here, 0, 400)
        lab.run_for(500, step=20)
    assert lab.stage(run, "a").failovers == 3
    assert lab.finish(run, step=20) == "SUCCEEDED"
    assert put_away(lab) == []


# -- for real ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("F31")
@pytest.mark.parametrize("ends", ["behind the silence", "after the return"])
def test_a_process_behind_a_network_that_swallows_everything_goes_on_and_its_result_is_taken(
    tmp_path: Path, ends: str
) -> None:
    """Packets vanish between the broker and the facility while a real job runs there; nothing is started again."""
    silent = {"unreachable": {"probes": 2, "seconds": 1}}
    with workshop(tmp_path, **silent) as shop, Facility("here", tmp_path / "here") as facility:
        with Proxy("127.0.0.1", facility.port) as proxy:
            wait = f"until [ -e '{tmp_path}/go' ]; do sleep 0.05; done"
            run = shop.submit({"a": {"run": f"{wait}; echo made >x; : >'{tmp_path}/made'", "outputs": [{"path": "x"}]}})
            serving = shop.process(ports={"here": proxy.port})
            shop.wait(lambda: shop.states(run) == [("here", "RUNNING")], "the job runs")
            proxy.black_hole()
            shop.wait(lambda: shop.store.attempts(run)[0].unreachable_since, "it is seen not to answer")
            if ends == "behind the silence":
                (tmp_path / "go").touch()
                shop.wait((tmp_path / "made").exists, "the job makes its file")
            assert shop.states(run) == [("here", "RUNNING")]
            proxy.heal()
            (tmp_path / "go").touch()
            assert serving.wait(60) == 0, shop.told()
        shop.assert_whole(run)
        assert set(facility.accepted.values()) == {1}


@pytest.mark.fault("F31")
def test_a_process_left_behind_a_dead_network_is_ended_when_the_network_is_back_and_one_result_counts(
    tmp_path: Path,
) -> None:
    more = {"sites": ("old", "new"), "unreachable": {"probes": 2, "seconds": 1}}
    policy = {"failover": {"after": "2s"}, "sites": {"prefer": ["old"]}}
    with workshop(tmp_path, **more) as shop, Facility("old", tmp_path / "old") as facility:
        with Proxy("127.0.0.1", facility.port) as proxy:
            wait = f"until [ -e '{tmp_path}/go' ]; do sleep 0.05; done"
            run = shop.submit({"a": {"run": f"{wait}; echo made >x", "outputs": [{"path": "x"}]}}, policy=policy)
            serving = shop.process(ports={"old": proxy.port})
            shop.wait(lambda: shop.states(run) == [("old", "RUNNING")], "the job runs")
            proxy.black_hole()
            shop.wait(lambda: shop.states(run)[-1] == ("new", "RUNNING"), "it was carried elsewhere")
            # a job runs a moment before its payload does
            shop.wait(lambda: shop.starts() == {"a": 2}, "both copies are at work")
            proxy.heal()
            shop.wait(lambda: shop.states(run)[0] == ("old", "CANCELED"), "the old copy is ended")
            (tmp_path / "go").touch()
            assert serving.wait(60) == 0, shop.told()
        (product,) = shop.store.products(run)
        assert (product.site, product.adopted) == ("new", 0)
        assert [str(found) for found in audit_run(shop.store, run)] == []
