"""A document's contact stands in the comment of every real job, whoever submits it and whenever."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from broker_kit import Lab, Stage, new_run, site
from simulation.seams import Call

from broker.effects.contacts import MOST, Contacts
from connectors.errors import SiteUnreachable
from connectors.model import JobSpec

ADA = "ada@example.org"


class Asked:
    """Keeps the comment of each job that a site is asked for; cuts the first submissions, if it is told to."""

    def __init__(self, lab: Lab, cut: int = 0) -> None:
        self.comments: list[str] = []
        self._cut = cut
        real = lab.sites["nersc"].submit

        def submit(specs: Sequence[JobSpec]) -> Mapping[str, Any]:
            self.comments += [spec.comment for spec in specs]
            if self._cut:
                self._cut -= 1
                raise SiteUnreachable("no answer", site="nersc")
            return real(specs)

        lab.sites["nersc"].submit = submit  # type: ignore[method-assign]


class Reads:
    """Counts how often documents are read from the store."""

    def __init__(self) -> None:
        self.documents = 0

    def before(self, call: Call) -> None:
        self.documents += call.of == "store" and call.verb == "document"

    def after(self, call: Call) -> None:
        pass


def submitted(lab: Lab, *stages: Stage, contact: str = ADA) -> str:
    document = {"crossfade": 1, "name": "test", "contact": contact, "stages": {}}
    new = new_run("run-1", stages, now=lab.clock())
    lab.store.create_run(replace(new, document=json.dumps(document, separators=(",", ":"))))
    return "run-1"


def test_the_comment_of_a_real_job_ends_with_the_contact() -> None:
    lab = Lab(site("nersc"))
    asked = Asked(lab)
    assert lab.finish(submitted(lab, Stage("a", "seconds=5")), step=1) == "SUCCEEDED"
    (comment,) = asked.comments
    assert comment.endswith(f" run-1/a@1 {ADA}")


def test_another_broker_that_submits_after_a_restart_says_the_same_contact() -> None:
    lab = Lab(site("nersc"))
    asked = Asked(lab, cut=1)
    run = submitted(lab, Stage("a", "seconds=5"))
    lab.settle()
    assert len(asked.comments) == 1
    lab.broker = lab.new_broker()  # knows nothing but the store
    assert lab.finish(run, step=1) == "SUCCEEDED"
    first, second = asked.comments
    assert first == second
    assert second.endswith(ADA)
    assert len(lab.executions()) == 1


def test_a_later_stage_that_another_broker_places_says_the_contact_too() -> None:
    lab = Lab(site("nersc"))
    asked = Asked(lab)
    run = submitted(lab, Stage("a", "seconds=5"), Stage("b", "seconds=5", needs=["a"]))
    lab.settle()
    lab.broker = lab.new_broker()
    assert lab.finish(run, step=1) == "SUCCEEDED"
    assert [comment.split()[-2:] for comment in asked.comments] == [["run-1/a@1", ADA], ["run-1/b@1", ADA]]


def test_without_a_contact_the_comment_ends_with_the_attempt() -> None:
    lab = Lab(site("nersc"))
    asked = Asked(lab)
    lab.finish(submitted(lab, Stage("a", "seconds=5"), contact=""), step=1)
    (comment,) = asked.comments
    assert comment.endswith("run-1/a@1")


def test_a_document_is_read_once_for_all_jobs_of_its_run() -> None:
    lab, reads = Lab(site("nersc", slots=2)), Reads()
    asked = Asked(lab)
    lab.broker = lab.new_broker(hook=reads)
    run = submitted(lab, *[Stage(f"s{n}", "seconds=5") for n in range(12)])
    assert lab.finish(run, step=1) == "SUCCEEDED"
    assert (len(asked.comments), reads.documents) == (12, 1)


def test_no_more_contacts_are_kept_than_that_many() -> None:
    class Documents:
        asked = 0

        def document(self, run_id: str) -> str:
            self.asked += 1
            return json.dumps({"contact": run_id})

    store = Documents()
    contacts = Contacts(store)  # type: ignore[arg-type]
    assert [contacts.of(f"r{n}") for n in range(MOST + 1)][-1] == f"r{MOST}"
    assert contacts.of(f"r{MOST}") == f"r{MOST}"
    assert store.asked == MOST + 1
    assert contacts.of("r0") == "r0"
    assert store.asked == MOST + 2
