"""WfFormat 1.3, 1.4, 1.5 and 1.6 tell the same graph in different words, and come in as the same document."""

import copy
import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wfformat_kit import DIAMOND, ENDS, FLAT, SIZES, VERSIONS, Node, diamond, written

from broker.formats import ImportFault, import_wfformat
from broker.formats.wfedges import MOST_EDGES

SHARED = Path(__file__).parents[3] / "shared" / "data"
GENOME = {
    "1.3": SHARED / "wfformat-old" / "1000genome-2ch-100k-schema-1.3.json",
    "1.4": SHARED / "wfformat-old" / "1000genome-2ch-100k-schema-1.4.json",
    "1.5": SHARED / "wfformat" / "1000genome-chameleon-2ch-100k-001.json",
}
T = "/workflow/tasks"


def imported(data, bodies="noop", **options):
    return import_wfformat(data, name="test", bodies=bodies, **options)


def stages(data, bodies="noop", **options):
    return imported(data, bodies, **options).document["stages"]


def needs(data):
    return {name: stage.get("needs", []) for name, stage in stages(data).items()}


def fault(data):
    with pytest.raises(ImportFault) as caught:
        imported(data)
    return caught.value


def flat(*tasks, version="1.4", **workflow):
    return {"name": "x", "schemaVersion": version, "workflow": {"tasks": list(tasks), **workflow}}


def file(link, name, size=10, **more):
    return {"link": link, "name": name, "sizeInBytes": size, **more}


# -- the same graph, whatever the version ------------------------------------------------------------------


@pytest.mark.parametrize("bodies", ["noop", "sleep", "bytes"])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_comes_in_as_the_same_document(version, bodies):
    ours = imported(diamond(version), bodies, keep_resources=True)
    assert ours.document == imported(diamond("1.5"), bodies, keep_resources=True).document
    assert needs(diamond(version))["merge_ID04"] == ["work_ID02", "work_ID03"]
    assert stages(diamond(version), "sleep")["split_ID01"]["run"] == "sleep 0.5"
    assert ours.document["stages"]["split_ID01"]["resources"] == {"cores": 2, "memory": "3000000B"}
    assert ours.document["stages"]["work_ID02"]["resources"] == {"cores": 2}


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("version", FLAT)
def test_an_old_document_may_tell_of_an_edge_at_either_end(version, ends):
    assert imported(diamond(version, ends=ends)).document == imported(diamond("1.5")).document


@st.composite
def graphs(draw):
    """Nodes in any order, files and figures as each version can carry them."""
    count = draw(st.integers(1, 7))
    ids = draw(st.lists(st.text("ab1-_.#", min_size=1, max_size=3), min_size=count, max_size=count, unique=True))
    edges = {(a, b) for b in range(count) for a in range(b) if draw(st.booleans())}
    order = draw(st.permutations(range(count)))
    sizes = {f"/{own}/out": draw(st.sampled_from([0, 3, 10**12])) for own in ids} | {"outside": 5}
    figure = st.none() | st.sampled_from([1, 1.5, 64])
    nodes = [
        Node(
            id=ids[b],
            parents=[ids[a] for a in order if (a, b) in edges],
            reads=[f"/{ids[a]}/out" for a in order if (a, b) in edges] + ["outside"] * draw(st.booleans()),
            writes=[f"/{ids[b]}/out"],
            runtime=draw(st.none() | st.sampled_from([0, 0.25, 3600])),
            cores=draw(figure),
            load=draw(st.none() | st.sampled_from([0, 99.9, 755.0])),
            memory=draw(st.none() | st.sampled_from([0, 1000, 2**40 * 1000])),
        )
        for b in order
    ]
    return nodes, sizes


@given(graphs(), st.sampled_from(["noop", "sleep", "bytes"]), st.sampled_from(ENDS), st.booleans())
def test_any_graph_written_in_any_version_comes_in_as_the_same_document(graph, bodies, ends, kept):
    documents = [
        imported(written(version, *graph, ends=ends), bodies, keep_resources=kept, max_bytes=2**63).document
        for version in VERSIONS
    ]
    assert all(document == documents[0] for document in documents)
    assert {name: stage.get("needs", []) for name, stage in documents[0]["stages"].items()} == {
        imported(written("1.5", *graph)).stages[node.id]: [
            imported(written("1.5", *graph)).stages[parent] for parent in node.parents
        ]
        for node in graph[0]
    }


