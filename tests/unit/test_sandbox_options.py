"""A simulated site from its entry in the site document."""

from __future__ import annotations

import pytest
from sandbox_kit import START, at, job, key_of

from broker.clock import VirtualClock
from connectors.errors import SiteUnreachable
from connectors.model import JobState
from connectors.registry import SiteConfig
from sandbox.connector import make
from sandbox.world import world_of


def config(**options: object) -> SiteConfig:
    return SiteConfig(name="sim", connector="simulated", slots=2, cores=4, nodes=3, options=options)


def test_options_shape_the_site() -> None:
    clock = VirtualClock()
    site = make(config(requeue_delay=121, count_cores=True, claim="none", first_id=500), clock)
    shape = site.model.shape
    assert (shape.requeue_delay, shape.capacity, site.claim) == (121, 12, "none")
    assert site.submit([job(1)])[key_of(1)].native_id == "500"
    assert world_of(clock).site("sim") is site


def test_faults_count_from_the_sites_beginning() -> None:
    clock = VirtualClock()
    site = make(config(faults=[{"kind": "partition", "start": 10, "end": 20}], odds={"forgotten": 1}), clock)
    site.submit([job(1)])
    assert list(site.status([key_of(1)]).items) == []
    clock.advance_to(at(10))
    with pytest.raises(SiteUnreachable):
        site.status([key_of(1)])
    assert at(0) == START


def test_two_sites_of_one_seed_tell_different_stories_and_each_the_same_one_twice() -> None:
    def story(name: str) -> list[bool]:
        site = make(SiteConfig(name=name, connector="simulated", options={"odds": {"forgotten": 0.5}}), VirtualClock())
        site.submit([job(number) for number in range(40)])
        return [bool(site.status([key_of(number)]).items) for number in range(40)]

    assert story("east") == story("east")
    assert story("east") != story("west")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 3}, "no option 'speed'; there are: adopts"),
        ({"claim": "hope"}, "claim must be one of atomic_fs"),
        ({"requeue_delay": -1}, "requeue_delay must be a number"),
        ({"adopts": "yes"}, "adopts must be true or false"),
        ({"faults": {"kind": "partition"}}, "faults must be a list"),
        ({"faults": [{"kind": "gremlin", "start": 1}]}, "site sim: no fault of kind"),
        ({"odds": {"liar": 3}}, "site sim: odds of liar"),
        ({"remember": 0}, "remember must be a whole number"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_what_would(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(config(**options), VirtualClock())


def test_a_site_with_a_bounded_memory_forgets_the_oldest_ended_jobs_but_not_their_outputs() -> None:
    site = make(config(remember=50), VirtualClock())
    for number in range(200):
        site.submit([job(number, "outputs=a:9", outputs=["a"])])
    assert len(site.list_mine(0).items) == 50
    assert len(site.list("spool")) == 100
    assert site.read("runs/0/a")
    assert site.list("runs/0/.crossfade") == []
    assert site.status([key_of(199)]).items[0].state is JobState.SUCCEEDED
    assert site.model.journal.completed_total == 200
