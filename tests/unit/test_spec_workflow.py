"""The workflow document: what is refused, where, and with which cure."""

from pathlib import Path

import pytest

from broker.spec import DocumentError, load_workflow, parse_document, workflow_schema
from broker.spec.unbuilt import UNBUILT

EXAMPLES = Path(__file__).parents[3] / "shared" / "design" / "examples"


def load(text: str, base: Path = Path(), name: str = "t.yaml"):
    return load_workflow(parse_document(text, name=name), base=base)


def problems(text: str, base: Path = Path()):
    with pytest.raises(DocumentError) as caught:
        load(text, base)
    return caught.value.problems


def stage(lines: str) -> str:
    """A document with one stage `a` that has these lines too."""
    body = "".join(f"    {line}\n" for line in lines.splitlines())
    return f"crossfade: 1\nname: t\nstages:\n  a:\n    run: x\n{body}"


def told(text: str) -> str:
    return "\n".join(problem.told("t.yaml") for problem in problems(text))


def test_the_least_document_is_three_keys():
    workflow = load("crossfade: 1\nname: t\nstages: {a: {run: date}}\n")
    assert list(workflow.stages) == ["a"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("name: t\nstages: {a: {run: x}}\n", "1:1 crossfade: is missing"),
        ("crossfade: 2\nname: t\nstages: {a: {run: x}}\n", "1:1 crossfade: 2 cannot stand here; write 1"),
        ("crossfade: 1\nname: t\nstages: {}\n", "3:1 stages: fewer than 1 (found 0)"),
        (
            stage("").replace("name: t", f"name: t\ncontact: {'x' * 201}"),
            "contact: more than 200 (found 201); shorten it",
        ),
        ("crossfade: 1\nname: t\nstages: [a]\n", "3:1 stages: expected a map of keys, found a list"),
        ("crossfade: 1\nname: t\nstages:\n  a:\n", "4:3 stages.a: expected a map of keys, found nothing"),
        ("crossfade: 1\nname: t\nstages: {a: {}}\n", "3:10 stages.a.run: is missing; write what the stage runs"),
        (stage("walltme: 3"), "6:5 stages.a.walltme: the key 'walltme' is not known here"),
        (
            stage("resources: {walltme: 3m}"),
            "6:17 stages.a.resources.walltme: the key 'walltme' is not known here; did",
        ),
        (stage("at:\n  nersc: {retry: {site_falt: 3}}"), "7:23 stages.a.at.nersc.retry.site_falt: the key 'site_falt'"),
        (stage("at: {nersc: {needs: [b]}}"), "stages.a.at.nersc.needs: 'needs' cannot differ from site to site"),
        (stage("resources: {walltime: 3 minutes}"), "'3 minutes' is not a duration; write 90s, 15m"),
        (stage("resources: {walltime: -3}"), "between 0 and ten years"),
        (stage("resources: {memory: 64G}"), "'64G' is not a size; write 64GB"),
        (stage("resources: {nodes: 0}"), "0 is out of range; write a number from 1"),
        (stage("resources: {nodes: '2'}"), "expected a whole number, found '2'"),
        (stage("resources: {nodes: 1.5}"), "expected a whole number, found 1.5"),
        (stage("resources: {nodes: true}"), "expected a whole number, found true"),
        (stage("env: {A: 8}"), "expected text, found 8; put it in quotes"),
        (stage("env: {A: true}"), "expected text, found true; put it in quotes"),
        (stage("env: {A-B: x}"), "'A-B' cannot be the name of an environment variable"),
        (stage("env: {CROSSFADE_X: x}"), "is not yours to set"),
        (stage('env: {A: "x\\ny"}'), "holds a line break"),
        (stage("duplicates: nver"), "'nver' is none of allow, never, ask; did you mean `never`?"),
        (stage("required: yes"), "expected true or false, found 'yes'"),
        (stage("needs: b"), "expected a list, found 'b'"),
        (stage("needs: [b]"), "6:13 stages.a.needs[0]: there is no stage 'b'"),
        (stage("needs: [a]"), "these stages wait for each other: a -> a"),
        (stage("inputs: [{name: x, from: [a, b]}]"), "'a' names no place; write PLACE:path"),
        (stage("inputs: [{name: x, from: b}]"), "there is no stage 'b'"),
        (stage("retry: {exit_codes: {0: retry}}"), "'0' is no exit code of a failure"),
        (stage("retry: {exit_codes: {256: retry}}"), "'256' is no exit code"),
        (stage("retry: {exit_codes: {17: explode}}"), "'explode' is none of fail, retry"),
        (stage("continue: {on: []}"), "stages.a.continue.on: "),
        (stage("continue: {on: [exit 0]}"), "'exit 0' is no end of a segment"),
        (stage("checkpoint: {match: 'slab_\\d+'}"), "needs a group"),
        (stage("checkpoint: {match: '(?P<n>\\d+)'}"), "stages.a.checkpoint.match"),
        (stage("checkpoint: {match: '('}"), "not a regular expression"),
        (stage("checkpoint: {complete: '(\\d+).ok'}"), "a marker needs checkpoints to mark"),
        (stage("checkpoint: {ask: {}}"), "one of file, signal and command asks"),
        (stage("checkpoint: {ask: {file: a, signal: USR1}}"), "one of file, signal and command asks"),
        (stage("checkpoint: {ask: {signal: KILL}}"), "'KILL' is no signal that can be asked with"),
        (stage("policy: {failover: {act: later}}"), "'later' is none of auto, ask, never"),
        (stage("policy: {sites: {allow: ['a b']}}"), "cannot be the name of a site"),
        (stage("run2: x"), "did you mean `run`?"),
        ("crossfade: 1\nname: a b\nstages: {a: {run: x}}\n", "'a b' cannot be a name"),
        ("crossfade: 1\nname: t\nstages: {'a/b': {run: x}}\n", "'a/b' cannot be a name"),
        ("crossfade: 1\nname: t\nstages: {'a[1]': {run: x}}\n", "cannot be a name"),
        ("crossfade: 1\nname: t\nstages: {'a#1': {run: x}}\n", "cannot be a name"),
        ("crossfade: 1\nname: t\nstages: {-a: {run: x}}\n", "beginning with a letter or digit"),
        (f"crossfade: 1\nname: t\nstages: {{{'a' * 101}: {{run: x}}}}\n", "up to 100 letters"),
        (stage("run: ''").replace("    run: x\n", ""), "the command is empty"),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_a_cure(text, line):
    assert line in told(text)


@pytest.mark.parametrize(
    "path", ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", "a\nb", ".crossfade/x", ".", "./", ""]
)
@pytest.mark.parametrize("key", ["files: [{0}]", "outputs: [{{path: {0}}}]", "inputs: [{{name: {0}, from: ./x}}]"])
def test_a_path_never_leaves_its_folder(key, path):
    quoted = '"' + path.replace("\\", "\\\\").replace("\0", "\\0").replace("\n", "\\n") + '"'
    with pytest.raises(DocumentError):
        load(stage(key.format(quoted)))


def test_a_cycle_is_named():
    text = "crossfade: 1\nname: t\nstages:\n" + "".join(
        f"  {name}: {{run: x, needs: [{need}]}}\n" for name, need in (("a", "c"), ("b", "a"), ("c", "b"), ("d", "a"))
    )
    (problem,) = problems(text)
    assert (
        "a -> c -> b -> a" in problem.message
        or "c -> b -> a -> c" in problem.message
        or "b -> a -> c" in problem.message
    )
    assert problem.line in {4, 5, 6}


def test_a_cycle_through_inputs_is_found_too():
    text = (
        "crossfade: 1\nname: t\nstages:\n"
        "  a: {run: x, outputs: [{path: o}], inputs: [{name: p, from: b}]}\n"
        "  b: {run: x, outputs: [{path: p}], inputs: [{name: o, from: a}]}\n"
    )
    assert "wait for each other" in told(text)


def test_the_nearest_name_is_proposed_for_a_stage_that_is_not_there():
    text = "crossfade: 1\nname: t\nstages:\n  recon: {run: x}\n  view: {run: x, needs: [recom]}\n"
    assert "there is no stage 'recom'; did you mean `recon`?" in told(text)


def test_outputs_may_not_overlap():
    assert "stands here twice" in told(stage("outputs: [{path: x}, {path: x/}]"))
    assert "'rec/a/b' lies within 'rec'" in told(stage("outputs: [{path: rec/}, {path: rec/a/b}]"))


def test_an_input_must_be_an_output_of_its_producer():
    producer = "crossfade: 1\nname: t\nstages:\n  p: {run: x, outputs: [{path: rec/}]}\n"
    assert "'raw.h5' is no output of p" in told(producer + "  c: {run: x, inputs: [{name: raw.h5, from: p}]}\n")
    for name in ("rec/", "rec", "rec/a.h5", "rec/deep/er"):
        load(producer + f"  c: {{run: x, inputs: [{{name: {name}, from: p}}]}}\n")


def test_all_faults_are_told_at_once_in_the_order_of_the_document():
    text = stage("env: {A: 1}\nresources: {nodes: 0, cores: x}\nlane: 3")
    places = [problem.line for problem in problems(text)]
    assert len(places) == 4
    assert places == sorted(places)


def test_a_slip_in_ten_thousand_stages_is_one_screen():
    text = "crossfade: 1\nname: t\nstages:\n" + "".join(f"  s{i}: {{run: x, nods: 1}}\n" for i in range(10_000))
    with pytest.raises(DocumentError) as caught:
        load(text)
    lines = str(caught.value).splitlines()
    assert len(lines) == 51
    assert lines[-1] == "t.yaml: and 9950 more"


def test_terminal_escapes_of_a_document_are_not_printed():
    text = told('crossfade: 1\nname: "\\e[31mred"\nstages: {a: {run: x, "\\e[2J": 1}}\n')
    assert "\x1b" not in text


# -- expressions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("restart: echo ${{ params.y }}", "the param 'y' is not declared"),
        ("restart: echo ${{ paramsx }}", "${{ paramsx }} is not known; use params.NAME"),
        ("restart: echo ${{ params.x", "not closed"),
        ('restart: echo "${{ params.x }}"', "stands inside double quotes"),
        ('restart: echo "${{ site.vars.x }}"', "stands inside double quotes"),
        ("env: {A: '${{ site.vars.x }}'}", "can stand only in commands"),
        ("env: {A: '${{ launch }}'}", "can stand only in commands"),
    ],
)
def test_an_expression_that_cannot_be_filled_is_refused_before_any_params_are_known(lines, words):
    assert words in told(stage(lines).replace("name: t\n", "name: t\nparams: {x: {}}\n"))