@pytest.mark.parametrize("version", FLAT)
def test_an_old_document_need_not_know_the_schemas_other_fields(version):
    bare = {"name": "x", "schemaVersion": version, "workflow": {"tasks": [{"name": "a"}]}}
    result = imported(bare, "sleep")
    assert result.document["stages"]["a"]["run"] == "sleep 0"
    assert [note for note in result.notes if note.startswith("1 task without a recorded execution")]


# -- what only old documents do ----------------------------------------------------------------------------


def test_an_id_stands_behind_the_name_unless_it_is_there_already():
    data = flat(
        {"name": "blast_ID01", "id": "ID01"},
        {"name": "same", "id": "same"},
        {"name": "alone"},
        {"name": "SORT1", "id": "1"},
        {"name": "SORT1", "id": "2"},
    )
    assert list(stages(data)) == ["blast_ID01", "same", "alone", "SORT1_1", "SORT1_2"]


def test_edges_may_refer_to_names_and_to_ids():
    data = flat(
        {"name": "a", "id": "1"},
        {"name": "b", "id": "2", "parents": ["a"]},
        {"name": "c", "id": "3", "parents": ["2", "a_1"]},
    )
    assert needs(data) == {"a_1": [], "b_2": ["a_1"], "c_3": ["b_2", "a_1"]}


def test_a_name_of_several_tasks_means_those_that_share_a_file():
    data = flat(
        {"name": "CAT", "id": "1", "files": [file("output", "one", path="/1/")]},
        {"name": "CAT", "id": "2", "files": [file("output", "one", path="/2/")]},
        {"name": "QC", "id": "3", "parents": ["CAT"], "files": [file("input", "one", path="/2/")]},
    )
    result = imported(data)
    assert needs(data)["QC_3"] == ["CAT_2"]
    assert [note for note in result.notes if note.startswith("1 references name several tasks")]
    for told in data["workflow"]["tasks"]:
        told.pop("parents", None)
        told["children"] = ["QC"] if told["name"] == "CAT" else []
    data["workflow"]["tasks"].append({"name": "QC", "id": "4", "files": [file("input", "one", path="/1/")]})
    assert needs(data) == {"CAT_1": [], "CAT_2": [], "QC_3": ["CAT_2"], "QC_4": ["CAT_1"]}


def test_a_name_of_several_tasks_that_share_no_file_means_all_of_them_but_not_itself():
    data = flat({"name": "A", "id": "1"}, {"name": "A", "id": "2"}, {"name": "B", "id": "3", "parents": ["A"]})
    assert needs(data)["B_3"] == ["A_1", "A_2"]
    looped = flat({"name": "A", "id": "1", "children": ["A"]}, {"name": "A", "id": "2"})
    assert needs(looped) == {"A_1": [], "A_2": ["A_1"]}


def test_names_that_stand_for_too_many_edges_are_refused_before_they_are_made():
    count = 1500
    tasks = [{"name": "A", "id": str(n)} for n in range(count)]
    tasks += [{"name": "B", "id": f"b{n}", "parents": ["A"]} for n in range(count)]
    began = time.process_time()
    found = fault(flat(*tasks))
    assert time.process_time() - began < 10  # seconds; two million edges are well more
    assert str(MOST_EDGES) in found.problem


def test_many_tasks_of_one_name_with_one_file_each_take_no_quadratic_time():
    count = 10_000
    tasks = [{"name": "A", "id": str(n), "files": [file("output", f"f{n}")]} for n in range(count)]
    tasks += [{"name": "B", "id": f"b{n}", "parents": ["A"], "files": [file("input", f"f{n}")]} for n in range(count)]
    began = time.process_time()
    assert needs(flat(*tasks))["B_b77"] == ["A_77"]
    assert time.process_time() - began < 10  # seconds; looking at each pair takes minutes


def test_a_task_that_tells_of_no_parents_waits_for_those_who_write_what_it_reads():
    data = flat(
        {"name": "use", "files": [file("input", "f"), file("input", "g")]},
        {"name": "make", "files": [file("output", "f"), file("output", "g")]},
    )
    assert needs(data) == {"use": ["make"], "make": []}
    assert "1 edges were read off the files, for tasks that tell of no parents." in imported(data).notes


