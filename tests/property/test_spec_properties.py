"""Whatever is read, nothing but a DocumentError comes out; whatever is given, the shell sees it as one word."""

import json
import os
import subprocess
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.spec import DocumentError, compile_workflow, document_from, load_workflow, parse_document, read_document
from broker.spec.expressions import EXPRESSION
from broker.spec.shell import unsafe_places

fast = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

_WORDS = [
    "crossfade", "name", "stages", "run", "at", "policy", "failover", "act", "files", "inputs", "from", "checkpoint",
    "ask", "match", "env", "params", "default", "type", "resources", "walltime", "submit", "a", "b", "..", "x/y", "${{",
    "auto", "time_limit", "(\\d+)", "3m", "1GB", "secret:x", "cfs:x",
]  # fmt: skip
words = st.sampled_from([*_WORDS, "${{ params.a }}", "\0", "\n"])
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words | st.text(max_size=8)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=4), inner, max_size=4),
    max_leaves=25,
)
_PIECES = [*"{}[]:,-&*!|>'\"#%@` \n\t", "a", "b: ", "- ", "&x ", "*x ", "${{ ", "<<: ", "? ", "1", "\ufeff"]
snippets = st.lists(st.sampled_from(_PIECES), max_size=60).map("".join)


def nothing_but_a_document_error(make) -> None:
    caught = None
    try:
        workflow = load_workflow(make(), base=Path("/nonexistent"))
        compile_workflow(workflow, params={}, base=Path("/nonexistent"))
    except DocumentError as error:
        caught = error
    if caught is not None:
        assert caught.problems
        assert all(line.isprintable() for line in str(caught).splitlines())


@fast
@given(st.text(max_size=200) | snippets)
def test_any_text_is_a_document_or_a_document_error(text):
    nothing_but_a_document_error(lambda: parse_document(text, name="t"))


@settings(fast, suppress_health_check=[*fast.suppress_health_check, HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_document_or_a_document_error(tmp_path, content):
    path = tmp_path / "t"
    path.write_bytes(content)
    nothing_but_a_document_error(lambda: read_document(path))


@fast
@given(st.dictionaries(words, trees, max_size=5))
def test_any_data_is_a_document_or_a_document_error(data):
    nothing_but_a_document_error(lambda: document_from(data, name="t"))


@fast
@given(st.dictionaries(words, trees, max_size=6), st.dictionaries(words, trees, max_size=3))
def test_any_stage_is_sound_or_a_document_error(stage, policy):
    data = {"crossfade": 1, "name": "t", "policy": policy, "stages": {"a": {"run": "x", **stage}}}
    text = json.dumps(data)
    nothing_but_a_document_error(lambda: parse_document(text, name="t.json"))


@fast
@given(trees)
def test_json_is_read_alike_as_json_and_as_yaml(tree):
    text = json.dumps({"a": tree}, ensure_ascii=False)
    try:
        as_json = parse_document(text, name="t.json").data
        as_yaml = parse_document("# yaml\n" + text, name="t.yaml").data
    except DocumentError:
        return
    assert as_json == as_yaml


values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40) | st.sampled_from(
    [
        "$(id)",
        "`id`",
        "a'b",
        '"',
        "'; exit 9; '",
        "${HOME}",
        "\\",
        "a\n#SBATCH -q x",
        "*",
        "~",
        "-n",
        "!!",
        "",
        "\t",
        "|&;<>()",
    ]
)
surroundings = st.sampled_from(
    [
        "printf '<%s>' ${{ params.v }}",
        "x=${{ params.v }}; printf '<%s>' \"$x\"",
        'y="$(printf "%s" "a b")"; printf \'<%s>\' ${{ params.v }}',
        "f() { printf '<%s>' \"$1\"; }; (f ${{ params.v }})",
        "# don't\nprintf '<%s>' ${{ params.v }} # ${{ params.v }}",
        "cat >/dev/null <<'EOF'\n$x\nEOF\nprintf '<%s>' \\\n  ${{ params.v }}",
    ]
)


@settings(fast, max_examples=60)
@given(value=values, command=surroundings)
def test_a_param_reaches_a_real_shell_as_one_word(value, command):
    data = {"crossfade": 1, "name": "t", "params": {"v": {}}, "stages": {"a": {"run": command}}}
    run = compile_workflow(load_workflow(document_from(data, name="t"), base=Path()), params={"v": value}, base=Path())
    script = json.loads(run.stages[0].body)["run"]
    done = subprocess.run(["/bin/sh", "-euc", script], capture_output=True, check=True, env={"PATH": os.defpath})
    assert done.stdout == f"<{value}>".encode()


shell_pieces = st.lists(
    st.sampled_from(
        [
            "'",
            '"',
            "`",
            "\\",
            "$(",
            ")",
            "${",
            "}",
            "$((",
            "))",
            "#",
            " ",
            "\n",
            "<<E",
            "\nE\n",
            "echo",
            "a",
            ";",
            "$",
            "(",
            "case",
        ]
        + ["${{ params.v }}"] * 4
    ),
    max_size=14,
).map("".join)


@settings(fast, max_examples=300)
@given(command=shell_pieces)
def test_whatever_surrounds_a_value_no_command_in_it_is_ever_run(command):
    """The value is a command substitution; where the scanner lets it stand, no shell may execute it."""
    starts = [found.start() for found in EXPRESSION.finditer(command)]
    if not starts or set(starts) <= set(unsafe_places(command, starts)):
        return
    data = {"crossfade": 1, "name": "t", "params": {"v": {}}, "stages": {"a": {"run": command}}}
    try:
        run = compile_workflow(
            load_workflow(document_from(data, name="t"), base=Path()), params={"v": "x$(echo BROKEN >&2)"}, base=Path()
        )
    except DocumentError:
        return
    script = json.loads(run.stages[0].body)["run"]
    for shell in (["sh"], ["bash"]):
        done = subprocess.run(
            [*shell, "-c", script],
            capture_output=True,
            check=False,
            env={"PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            timeout=10,
        )
        assert b"BROKEN\n" not in done.stderr.splitlines(keepends=True), (shell, script)