def test_an_expression_in_a_shell_comment_and_a_number_in_quotes_are_fine():
    text = 'restart: |\n  # ${{ params.x }}\n  echo "${{ params.n }}"\n'
    load(stage(text).replace("name: t\n", "name: t\nparams: {x: {}, n: {type: int}}\n"))


# -- what is not built yet ---------------------------------------------------------------------------------

REFUSED = {
    "tomo-832": {"triggers"},
    "mpi-two-site": {
        "stages.solve.inputs[1].as",
        "stages.solve.checkpoint.portable",
        "stages.solve.at.cloud.checkpoint.portable",
        "stages.look.gate",
        "stages.look.redo",
    },
    "between-shots": {
        "triggers",
        "policy.deadline.probability",
        "policy.failover.hedge",
        "stages.profiles.start",
    },
    "stream-832": {
        "stages.session.kind",
        "stages.session.ready",
    },
}
"""Of the documents that their users would write, the keys that are still refused. Issue by issue this shrinks."""


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the users' documents are not beside this repository")
@pytest.mark.parametrize("name", REFUSED)
def test_the_users_documents_are_refused_for_exactly_what_is_not_built(name):
    with pytest.raises(DocumentError) as caught:
        load_workflow(EXAMPLES / f"{name}.yaml", base=EXAMPLES)
    assert {problem.kind for problem in caught.value.problems} == {"unbuilt"}
    assert {problem.where for problem in caught.value.problems} == REFUSED[name]
    assert all(problem.line for problem in caught.value.problems)


