"""Places in documents: inputs from them, copies between them, deliveries to them, and what is removed again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from broker.sites import sites_of
from broker.spec import CompiledRun, DocumentError, compile_workflow, load_workflow, parse_document
from connectors.registry import PlaceConfig

HEAD = "crossfade: 1\nname: t\n"
PLACES = {name: PlaceConfig(name=name, path=f"/srv/{name}", prune=True) for name in ("cfs", "data832", "spot832")}


def compiled(text: str, places: dict[str, PlaceConfig] | None = PLACES, **params: str) -> CompiledRun:
    workflow = load_workflow(parse_document(HEAD + text, name="t.yaml"), base=None)
    return compile_workflow(workflow, params=params, base=None, places=places)


def refusal(text: str, places: dict[str, PlaceConfig] | None = PLACES, **params: str) -> str:
    with pytest.raises(DocumentError) as caught:
        compiled(text, places, **params)
    return str(caught.value)


def bodies(run: CompiledRun) -> dict[str, dict]:
    return {stage.path: json.loads(stage.body) for stage in run.stages}


def stage(lines: str) -> str:
    return f"stages:\n  a:\n    run: x\n    {lines}\n"


def copy(lines: str) -> str:
    return f"stages:\n  a:\n    copy: [{lines}]\n"


# -- inputs from places ------------------------------------------------------------------------------------


def test_an_input_from_a_place_is_stored_with_all_that_hold_it_in_the_documents_order() -> None:
    text = stage('inputs: [{name: raw.h5, from: ["cfs:raw/x.h5", "data832:old/x.h5"], as: in.h5, wait: 4m}]')
    (given,) = bodies(compiled(text))["a"]["inputs"]
    assert given == {
        "name": "in.h5",
        "places": [["cfs:", "raw/x.h5"], ["data832:", "old/x.h5"]],
        "match": None,
        "wait": 240,
    }


def test_params_are_filled_into_a_place_before_it_is_read() -> None:
    text = "params: {scan: {}}\n" + stage('inputs: [{name: raw.h5, from: "cfs:raw/${{ params.scan }}.h5"}]')
    (given,) = bodies(compiled(text, scan="00564"))["a"]["inputs"]
    assert given["places"] == [["cfs:", "raw/00564.h5"]]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("inputs: [{name: x, from: 'cfs:'}]", "stages.a.inputs[0].from: 'cfs:' is the whole place; name a file"),
        ("inputs: [{name: x, from: 'cfs:/raw/x'}]", "does not begin with /; write cfs:raw/x: it is meant from"),
        ("inputs: [{name: x, from: 'cfs:../x'}]", "path '../x' holds `..`; write where the file is without going up"),
        ("inputs: [{name: x, from: 'c s:x'}]", "'c s' cannot be the name of a place; use up to 100 letters"),
        ("inputs: [{name: x, from: 'https://h/x'}]", "is an address, not a path in a place; name the place under"),
        ("inputs: [{name: x/, from: 'cfs:raw/x'}]", "one is a folder, the other a file; end both with /, or neither"),
        ("inputs: [{name: x, from: ['cfs:x', a]}]", "stages.a.inputs[0].from[1]: 'a' names no place; write PLACE:path"),
        ("inputs: [{name: x, from: 'cfs:x', match: '*'}]", "only a folder's files can be chosen; end `name` with /"),
        ("inputs: [{name: x, from: /x, wait: 3m}]", "inputs[0].wait: only an input from a place can come later"),
        ("near: b", "stages.a.near: 'b' is no other stage"),
        ("near: a", "stages.a.near: 'a' is no other stage"),
    ],
)
def test_a_wrong_input_is_told_with_its_place_and_a_cure(lines: str, words: str) -> None:
    found = refusal(stage(lines))
    assert words in found
    assert found.startswith("t.yaml:6:")


@pytest.mark.parametrize("value", ["../../etc/passwd", "a\\b", "x\ty"])
def test_a_param_cannot_lead_out_of_a_place(value: str) -> None:
    text = "params: {scan: {}}\n" + stage('inputs: [{name: x, from: "cfs:raw/${{ params.scan }}"}]')
    assert "stages.a.inputs[0].from" in refusal(text, scan=value)


def test_a_place_that_there_is_none_of_is_told_with_the_nearest() -> None:
    text = stage("inputs: [{name: x, from: 'data823:x'}]")
    assert "stages.a.inputs[0].from: there is no place 'data823'; did you mean `data832`?" in refusal(text)
    assert "name it under `places` of the site document" in refusal(text, {})


def test_where_the_site_document_is_not_known_only_the_form_is_checked() -> None:
    assert compiled(stage("inputs: [{name: x, from: 'nowhere:x'}]"), None).stages


def test_what_a_stage_copied_is_taken_from_the_place_that_it_lies_in() -> None:
    text = "stages:\n  c: {copy: [{from: 'cfs:x', to: 'data832:x'}]}\n  a: {run: x, inputs: [{name: x, from: c}]}\n"
    assert "c only copies: it leaves no files of its own; name the place that it brings them to" in refusal(text)


# -- copies ------------------------------------------------------------------------------------------------


def test_a_stage_that_copies_has_a_body_of_nothing_else() -> None:
    run = compiled(copy("{from: ['spot832:raw/x.h5', 'cfs:x.h5'], to: 'data832:raw/x.h5'}"))
    assert bodies(run)["a"] == {
        "copy": [{"from": [["spot832:", "raw/x.h5"], ["cfs:", "x.h5"]], "to": ["data832:", "raw/x.h5"]}]
    }
    assert json.loads(run.stages[0].rules)["retry"] == {"site_fault": 3, "app_fault": 0, "exit_codes": {}}


def test_what_is_kept_says_what_must_hold_the_same_before_anything_is_removed() -> None:
    run = compiled(copy("{from: 'spot832:x', to: 'data832:y', keep: {spot832: 7d, if_verified_at: data832}}"))
    assert bodies(run)["a"]["keep"] == [
        {
            "side": "spot832:",
            "path": "x",
            "after": 604800,
            "entry": 0,
            "all": [["data832:", "y"]],
            "any": [["data832:", "y"]],
        }
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("{from: 'cfs:x', to: 'data832:x/'}", "one is a folder, the other a file"),
        ("{from: 'cfs:x', to: 'cfs:x'}", "'cfs:x' is copied onto itself; name another `to`"),
        ("{from: a, to: 'cfs:x'}", "stages.a.copy[0].from: 'a' names no place; write PLACE:path"),
        ("{from: 'cfs:x', to: y}", "stages.a.copy[0].to: 'y' names no place"),
        ("{from: 'cfs:x', to: 'spot832:y'}, {from: 'cfs:z', to: 'spot832:y'}", "'spot832:y' stands here twice"),
        ("{from: 'cfs:x/', to: 'spot832:y/'}, {from: 'cfs:z', to: 'spot832:y/z'}", "lies within 'spot832:y'"),
        ("{from: 'cfs:x', to: 'spot832:y', keep: {data832: 1d}}", "keep.data832: 'data832' has no part in this"),
        ("{from: 'cfs:x', to: 'spot832:y', keep: {cfs: 1 week}}", "'1 week' is not a duration"),
        ("{from: 'cfs:x', to: 'spot832:y', keep: {attempt: 1d}}", "no attempt holds what is copied"),
        ("{from: 'cfs:x', to: 'spot832:y', keep: {cfs: 1d, if_verified_at: [cfs]}}", "removed only while it is there"),
        ("{from: 'cfs:x', to: 'spot832:y', keep: {if_verified_at: [cfs]}}", "nothing is to be removed"),
    ],
)
def test_a_wrong_copy_is_told_with_a_cure(lines: str, words: str) -> None:
    assert words in refusal(copy(lines))


@pytest.mark.parametrize(
    "key", ["run: x", "env: {A: b}", "outputs: [{path: x}]", "at: {nersc: {env: {A: b}}}", "near: b"]
)
def test_a_stage_that_copies_has_nothing_that_runs(key: str) -> None:
    text = copy("{from: 'cfs:x', to: 'data832:x'}") + f"    {key}\n  b: {{run: x}}\n"
    assert f"stages.a.{key.partition(':')[0]}: a stage that copies runs nothing; leave" in refusal(text)


def test_nothing_can_be_brought_to_a_place_that_is_read_over_http() -> None:
    places = {**PLACES, "web": PlaceConfig(name="web", url="https://example.org", path="")}
    assert "stages.a.copy[0].to: 'web' is read over HTTP" in refusal(copy("{from: 'cfs:x', to: 'web:x'}"), places)


def test_a_keep_where_nothing_may_be_removed_is_warned_of() -> None:
    places = {**PLACES, "cfs": PlaceConfig(name="cfs", path="/srv/cfs")}
    run = compiled(copy("{from: 'cfs:x', to: 'data832:x', keep: {cfs: 1d}}"), places)
    assert (
        "stage a: `keep` is to remove from cfs, which the site document does not mark `prune: true`" in run.warnings[0]
    )


# -- deliveries --------------------------------------------------------------------------------------------

DELIVERED = """stages:
  recon:
    run: x
    outputs:
    - {path: rec/, to: ['cfs:r/', 'data832:r/'], DELIVER keep: {data832: 14d, attempt: 1d, if_verified_at: [cfs]}}
  next:
    run: y
    inputs: [{name: rec/, from: recon}]
  after: {run: z, needs: [recon]}
