"""Several workers over one store: each site is looked at by one of them, and what is slow is left to who acts there."""

from __future__ import annotations

from broker_kit import Lab, Stage, site

from broker.core import Broker, Parts


def among_others(lab: Lab, owner: str, serves: list[str] | None = None) -> Broker:
    """A worker of a service over the lab's sites, or some of them."""
    return Broker(
        Parts(
            store=lab.store,
            configs=lab.configs,
            sites=lab.sites,
            mover=lab.mover,
            clock=lab.clock,
            owner=owner,
            elapsed=lambda: 0.0,
            among_others=True,
            serves=serves,
        )
    )


def drained(broker: Broker, run: str) -> frozenset[str]:
    """Go on with a run until it is quiet; where others are to act."""
    acts: set[str] = set()
    while (result := broker.go_on(run)) is not None:
        acts |= result.acts
        if not result.busy:
            break
    return frozenset(acts)


def test_of_two_workers_who_ask_one_looks() -> None:
    lab = Lab(site("nersc"))
    one, other = among_others(lab, "one"), among_others(lab, "other")
    assert list(one.sites_to_look_at()) == ["nersc"]
    assert list(other.sites_to_look_at()) == []


def test_a_look_that_nobody_makes_is_made_by_another_after_a_while() -> None:
    lab = Lab(site("nersc"))
    one, other = among_others(lab, "one"), among_others(lab, "other")
    assert list(one.sites_to_look_at()) == ["nersc"]
    lab.clock.advance(60)
    assert list(other.sites_to_look_at()) == ["nersc"]


def test_after_a_look_the_next_one_is_due_a_poll_later_for_whoever_comes() -> None:
    lab = Lab(site("nersc", poll=5.0))
    lab.submit(Stage("a", sim="seconds=1000"), run_id="r")
    one, other = among_others(lab, "one"), among_others(lab, "other")
    drained(one, "r")
    for name in one.sites_to_look_at():
        one.look(name)
    lab.clock.advance(6.5)  # nothing changes there: the pace slows down by a quarter at a time
    assert list(other.sites_to_look_at()) == ["nersc"]


def test_what_was_done_at_a_site_hastens_the_look_of_whoever_comes() -> None:
    lab = Lab(site("nersc", poll=30.0))
    one, other = among_others(lab, "one"), among_others(lab, "other")
    for name in one.sites_to_look_at():
        one.look(name)
    lab.clock.advance(1)
    lab.submit(Stage("a", sim="seconds=1"), run_id="r")
    drained(other, "r")
    lab.clock.advance(30.5)
    assert list(one.sites_to_look_at()) == ["nersc"]


def slow(lab: Lab, name: str) -> None:
    """That site's calls take their time: they are made beside the drains."""
    lab.sites[name].inline = False


def test_what_a_slow_site_is_wanted_for_is_left_to_who_acts_there_for_all_runs_together() -> None:
    lab = Lab(site("nersc", slots=10), site("alcf", slots=10))
    slow(lab, "nersc")
    worker = among_others(lab, "one")
    runs = [lab.submit(Stage("a", rules={"sites": {"allow": ["nersc"]}}), run_id=f"r{n}") for n in range(3)]
    assert [drained(worker, run) for run in runs] == [{"nersc"}] * 3
    assert not lab.sites["nersc"].model.journal.accepted
    assert list(worker.sites_to_act_at()) == ["nersc"]
    concerned = set(worker.act(site="nersc"))
    assert concerned == set(runs)
    assert len(lab.sites["nersc"].model.journal.accepted) == 3
    assert list(worker.sites_to_act_at()) == []


def test_what_a_quick_site_is_wanted_for_is_done_at_once() -> None:
    lab = Lab(site("nersc"))
    worker = among_others(lab, "one")
    run = lab.submit(Stage("a"), run_id="r")
    assert drained(worker, run) == frozenset()
    assert len(lab.sites["nersc"].model.journal.accepted) == 1


def test_runs_over_slow_sites_come_to_their_end() -> None:
    lab = Lab(site("nersc"), site("alcf"))
    for name in lab.sites:
        slow(lab, name)
    lab.broker = among_others(lab, "one")
    lab.submit(Stage("a", sim="seconds=20"), Stage("b", sim="seconds=5", needs=["a"]), run_id="r")
    for _ in range(200):
        lab.step(1.0)
        for name in lab.broker.sites_to_act_at():
            lab.broker.act(site=name)
        if lab.state("r") == "SUCCEEDED":
            break
    assert lab.state("r") == "SUCCEEDED"
    assert len(lab.executions()) == 2


def test_workers_of_one_name_in_two_containers_do_not_take_each_other_for_dead() -> None:
    from broker.core import worker_is_dead, worker_name

    pid, rest = worker_name().split("@", 1)
    host, boot, start = rest.rsplit(":", 2)
    name, _, namespace = boot.partition(".")
    elsewhere = f"{pid}@{host}:{name}.{int(namespace) + 1}:{int(start) + 5}"
    assert not worker_is_dead(elsewhere)
    assert worker_is_dead(elsewhere.replace(f".{int(namespace) + 1}", f".{namespace}"))


def test_who_does_not_serve_a_site_decides_for_it_and_calls_nobody_there() -> None:
    lab = Lab(site("nersc", poll=0), site("alcf", poll=0))
    elsewhere, there = among_others(lab, "elsewhere", ["alcf"]), among_others(lab, "there", ["nersc"])
    run = lab.submit(Stage("a", rules={"sites": {"allow": ["nersc"]}}), run_id="r")
    lab.sites["nersc"].status = None  # type: ignore[assignment]  # a look from elsewhere would fail
    assert drained(elsewhere, run) == {"nersc"}
    assert not lab.sites["nersc"].model.journal.accepted
    assert (elsewhere.serves("nersc"), there.serves("nersc")) == (False, True)
    del lab.sites["nersc"].status
    assert set(there.act(site="nersc")) == {run}
    assert len(lab.sites["nersc"].model.journal.accepted) == 1