@pytest.mark.parametrize("version", FLAT)
def test_the_name_with_a_unit_wins_where_a_document_has_both(version):
    files = [file("output", "f", 20) | {"size": 20_000}]
    task = {"name": "a", "runtime": 9, "runtimeInSeconds": 2, "memory": 1, "memoryInBytes": 5000, "files": files}
    data = flat(task, version=version)
    assert stages(data, "sleep")["a"]["run"] == "sleep 2"
    assert stages(data, keep_resources=True)["a"]["resources"]["memory"] == "5000B"
    assert "make f000001 12" in stages(data, "bytes")["a"]["run"]


@pytest.mark.parametrize("version", FLAT)
def test_a_name_of_the_other_version_is_understood(version):
    old = {"name": "a", "runtime": 9, "memory": 2, "cores": 3, "files": [{"link": "output", "name": "f", "size": 20}]}
    data = flat(old, version=version)
    assert stages(data, "sleep")["a"]["run"] == "sleep 9"
    assert stages(data, keep_resources=True)["a"]["resources"] == {"cores": 3, "memory": "2000B"}
    assert "make f000001 12" in stages(data, "bytes")["a"]["run"]


def test_a_missing_runtime_beside_other_figures_is_told():
    notes = imported(flat({"name": "a", "cores": 2}), "sleep").notes
    assert "1 task without a recorded runtime: 0 s were assumed." in notes


def test_a_file_told_with_two_sizes_has_the_first_and_the_difference_is_told():
    data = flat({"name": "a", "files": [file("output", "f", 20)]}, {"name": "b", "files": [file("input", "f", 30)]})
    result = imported(data, "bytes")
    assert "have f000001 20" in result.document["stages"]["b"]["run"]
    assert "1 files are told with differing sizes: the first was taken." in result.notes


def test_names_of_old_tasks_may_hold_blanks_and_brackets_and_reach_only_the_environment():
    data = flat({"name": "NFCORE:CAT (sample 1)", "id": "7"})
    assert stages(data) == {
        "NFCORE-CAT--sample-1-_7": {
            "env": {"WF_TASK_ID": "NFCORE:CAT (sample 1)_7"},
            "resources": {"cores": 1},
            "run": ":",
        }
    }


# -- what only 1.6 does ------------------------------------------------------------------------------------


def test_task_ids_of_1_6_may_hold_colons_and_slashes_and_those_of_1_5_may_not():
    nodes = [Node(id="NF:A/1"), Node(id="NF:B", parents=["NF:A/1"])]
    assert needs(written("1.6", nodes, {})) == {"NF-A-1": [], "NF-B": ["NF-A-1"]}
    assert fault(written("1.5", nodes, {})).place == "/workflow/specification/tasks/0/id"


@pytest.mark.parametrize(
    ("part", "metric", "value"),
    [
        ("specification", "numberOfTasks", -1),
        ("specification", "numberOfLevels", "two"),
        ("execution", "sumTaskRuntimesInSeconds", -0.5),
        ("execution", "totalNumBytesRead", 1.5),
    ],
)
def test_metrics_of_1_6_are_numbers_and_other_versions_do_not_know_them(part, metric, value):
    for version in ("1.5", "1.6"):
        data = diamond(version)
        data["workflow"][part]["metrics"] = {metric: value}
        if version == "1.5":
            assert imported(data)
        else:
            assert fault(data).place == f"/workflow/{part}/metrics/{metric}"


def test_a_1_6_document_needs_no_execution():
    data = diamond("1.6")
    del data["workflow"]["execution"]
    assert len(stages(data)) == 4


# -- what is refused ---------------------------------------------------------------------------------------

