"""Patterns: what is accepted means the same to Python and to the tools of a site."""

import contextlib
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.harness import UnsupportedPattern, check_pattern
from connectors.harness.pattern import literal, translate

ACCEPTED = {
    r"slab_(\d+)\.h5": (["slab_12.h5", "slab_0.h5"], ["slab_.h5", "slab_1xh5", "xslab_1.h5", "slab_1.h5x"]),
    r"restart_(\d+)/rank_\d+\.bp": (["restart_3/rank_07.bp"], ["restart_3/rank_.bp", "restart_3rank_1.bp"]),
    r"(?:old|new)_(\d{2,4})(\.h5|\.zarr)?": (["old_12", "new_1234.zarr"], ["mid_12", "old_1", "old_12345"]),
    r"[a-f_.-]+([0-9]+)\w*": (["a.b-c_7xyz_9", "f1"], ["g1", "a1-"]),
    r"c[^/]k([\d]+)": (["cak1", "c-k22"], ["c/k1", "ck1"]),
    r"x[\]^-]?(\d+)": (["x]1", "x^1", "x-1", "x1"], ["xx1", "x\\1"]),
    r"x[\^](\d+)": (["x^1"], ["xa1", "x1"]),
    r"\(\d\) \$a\{\}(\d+)\|": (["(1) $a{}5|"], ["1 $a5|"]),
    r"it's '(\d+)' \"q\" `id` $x".replace("$x", r"\$x"): (["it's '1' \"q\" `id` $x"], ["its 1"]),
    r"a%b#c,d~e/(\d+)": (["a%b#c,d~e/1"], ["a%b#c,d~e1"]),
}  # fmt: skip


def matched_by_sed(text: str, names: list[str]) -> dict[str, str]:
    told = translate(text)
    group = 1 + told.number_group
    script = f"s\x01^({told.ere})$\x01\\{group} \\1\x01p"
    lines = subprocess.run(
        ["sed", "-nE", script], input="\n".join(names) + "\n", text=True, capture_output=True, check=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
    ).stdout.splitlines()  # fmt: skip
    return {line.split(" ", 1)[1]: line.split(" ", 1)[0] for line in lines}


@pytest.mark.parametrize("text", ACCEPTED)
def test_an_accepted_pattern_means_the_same_in_python_and_at_the_site(text):
    yes, no = ACCEPTED[text]
    expected = {name: re.fullmatch(text, name, re.ASCII)[1] for name in yes}
    assert matched_by_sed(text, yes + no) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "no group", r"(?:\d+)", r"(a", r"a)", r"(\d+)+?", r"(\d+)*+", r"(?P<n>\d+)", r"(?=x)(\d+)", r"(?i)(\d+)",
        r"^(\d+)", r"(\d+)$", r"(\d+)\b", r"(\d+)\s", r"(\d+)\1", r"(\d+)\n", "(\\d+)\n", "(\\d+)\0", r"(\d+)ü",

        r"[\W](\d+)",
        r"[[:alpha:]](\d+)", r"()(\d+)", r"(|a)(\d+)", r"a{256}(\d+)", r"a{,3}(\d+)", r"{(\d+)", r"(\d+)}", r"x**(\d+)",
        r"(?:a)(?:b)(?:c)(?:d)(\d+)", r"[z-a](\d+)", r"[a--b](\d+)", r"[]a](\d+)", r"(?:\d*x){3}(\d+)",

        "(\\d+)" * 200, r"(?:(?:a+)+)+(\d+)",
    ],
)  # fmt: skip
def test_a_pattern_that_a_site_would_read_differently_is_refused_with_a_sentence(text):
    with pytest.raises(UnsupportedPattern) as refused:
        check_pattern(text)
    assert len(str(refused.value)) > 20


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii"), max_size=30))
def test_no_text_raises_anything_but_unsupported(text):
    with contextlib.suppress(UnsupportedPattern):
        check_pattern(text)


ATOMS = st.sampled_from(["a", "b", "7", "_", r"\d", r"\w", ".", r"\.", "[ab]", "[^b]", "[0-9a]", "-"])
PIECES = st.tuples(ATOMS, st.sampled_from(["", "", "+", "*", "?", "{2}", "{1,2}"])).map("".join)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(PIECES, max_size=3).map("".join),
    st.lists(PIECES, max_size=3).map("".join),
    st.lists(st.text("ab7_.-", min_size=1, max_size=6), min_size=1, max_size=8, unique=True),
)
def test_whatever_is_accepted_matches_the_same_names(before, after, names):
    text = rf"{before}(\d+){after}"
    assert set(matched_by_sed(text, names)) == {name for name in names if re.fullmatch(text, name, re.ASCII)}


def test_a_literal_matches_itself_alone():
    text = r"a.b*[c](d){e}|f\g^$+?"
    done = subprocess.run(
        ["grep", "-xE", literal(text)], input=text + "\naxb", text=True, capture_output=True, check=True
    )
    assert done.stdout == text + "\n"
