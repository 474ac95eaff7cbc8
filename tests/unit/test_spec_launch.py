"""`${{ launch }}`: a launcher for a stage's figures and a container line, no value outside its word."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any

import pytest

from broker.jobs import launch_line
from broker.spec import (
    DocumentError,
    compile_workflow,
    container_line,
    launcher_line,
    load_workflow,
    parse_document,
    render_command,
)
from connectors.model import Resources
from connectors.registry import SiteConfig

SITE = SiteConfig(
    name="s",
    connector="x",
    launcher="srun -N {nodes} -n {ranks} -c {cpus_per_rank}",
    launcher_gpu="--gpus-per-task={gpus_per_rank}",
    container="podman-hpc run --rm {options} {image}",
    vars={"env": "/a b;$(id)"},
)
RANKED = Resources(nodes=16, cores=32, gpus=4, ranks=64, ranks_per_node=4)


def line(body: dict[str, Any] | None = None, resources: Resources = RANKED, **said: Any) -> str:
    return launch_line(body or {}, resources, replace(SITE, **said))


def compiled(text: str, **params: str) -> Any:
    workflow = load_workflow(parse_document("crossfade: 1\nname: t\n" + text, name="t.yaml"), base=None)
    return compile_workflow(workflow, params=params, base=None)


def refusal(text: str, **params: str) -> str:
    with pytest.raises(DocumentError) as caught:
        compiled(text, **params)
    return str(caught.value)


def test_figures_of_ranks_enter_the_launcher() -> None:
    assert line() == "srun -N 16 -n 64 -c 8 --gpus-per-task=1"
    assert line(threads_per_core=2) == "srun -N 16 -n 64 -c 16 --gpus-per-task=1"


def test_without_ranks_one_process_on_each_node_has_all_that_is_asked_for_there() -> None:
    assert line(resources=Resources(nodes=2, cores=64)) == "srun -N 2 -n 2 -c 64"
    assert line(resources=Resources(cores=8, gpus=2)) == "srun -N 1 -n 1 -c 8 --gpus-per-task=2"
    assert line(resources=Resources()) == "srun -N 1 -n 1 -c 1"


def test_a_site_without_a_launcher_leaves_the_command_alone() -> None:
    assert line(launcher="", launcher_gpu="") == ""
    assert line({"image": "a/b:1"}, launcher="", launcher_gpu="") == "podman-hpc run --rm a/b:1"


def test_braces_of_the_shell_are_left_to_it() -> None:
    figures = {"ranks": 4}
    assert (
        launcher_line("mpiexec -n {ranks} ${ranks} {a,b} {} $x{1..3}", figures)
        == "mpiexec -n 4 ${ranks} {a,b} {} $x{1..3}"
    )


IMAGES = [
    ("a/b:1", "run a/b:1", "run docker://a/b:1"),
    ("docker://a/b@sha256:00", "run a/b@sha256:00", "run docker://a/b@sha256:00"),
    ("/opt/x.sif", "run /opt/x.sif", "run /opt/x.sif"),
    ("oras://a/b", "run oras://a/b", "run oras://a/b"),
]


@pytest.mark.parametrize(("image", "plain", "url"), IMAGES)
def test_an_image_is_told_as_the_container_program_wants_it(image: str, plain: str, url: str) -> None:
    assert container_line("run {options} {image}", image=image, options=()) == plain
    assert container_line("run {options} {image_url}", image=image, options=()) == url


def test_options_are_words_and_nothing_in_them_leaves_its_word() -> None:
    options = ["--volume=${{ site.vars.env }}:/e", "--label=a'; rm -rf /;'", "$(id)"]
    told = line({"image": "a/b:1", "options": options}, launcher="", launcher_gpu="")
    assert shlex.split(told) == [
        "podman-hpc", "run", "--rm", "--volume=/a b;$(id):/e", "--label=a'; rm -rf /;'", "$(id)", "a/b:1",
    ]  # fmt: skip


def test_the_documents_own_launcher_takes_the_place_of_the_sites() -> None:
    body = {"launch": "mpiexec -n {ranks} --ppn {ranks_per_node} ./bind.sh ${{ site.vars.env }}"}
    assert line(body) == "mpiexec -n 64 --ppn 4 ./bind.sh '/a b;$(id)'"


def test_a_site_that_runs_whole_jobs_in_an_image_has_no_container_line() -> None:
    assert line({"image": "a/b:1"}, container="native", launcher="", launcher_gpu="") == ""


LAUNCHED = "params: {x: {}}\nstages:\n  a:\n    run: ${{ launch }} go\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("    launch: 'srun -n {rank}'\n", "{rank} stands for nothing here; did you mean `ranks`?"),
        ("    launch: 'x ${{ launch }}'\n", "a launcher cannot stand for itself"),
        ('    launch: "a\\nb"\n', "line break"),
        ("    software: {image: '--privileged'}\n", "cannot be the name of an image"),
        ("    software: {image: 'a b'}\n", "cannot be the name of an image"),
        ("    software: {image: '${{ params.x }}'}\n", "cannot be the name of an image"),
        ("    software: {image: 'a', options: ['${{ launch }}']}\n", "can stand only in commands"),
    ],
)
def test_what_could_turn_into_another_command_is_refused(lines: str, words: str) -> None:
    assert words in refusal(LAUNCHED + lines, x="--privileged")


def test_a_param_in_a_launcher_is_one_word_whatever_it_holds() -> None:
    (stage,) = compiled(LAUNCHED + "    launch: srun ${{ params.x }}\n", x="; rm -rf /").stages
    assert """srun '; rm -rf /'""" in stage.body


def test_a_param_that_looks_like_an_expression_stays_text_when_the_command_is_completed() -> None:
    evil = "${{ launch }} ${{ site.vars.env }}"
    (stage,) = compiled("params: {x: {}}\nstages:\n  a:\n    run: echo ${{ params.x }}\n", x=evil).stages
    body = json.loads(stage.body)
    rendered = render_command(body["run"], site_name="s", site_vars=SITE.vars, launcher="it's; id")
    assert shlex.split(rendered) == ["echo", evil]


# -- asking by ranks, in documents ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ("{ranks: 4, cores: 8}", "`cores` is per node, and does not go with `ranks`; write `cores_per_rank`"),
        ("{gpus: 1, memory_per_rank: 1GB}", "`gpus` is per node, and does not go with `memory_per_rank`"),
        ("{cores_per_rank: 8}", "stages.a.resources.cores_per_rank: how many ranks is not said; add `ranks`"),
        ("{ranks: 0}", "0 is out of range"),
    ],
)
def test_ranks_and_figures_per_node_do_not_mix(resources: str, words: str) -> None:
    assert words in refusal(f"stages:\n  a:\n    run: x\n    resources: {resources}\n")


@pytest.mark.parametrize("lane", ["fast", "[urgent, fast]"])
def test_a_lane_that_no_site_could_have_is_refused(lane: str) -> None:
    assert "'fast' is none of urgent, normal, preemptible" in refusal(
        f"policy: {{lane: {lane}}}\nstages: {{a: {{run: x}}}}\n"
    )


def test_what_has_no_effect_without_launch_in_the_command_is_warned_of() -> None:
    text = "stages:\n  a:\n    run: x\n    resources: {ranks: 4}\n    software: {image: a/b}\n    launch: y\n"
    told = compiled(text).warnings
    assert [warning for warning in told if "${{ launch }}" in warning] == told != []
    assert len(told) == 3
    assert compiled(text.replace("run: x", "run: ${{ launch }} x")).warnings == []


def test_a_document_that_says_nothing_of_these_keys_is_stored_as_ever() -> None:
    (stage,) = compiled("stages: {a: {run: x}}\n").stages
    assert "lane" not in stage.rules
    assert "ranks" not in stage.rules
    assert "image" not in stage.body
    assert "launch" not in stage.body