FAULTS = {
    "no tasks": (flat(), T, "0 entries"),
    "jobs of 1.2": ({"name": "x", "schemaVersion": "1.3", "workflow": {"jobs": []}}, "/workflow", "'tasks' is missing"),
    "a task without a name": (flat({"id": "1"}), f"{T}/0", "'name' is missing"),
    "an expression as a name": (flat({"name": "${{ launch }}"}), f"{T}/0/name", "is not an id"),
    "unknown parent": (flat({"name": "a", "parents": ["b"]}), f"{T}/0/parents/0", "no task has the name or the id 'b'"),
    "unknown child": (flat({"name": "a", "children": ["b"]}), f"{T}/0/children/0", "no task has the name"),
    "two of one name and no id": (flat({"name": "a"}, {"name": "a"}), f"{T}/1", "the name and the id of /workflow"),
    "two of one name and id": (flat({"name": "a", "id": "1"}, {"name": "a", "id": "1"}), f"{T}/1", "'a_1'"),
    "a name that is an id elsewhere": (
        flat({"name": "a", "id": "b"}, {"name": "b", "id": "2"}, {"name": "c", "parents": ["b"]}),
        f"{T}/2/parents/0",
        "the name of one task and the id of another",
    ),
    "an id of two": (
        flat({"name": "a", "id": "1"}, {"name": "b", "id": "1"}, {"name": "c", "parents": ["1"]}),
        f"{T}/2/parents/0",
        "2 tasks have the id '1'",
    ),
    "circle": (flat({"name": "a", "parents": ["b"]}, {"name": "b", "parents": ["a"]}), T, "2 tasks wait"),
    "itself": (flat({"name": "a", "parents": ["a"]}), T, "circle: 'a' -> 'a'"),
    "two producers": (
        flat({"name": "a", "files": [file("output", "f")]}, {"name": "b", "files": [file("output", "f")]}),
        f"{T}/1/files",
        "'f' is also written by 'a'",
    ),
    "reads what it writes": (
        flat({"name": "a", "files": [file("output", "f"), file("input", "f")]}),
        f"{T}/0/files",
        "writes itself",
    ),
    "a file without an edge, beside other edges": (
        flat(
            {"name": "a", "files": [file("output", "f")]},
            {"name": "b"},
            {"name": "c", "parents": ["b"], "files": [file("input", "f")]},
        ),
        f"{T}/2/files",
        "not among the task's parents",
    ),
    "a link of neither kind": (flat({"name": "a", "files": [file("inout", "f")]}), f"{T}/0/files/0/link", "'inout'"),
    "a size that is none": (
        flat({"name": "a", "files": [file("input", "f", "1 kB")]}),
        f"{T}/0/files/0/sizeInBytes",
        "",
    ),
    "negative size": (flat({"name": "a", "files": [file("input", "f", -1)]}), f"{T}/0/files/0/sizeInBytes", "bounds"),
    "negative runtime": (flat({"name": "a", "runtime": -1}), f"{T}/0/runtime", "bounds"),
    "memory beyond all bytes": (flat({"name": "a", "memory": 2**62}), f"{T}/0/memory", "bounds"),
    "arguments in one text": (flat({"name": "a", "command": {"arguments": "-x"}}), f"{T}/0/command/arguments", "list"),
    "a machine by number": (flat({"name": "a", "machine": 7}), f"{T}/0/machine", "not a text"),
    "a makespan in words": (flat({"name": "a"}, makespan="long"), "/workflow/makespan", "not a number"),
    "machines of none": (flat({"name": "a"}, machines=[]), "/workflow/machines", "0 entries"),
}


@pytest.mark.parametrize("version", FLAT)
@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_of_an_old_document_is_told_with_its_place_and_a_cure(what, version):
    data, place, problem = FAULTS[what]
    found = fault(data | {"schemaVersion": version})
    assert found.place == place
    assert problem in found.problem
    assert found.cure
    assert str(found).isprintable()


@pytest.mark.parametrize("version", ["1.0", "1.2", "2.0", "1.7", "1.30", "", "1.5\n"])
def test_a_version_that_is_not_read_is_told_with_those_that_are(version):
    found = fault(diamond("1.5") | {"schemaVersion": version})
    assert found.place == "/schemaVersion"
    assert ascii(version) in found.problem
    assert found.cure == "convert it to one of 1.3, 1.4, 1.5, 1.6"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_limit_of_tasks_holds_in_every_version(version):
    with pytest.raises(ImportFault, match="4 tasks are over the limit of 3"):
        imported(diamond(version), max_tasks=3)


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("", ()),
        ("scale", ()),
        ("/schemaVersion", ("schemaVersion",)),
        (f"{T}/12/files/0", ("workflow", "tasks", 12, "files", 0)),
    ],
)
def test_a_faults_place_is_a_path_into_the_document(place, path):
    assert ImportFault(place, "x", "y").path == path