"""


def test_outputs_that_go_somewhere_make_a_stage_that_brings_them() -> None:
    run = compiled(DELIVERED.replace("DELIVER", ""))
    assert [stage.path for stage in run.stages] == ["recon", "recon/deliver", "next", "after"]
    assert [stage.needs for stage in run.stages] == [[], [0], [0], [0]]
    assert [sorted(stage.input_needs) for stage in run.stages] == [[], [0], [0], []]
    body = bodies(run)["recon/deliver"]
    assert body["copy"] == [
        {"from": {"stage": "recon", "path": "rec/"}, "to": ["cfs:", "r/"]},
        {"from": {"stage": "recon", "path": "rec/"}, "to": ["data832:", "r/"]},
    ]
    assert [(wish["side"], wish["path"], wish["after"], wish["any"]) for wish in body["keep"]] == [
        ("data832:", "r/", 14 * 86400, [["cfs:", "r/"], ["", "rec/"]]),
        ("", "rec/", 86400, [["cfs:", "r/"], ["data832:", "r/"]]),
    ]


def test_before_done_makes_every_stage_that_needs_it_wait_for_the_delivery() -> None:
    run = compiled(DELIVERED.replace("DELIVER", "deliver: before_done,"))
    assert [stage.needs for stage in run.stages] == [[], [0], [0, 1], [0, 1]]
    assert [sorted(stage.input_needs) for stage in run.stages][2] == [0]


def test_a_delivery_is_tried_as_often_and_is_as_required_as_its_stage() -> None:
    text = "stages: {a: {run: x, required: false, retry: {site_fault: 7}, outputs: [{path: o, to: 'cfs:o'}]}}\n"
    rules = json.loads(compiled(text).stages[1].rules)
    assert (rules["required"], rules["retry"]["site_fault"], rules["sites"]["allow"]) == (False, 7, [])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("outputs: [{path: x/, to: 'cfs:x'}]", "stages.a.outputs[0].to: 'x/' and 'cfs:x': one is a folder"),
        ("outputs: [{path: x, to: y}]", "'y' names no place"),
        ("outputs: [{path: x, deliver: later}]", "`deliver` without `to`: it is brought nowhere"),
        (
            "outputs: [{path: x, keep: {attempt: 1d}}]",
            "`keep` without `to`: it is brought nowhere, and is nowhere else",
        ),
        ("outputs: [{path: x, to: 'cfs:x', deliver: soon}]", "'soon' is none of before_done, later"),
        ("outputs: [{path: x, to: 'cfs:x'}, {path: y, to: 'cfs:x'}]", "'cfs:x' stands here twice"),
        ("outputs: [{path: x, to: 'cfs:x', keep: {data832: 1d}}]", "'data832' has no part in this; it takes from"),
    ],
)
def test_a_wrong_delivery_is_told_with_a_cure(lines: str, words: str) -> None:
    assert words in refusal(stage(lines))


def test_a_document_with_places_reads_as_one_again_when_it_is_written_out() -> None:
    text = (
        DELIVERED.replace("DELIVER", "deliver: before_done,")
        + "  c: {copy: [{from: 'cfs:x', to: 'data832:x', keep: {cfs: 1d}}]}\n"
    )
    run = compiled(text)
    again = compile_workflow(
        load_workflow(parse_document(json.dumps(run.document), name="t.json"), base=None),
        params={},
        base=None,
        places=PLACES,
    )
    assert again.digest == run.digest


# -- where data may be -------------------------------------------------------------------------------------


def test_the_data_policy_is_stored_only_where_there_is_one_and_a_stage_says_it_anew() -> None:
    text = (
        "params: {secret: {type: bool}}\n"
        "policy: {data: {export_control: '${{ params.secret }}', stay: [nersc, cfs]}}\n"
        "stages: {a: {run: x}, b: {run: x, policy: {data: {stay: []}}}, c: {run: x, policy: {data: {stay: [alcf]}}}}\n"
    )
    plain = [json.loads(stage.rules).get("data") for stage in compiled(text, secret="false").stages]
    assert plain == [
        {"export_control": False, "stay": ["nersc", "cfs"]},
        None,
        {"export_control": False, "stay": ["alcf"]},
    ]
    assert json.loads(compiled(text, secret="true").stages[1].rules)["data"] == {"export_control": True, "stay": []}
    assert "data" not in json.loads(compiled("stages: {a: {run: x}}\n").stages[0].rules)


# -- the site document -------------------------------------------------------------------------------------


def test_a_site_says_how_long_folders_stay_and_what_data_may_be_there() -> None:
    text = (
        "crossfade: 1\nplaces: {d: {path: ./d, clearance: [export_control]}}\n"
        "sites: {x: {profile: local, root: /r, keep: {attempts: 3d}, clearance: [export_control]}}\n"
    )
    found = sites_of(parse_document(text, name="s"), base=Path("/doc"), where="")
    config = found.configs["x"]
    assert (config.keep_attempts, config.keep_failed, config.clearance) == (3 * 86400, None, {"export_control"})
    assert (found.places["d"].path, found.places["d"].clearance) == ("/doc/d", {"export_control"})


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("clearance: [secret]", "'secret' is none of export_control"),
        ("keep: {attempt: 3d}", "the key 'attempt' is not known here; did you mean `attempts`?"),
    ],
)
def test_a_wrong_word_about_data_is_told_with_a_cure(lines: str, words: str) -> None:
    text = f"crossfade: 1\nsites: {{x: {{profile: local, root: /r, {lines}}}}}\n"
    with pytest.raises(DocumentError) as caught:
        sites_of(parse_document(text, name="s"), base=Path(), where="")
    assert words in str(caught.value)


def test_a_place_may_not_have_the_name_of_a_key_of_keep() -> None:
    text = "crossfade: 1\nplaces: {attempt: {path: /x}}\nsites: {x: {profile: local, root: /r}}\n"
    with pytest.raises(DocumentError, match="a place may not be called attempt"):
        sites_of(parse_document(text, name="s"), base=Path(), where="")