def test_a_key_that_is_not_built_is_refused_by_name_and_line():
    assert told(stage("start: early")).startswith("t.yaml:6:5 stages.a.start: this key is not built yet; leave it out")


def test_what_can_only_mean_what_is_built_is_taken():
    load(stage("policy: {failover: {hedge: never, failback: next_stage}}\ncheckpoint: {portable: {}}"))


def test_every_key_of_the_table_is_a_key_of_the_language():
    schema = workflow_schema()

    def known(node: dict, steps: list[str]) -> bool:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        if not steps:
            return True
        inner = [node["properties"][steps[0]]] if steps[0] in node.get("properties", {}) else []
        if steps[0] == "*":
            inner += [part for part in (node.get("additionalProperties"), node.get("items")) if isinstance(part, dict)]
            inner += list(node.get("patternProperties", {}).values())
        inner_steps = [known(part, steps[1:]) for part in inner]
        return any(inner_steps) or any(known(part, steps) for part in node.get("anyOf", []))

    unknown = [pattern for pattern in UNBUILT if not known(schema, pattern.split("."))]
    assert unknown == []


# -- schema ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the users' documents are not beside this repository")
@pytest.mark.parametrize("name", REFUSED)
def test_the_users_documents_fit_the_published_schema(name):
    from jsonschema import Draft202012Validator

    from broker.spec import read_document

    schema = workflow_schema()
    Draft202012Validator.check_schema(schema)
    raw = read_document(EXAMPLES / f"{name}.yaml")
    assert [error.message for error in Draft202012Validator(schema).iter_errors(dict(raw.data))] == []


def test_the_published_schema_refuses_what_the_model_refuses():
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(workflow_schema())
    for bad in (
        {"crossfade": 1, "name": "t", "stages": {"a": {"run": "x", "walltme": 1}}},
        {"crossfade": 1, "name": "t", "stages": {"a": {"run": "x", "resources": {"walltime": "3 minutes"}}}},
        {"crossfade": 1, "name": "t", "stages": {"a": {"run": "x", "duplicates": "some"}}},
        {"crossfade": 2, "name": "t", "stages": {"a": {"run": "x"}}},
    ):
        assert not validator.is_valid(bad)