# -- any damage --------------------------------------------------------------------------------------------

JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["work_ID02", "", "raw"]),
    st.builds(list),
    st.builds(dict),
)


def places(value, at=()):
    yield at
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*at, key))


@st.composite
def damaged(draw, versions=VERSIONS):
    data = diamond(draw(st.sampled_from(versions)), ends=draw(st.sampled_from(ENDS)))
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from([place for place in places(data) if place]))
        inner = data
        for key in path:
            inner = inner[key]
        if draw(st.booleans()):
            del inner[last]
        else:
            inner[last] = draw(JUNK)
    return data


def attempt(data, bodies):
    """The import, or the fault that it ended in; any other error is raised."""
    try:
        return imported(data, bodies)
    except ImportFault as found:
        return found


@settings(max_examples=400)
@given(damaged(), st.sampled_from(["noop", "sleep", "bytes"]))
def test_damage_in_any_version_is_either_harmless_or_an_import_fault(data, bodies):
    before = copy.deepcopy(data)
    outcome = attempt(data, bodies)
    if isinstance(outcome, ImportFault):
        assert outcome.cure
        assert str(outcome).isprintable()
    else:
        json.dumps(outcome.document, allow_nan=False)
    assert repr(data) == repr(before)


def _published(version, *, lenient):
    path = SHARED / "schema" / f"wfcommons-schema-v{version}.json"
    if not path.exists():
        pytest.skip("the published schemas are not beside this repository")
    import jsonschema

    schema = json.loads(path.read_text())
    if lenient:
        _forgive(schema)
    return jsonschema.Draft7Validator(schema)


def _forgive(schema):
    """Take out what we do not demand: fields that must be there (but for tasks' names) and the letters of parents."""
    for place in list(places(schema)):
        *path, last = place or ("",)
        inner = schema
        for key in path:
            inner = inner[key]
        if last == "required" and path[-1:] != ["properties"]:
            inner[last] = [
                name for name in inner[last] if name in ("name", "schemaVersion", "workflow", "tasks", "link")
            ]
            if path[-1:] in (["wms"], ["author"]):
                inner[last] = []
        if last == "pattern":
            del inner[last]


@pytest.mark.parametrize("version", ["1.3", "1.4", "1.5"])
def test_the_kits_documents_are_lawful_by_the_published_schema(version):
    _published(version, lenient=False).validate(diamond(version))


@pytest.mark.parametrize("version", FLAT)
@settings(max_examples=200)
@given(data=st.data())
def test_what_an_old_published_schema_refuses_is_refused_but_for_fields_that_are_missing(version, data):
    schema = _published(version, lenient=True)
    document = data.draw(damaged(versions=[version]))
    assert isinstance(attempt(document, "noop"), ImportFault) or schema.is_valid(document)


# -- documents that nobody here wrote ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def genome():
    if not all(path.exists() for path in GENOME.values()):
        pytest.skip("the recorded workflows are not beside this repository")
    return {version: json.loads(path.read_text()) for version, path in GENOME.items()}


@pytest.mark.parametrize("bodies", ["noop", "sleep", "bytes"])
def test_one_recorded_workflow_in_three_versions_is_one_graph(genome, bodies):
    ours = {
        version: imported(data, bodies, scale=0.001, keep_resources=True).document for version, data in genome.items()
    }
    newest = ours["1.5"]["stages"]
    assert len(newest) == 52
    assert sum(len(stage.get("needs", [])) for stage in newest.values()) > 52
    for version in FLAT:
        old = ours[version]["stages"]
        assert list(old) == list(newest)
        for name, stage in newest.items():
            assert set(old[name].get("needs", [])) == set(stage.get("needs", []))
            assert {key: value for key, value in old[name].items() if key != "needs"} == {
                key: value for key, value in stage.items() if key != "needs"
            }


def test_the_data_of_a_recorded_workflow_weighs_the_same_in_three_versions(genome):
    weights = {
        version: [note for note in imported(data).notes if note.startswith("Left out")]
        for version, data in genome.items()
    }
    assert weights["1.3"] == weights["1.4"] == weights["1.5"]
    assert "2.6 GB" in weights["1.3"][0]


def test_the_diamond_is_what_it_says():
    assert {name for node in DIAMOND for name in (*node.reads, *node.writes)} == set(SIZES)
