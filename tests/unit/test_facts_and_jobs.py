"""From rows to what the policies see, to the job that a site gets, and to the stages that a stage adds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from broker_kit import CHECKPOINT, Lab, Stage, rules, site
from effects_kit import placed
from store_kit import checkpoint_row, stage_row

from broker.engine.expand import MOST_AT_ONCE, AddedStage, ExpansionError, expand
from broker.facts import (
    SiteSetup,
    World,
    body_refusal,
    checkpoint_facts,
    fair_share,
    newest_seq,
    raised,
    rules_at,
    silent_at,
    site_facts,
    site_setup,
)
from broker.jobs import Job, NoLongerFits, job_spec
from broker.store.base import SiteRow
from connectors.model import LaneLimits
from connectors.registry import SiteConfig
from policies.fit import Fit, fit

SECOND = 1_000_000
SETUP = SiteSetup(
    config=SiteConfig(name="nersc", connector="x", slots=4, unreachable_probes=3, unreachable_seconds=30.0)
)

# -- sites ----------------------------------------------------

SHARES = [
    # slots, load, own, rivals -> how many more
    (4, 0, 0, 0, 4),
    (4, 4, 4, 0, 0),
    (4, 5, 5, 0, 0),  # never less than none
    (4, 0, 0, 1, 2),  # half of four
    (4, 2, 2, 1, 0),  # it has its half
    (5, 0, 0, 1, 3),  # rounded up, so that nothing stays empty
    (4, 3, 0, 1, 1),  # its part is two, one place is free
    (4, 0, 0, 9, 1),  # at least one each
    (0, 0, 0, 3, 0),
]


@pytest.mark.parametrize(("slots", "load", "own", "rivals", "more"), SHARES)
def test_a_run_starts_no_more_than_its_part_while_others_wait(
    slots: int, load: int, own: int, rivals: int, more: int
) -> None:
    assert fair_share(slots=slots, load=load, own=own, rivals=rivals) == more


def standing(**said: Any) -> SiteRow:
    return SiteRow("nersc", "up", "", "", None, None, None, None, 0, "", 0, 0)._replace(**said)


BUDGETS = [
    # failed looks, seconds of silence -> silent?; three looks and 30 s must both be spent
    (2, 1000.0, False),
    (3, 29.9, False),
    (3, 30.0, True),
    (99, 29.9, False),
]


@pytest.mark.parametrize(("probes", "seconds", "silent"), BUDGETS)
def test_a_site_is_silent_when_looks_and_seconds_are_both_spent(probes: int, seconds: float, silent: bool) -> None:
    since = 1000 * SECOND
    row = standing(cannot_ask_since=since, probes=probes)
    facts = site_facts(SETUP, row, load=0, share=4, now=since + round(seconds * SECOND))
    assert (facts.silent, facts.answers) == (silent, False)
    assert silent_at(SETUP, row) == since + 30 * SECOND


def test_a_site_that_nobody_has_looked_at_yet_is_taken_for_open() -> None:
    facts = site_facts(SETUP, None, load=1, share=3, now=0)
    assert (facts.answers, facts.silent, facts.drained, facts.facility) == (True, False, "", "nersc")
    assert silent_at(SETUP, standing()) is None


@pytest.mark.parametrize(("reason", "words"), [("maintenance", "maintenance"), ("", "no reason given")])
def test_a_drained_site_always_has_a_reason(reason: str, words: str) -> None:
    row = standing(mode="drained", mode_reason=reason)
    assert site_facts(SETUP, row, load=0, share=4, now=0).drained == words


# -- checkpoints ----------------------------------------------------


def test_only_verified_copies_may_be_used_and_none_of_a_checkpoint_that_is_doubted_anywhere() -> None:
    rows = [
        checkpoint_row(0, 1, state="verified"),
        checkpoint_row(0, 2, state="shipped"),
        checkpoint_row(0, 3, state="seen"),
        checkpoint_row(0, 4, state="checking"),
        checkpoint_row(0, 5, state="suspect"),
        checkpoint_row(0, 5, state="verified", site="alcf"),  # a copy of what is suspect
        checkpoint_row(0, 6, state="bad"),
    ]
    assert [fact.seq for fact in checkpoint_facts(rows)] == [1, 2]
    assert newest_seq(rows, 1) == 5
    assert newest_seq(rows, 2) is None


# -- rules ----------------------------------------------------


def test_rules_are_merged_for_the_site_and_its_profile() -> None:
    text = json.dumps(
        rules(at={"perlmutter": {"resources": {"cores": 64}}, "nersc": {"resources": {"walltime": 60.0}}})
    )
    there, elsewhere = rules_at(text, "nersc", "perlmutter"), rules_at(text, "alcf", "")
    assert (there.resources.cores, there.resources.walltime) == (64, 60.0)
    assert (elsewhere.resources.cores, elsewhere.resources.walltime) == (1, None)


def test_a_continuation_is_read_from_its_words() -> None:
    text = json.dumps(rules(**{"continue": {"on": ["time_limit", "exit 85", "exit 7"], "max": 9, "no_progress": 3}}))
    rule = rules_at(text, "", "").continuation
    assert rule is not None
    assert (rule.time_limit, rule.exit_codes, rule.max, rule.no_progress) == (True, {85, 7}, 9, 3)


# -- the job ----------------------------------------------------


def spec(stage: Stage, *, raises: int = 0, contact: str = "", restore: dict[str, Any] | None = None) -> Any:
    c = placed(Lab(site("nersc")), stage)
    job = Job(
        stage=c.job.stage._replace(memory_raises=raises),
        attempt=c.job.attempt._replace(restore=json.dumps(restore) if restore else ""),
        contact=contact,
    )
    return job_spec(c.world, job)


def content(job: Any, name: str) -> str:
    return next(file.content for file in job.files if file.path.endswith(name)).decode()


def test_a_job_carries_its_key_and_whom_to_call() -> None:
    job = spec(Stage("a"), contact="ann@example.org")
    assert job.key in job.comment
    assert job.comment.endswith("a@1 ann@example.org")
    assert job.requeue is True
    assert spec(Stage("a", rules={"duplicates": "never"})).requeue is False


@pytest.mark.parametrize(("raises", "memory"), [(0, 1 << 30), (1, 1 << 31), (2, 1 << 32)])
def test_each_raise_doubles_the_memory(raises: int, memory: int) -> None:
    assert spec(Stage("a", rules={"resources": {"memory": 1 << 30}}), raises=raises).resources.memory == memory


class Restarting(Stage):
    def body(self) -> dict[str, Any]:
        return {**super().body(), "run": "echo from-start", "restart": "echo go-on"}


def test_the_restart_command_runs_only_where_a_checkpoint_is_restored() -> None:
    asked = {"checkpoint": CHECKPOINT}
    assert "from-start" in content(spec(Restarting("a", rules=asked)), "payload.sh")
    origin = {"attempt": 1, "generation": 1, "seq": 4, "site": "alcf", "path": "x"}
    assert "go-on" in content(spec(Restarting("a", rules=asked), restore=origin), "payload.sh")


def job_at(config: SiteConfig, *, rules_said: dict[str, Any] | None = None, **body: Any) -> Any:
    """The job of a stage with these rules and this body, at a site of this entry."""

    c = placed(Lab(site("nersc")), Stage("a"))
    told = {"lane": rules_said.pop("lane")} if rules_said and "lane" in rules_said else {}
    stage = c.job.stage._replace(
        rules=json.dumps(rules(**rules_said or {}) | told), body=json.dumps(Stage("a").body() | body)
    )
    world = World(installation=c.world.installation, sites={"nersc": site_setup(config)})
    return job_spec(world, Job(stage=stage, attempt=c.job.attempt))


MACHINE = SiteConfig(
    name="nersc",
    connector="x",
    account="als",
    cores=64,
    gpus=4,
    nodes=100,
    threads_per_core=2,
    submit={"constraint": "cpu", "partition": "all"},
    submit_gpu={"constraint": "gpu"},
    lanes={"urgent": {"qos": "realtime"}, "normal": {"qos": "regular"}},
    lane_limits={"urgent": LaneLimits(max_walltime=3600.0)},
    capabilities=frozenset({"signal"}),
    job_id_variable="SLURM_JOB_ID",
    restarts_variable="SLURM_RESTART_COUNT",
)


def test_each_word_for_the_scheduler_is_the_nearest_ones_who_says_it() -> None:
    assert job_at(MACHINE).submit == {"constraint": "cpu", "partition": "all", "account": "als", "qos": "regular"}
    own = {"submit": {"account": "als_g", "qos": "debug", "exclusive": "true", "queue": "big"}}
    told = job_at(MACHINE, rules_said={"lane": ["urgent"], "resources": {"gpus": 1}}, **own).submit
    assert told == {"constraint": "gpu", "account": "als_g", "qos": "debug", "exclusive": "true", "queue": "big"}


def test_a_machines_words_may_hold_the_stages_figures() -> None:
    machine = replace(MACHINE, submit={"select": "{nodes}:ncpus={cpus_per_rank}"}, submit_gpu={})
    told = job_at(machine, rules_said={"resources": {"nodes": 3, "cores": 8}}).submit
    assert told["select"] == "3:ncpus=16"


def test_ranks_become_nodes_and_the_cpus_that_the_scheduler_counts() -> None:
    asked = {"resources": {"nodes": 0, "ranks": 10, "cores_per_rank": 8, "gpus_per_rank": 1}}
    found = job_at(MACHINE, rules_said=asked).resources
    assert (found.nodes, found.ranks, found.ranks_per_node, found.cores, found.gpus) == (3, 10, 4, 64, 4)


def test_the_memory_of_ranks_is_raised_for_each_and_more_nodes_follow() -> None:
    asked = rules(resources={"nodes": 0, "ranks": 4, "memory_per_rank": 1 << 30})
    once = raised(rules_at(json.dumps(asked), "nersc", ""), 1)
    there = site_facts(site_setup(replace(MACHINE, memory=4 << 30)), None, load=0, share=1, now=0)
    found = fit(once, there)
    assert isinstance(found, Fit)
    assert (found.resources.nodes, found.resources.memory) == (2, 4 << 30)


def test_a_walltime_of_max_is_the_longest_of_its_lane() -> None:
    job = job_at(MACHINE, rules_said={"lane": ["urgent"]})
    assert job.resources.walltime == 3600.0
    assert "cf_walltime='3600'" in content(job, "job.conf")


def test_the_scheduler_warns_where_it_can_and_a_checkpoint_is_asked_for() -> None:
    asked = {"checkpoint": {**CHECKPOINT, "ask": {"kind": "file", "value": "STOP", "before_end": 720}}}
    assert job_at(MACHINE, rules_said=asked).warn_before == 720
    assert job_at(replace(MACHINE, capabilities=frozenset()), rules_said=asked).warn_before == 0
    assert job_at(MACHINE, rules_said={"checkpoint": {**CHECKPOINT, "ask": None}}).warn_before == 0


def test_the_wrapper_is_told_where_the_scheduler_says_which_job_it_is() -> None:
    conf = content(job_at(MACHINE), "job.conf")
    assert "cf_native_var='SLURM_JOB_ID'\ncf_restart_var='SLURM_RESTART_COUNT'\n" in conf


def test_an_image_is_the_jobs_own_only_where_the_site_runs_jobs_in_it() -> None:
    native = replace(MACHINE, container="native")
    assert job_at(native, image="docker://a/b:1").image == "a/b:1"
    line = replace(MACHINE, container="run {image}", launcher="srun")
    job = job_at(line, image="a/b:1", run="${{ launch }} x")
    assert job.image == ""
    assert content(job, "payload.sh").endswith("\nsrun run a/b:1 x\n")


def test_a_site_that_has_no_way_to_run_a_container_is_refused_by_that_name() -> None:
    body = {"run": "x", "restart": None, "setup": "", "image": "a/b:1", "options": ["--gpu"]}
    found = body_refusal(body, MACHINE)
    assert found is not None
    assert (found.rule, found.fact) == ("image", "nersc runs no containers")
    native = body_refusal(body, replace(MACHINE, container="native"))
    assert native is not None
    assert "has no command line for software.options" in native.fact
    with pytest.raises(NoLongerFits, match="runs no containers"):
        job_at(MACHINE, image="a/b:1")


def test_a_site_that_could_take_the_stage_no_more_is_not_asked() -> None:
    with pytest.raises(NoLongerFits, match="asks for 65 cores, nersc has 64"):
        job_at(MACHINE, rules_said={"resources": {"cores": 65}})


# -- stages that a stage adds ----------------------------------------------------

PARENT = stage_row(0, path="plan", state="ACTIVE", attempt=1)


def added(name: str, *needs: str, takes: tuple[str, ...] = ()) -> AddedStage:
    return AddedStage(name=name, needs=needs, takes=takes, rules="{}", body="{}", digest=name)


def test_added_stages_lie_below_the_one_that_adds_them_and_need_it() -> None:
    changes = expand(PARENT, [added("one"), added("two", "one", takes=("one",))], known={}, first_n=7, now=5)
    assert [(s.n, s.path, s.unmet, s.state) for s in changes.new_stages] == [
        (7, "plan/one", 1, "WAITING"),
        (8, "plan/two", 2, "WAITING"),
    ]
    assert [(d.parent, d.child, d.inputs) for d in changes.new_deps] == [(0, 7, 0), (0, 8, 0), (7, 8, 1)]
    assert [(e.kind, e.stage) for e in changes.events] == [("expanded", "plan")]


def test_adding_the_same_again_changes_nothing() -> None:
    known = {"plan/one": stage_row(7, path="plan/one")}
    assert expand(PARENT, [added("one")], known=known, first_n=8, now=5).empty()


@pytest.mark.parametrize(
    ("parent", "stages", "words"),
    [
        (PARENT._replace(state="SUCCEEDED"), [added("a")], "is SUCCEEDED: it can add no stages any more"),
        (PARENT, [added("a"), added("a")], "two stages of one name"),
        (PARENT, [added("a", "a")], "a needs a, which is not added before it"),
        (PARENT, [added("a", "b"), added("b", "a")], "a needs b, which is not added before it"),
        (PARENT, [added("a", "elsewhere")], "a needs elsewhere, which is not added before it"),
        (PARENT, [added(str(n)) for n in range(MOST_AT_ONCE + 1)], "10000 are allowed"),
    ],
    ids=["over", "doubled", "itself", "cycle", "unknown", "too many"],
)
def test_stages_that_do_not_fit_are_refused(parent: Any, stages: list[AddedStage], words: str) -> None:
    with pytest.raises(ExpansionError, match=words):
        expand(parent, stages, known={}, first_n=1, now=0)
