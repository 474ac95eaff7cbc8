"""The simulated site under real time: many threads, and little cost."""

from __future__ import annotations

import threading
import time

from sandbox_kit import job, key_of

from broker.clock import wall_clock
from connectors.model import JobState
from connectors.registry import SiteConfig
from sandbox.connector import SimulatedSite, make


def real(slots: int = 500) -> SimulatedSite:
    return make(SiteConfig(name="real", connector="simulated", slots=slots), wall_clock)


def test_threads_may_share_a_site() -> None:
    site = real(slots=7)
    began: list[str] = []
    site.model.on_start(lambda spec, _: began.append(spec.key))
    failures: list[BaseException] = []

    def work(worker: int) -> None:
        try:
            for batch in range(10):
                numbers = range(worker * 1000 + batch * 20, worker * 1000 + batch * 20 + 20)
                site.submit([job(number) for number in numbers])
                keys = [key_of(number) for number in numbers]
                assert {item.state for item in site.status(keys).items} == {JobState.SUCCEEDED}
                assert len(site.list("spool")) >= 40
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(began) == len(set(began)) == 6 * 10 * 20


def test_a_job_that_ends_at_once_costs_next_to_nothing() -> None:
    site = real()
    specs = [job(number) for number in range(2000)]
    before = time.process_time()
    for start in range(0, len(specs), 250):
        batch = specs[start : start + 250]
        site.submit(batch)
        listing = site.status([spec.key for spec in batch])
        assert all(item.state.final for item in listing.items)
        names = [info.path for info in site.list("spool")]
        assert len(site.read_many(names)) == 500
        site.remove(names)
    each = (time.process_time() - before) / len(specs)
    # measured: 40 us on a busy two-core machine; the bound only catches a change of order
    assert each < 500e-6
