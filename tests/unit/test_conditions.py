"""`when`: what is a condition, what it is worth, and what is said of one that is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.spec.conditions import MOST_DEPTH, condition
from broker.spec.errors import Wrong
from broker.spec.expressions import ParamValue, Value

TYPES = {"dry": "bool", "n": "int", "x": "number", "mode": "text", "t": "duration", "size": "size", "a-b": "bool"}
GIVEN: dict[str, Value] = {
    "dry": False,
    "n": 3,
    "x": 2.5,
    "mode": "fast",
    "t": 900,
    "size": 64_000_000_000,
    "a-b": True,
}
VALUES = {name: ParamValue(type=TYPES[name], value=value) for name, value in GIVEN.items()}


def holds(text: str) -> bool:
    return condition(text, TYPES).holds(VALUES)


@pytest.mark.parametrize(
    ("text", "worth"),
    [
        ("params.dry", False),
        ("not params.dry", True),
        ("not not params.dry", False),
        ("params.a-b", True),
        ("true and false or true", True),
        ("true or true and false", True),
        ("(true or true) and false", False),
        ("not params.dry and params.n > 2", True),
        ("params.n == 3", True),
        ("params.n != 3", False),
        ("params.n >= 3 and params.n <= 3 and params.n < 4", True),
        ("params.n == 3.0", True),
        ("params.x > -1.5", True),
        ("params.mode == 'fast'", True),
        ('params.mode != "fast"', False),
        ("params.mode in ['slow', 'fast']", True),
        ("params.mode not in ['slow', 'fast']", False),
        ("params.mode in []", False),
        ("params.n in [1, 2, 3]", True),
        ("params.t == 15m", True),
        ("params.t < 1h30m", True),
        ("params.t == 900", True),
        ("params.size >= 64GB", True),
        ("params.size > 64GiB", False),
        ("params.dry == false", True),
        ("  params.dry\n or true ", True),
        ("'and' == 'and'", True),
    ],
)
def test_a_condition_is_worth_what_it_says(text: str, worth: bool) -> None:
    assert holds(text) is worth


@pytest.mark.parametrize(
    ("text", "words", "cure"),
    [
        ("", "ends where a value should stand", "params.frames"),
        ("params.dyr", "the param 'dyr' is not declared", "did you mean `dry`?"),
        ("dry", "dry is a param", "write params.dry"),
        ("params.mode == fast", "'fast' is not known", "text stands in quotes"),
        ("params.n", "params.n is a number, not true or false", "compare it"),
        ("not params.mode", "params.mode is text, not true or false", "compare it"),
        ("params.n and true", "params.n is a number", "compare it"),
        ("params.n == '3'", "params.n is a number, and '3' is text", "text stands in quotes"),
        ("params.dry == 1", "params.dry is true or false, and 1 is a number", "of one type"),
        ("params.t == 64GB", "a duration, and 64GB is a size", "of one type"),
        ("params.mode < 'z'", "has no order", "use == or !="),
        ("params.mode in 'fast'", "not a list", "['a', 'b']"),
        ("params.mode in ['a', ['b']]", "a list in a list", "one list"),
        ("params.n in ['a']", "a number, and 'a' is text", "of one type"),
        ("['a'] == ['a']", "a list cannot be compared", "x in [...]"),
        ("params.n == 3 params.dry", "'params.dry' stands where the condition should end", ""),
        ("params.n not 3", "goes with `in`", "x not in"),
        ("(params.dry", "a ')' is missing", ""),
        ("params.n == 3 == true", "'==' stands where the condition should end", ""),
        ("params.n == 15x", "no duration and no size", "15m"),
        ("__import__('os')", "not known", ""),
        ("params.n + 1 > 2", "cannot stand in a condition", ""),
        ("params.mode.upper()", "cannot stand in a condition", ""),
        ("'open", "cannot stand in a condition", ""),
        ("(" * (MOST_DEPTH + 1) + "true" + ")" * (MOST_DEPTH + 1), "brackets in each other", "simpler"),
        ("not " * (MOST_DEPTH + 1) + "true", "brackets in each other", "simpler"),
        ("true or " * 200 + "true", "may have 1000 characters", "bool param"),
    ],
)
def test_what_is_no_condition_is_refused_with_a_cure(text: str, words: str, cure: str) -> None:
    with pytest.raises(Wrong) as caught:
        condition(text, TYPES)
    assert words in caught.value.message
    assert cure in caught.value.cure


def test_why_a_stage_is_not_run_names_the_params_and_what_they_are() -> None:
    found = condition("not params.a-b  and params.mode == 'x'", TYPES)
    assert found.against(VALUES) == "when not params.a-b and params.mode == 'x' is false (a-b is true, mode is fast)"
    assert condition("params.a-b", TYPES).against(VALUES) == ""


def test_a_value_that_would_steer_a_terminal_is_quoted_where_it_is_told() -> None:
    values = VALUES | {"mode": ParamValue(type="text", value="\x1b[2Jx")}
    assert "\x1b" not in condition("params.mode == 'x'", TYPES).against(values)


_ATOMS = st.sampled_from(
    ["params.dry", "params.a-b", "true", "false", "params.n > 2", "params.mode == 'fast'", "params.x in [1, 2.5]"]
)
_TEXTS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("(not {})".format, inner),
    ),
    max_leaves=12,
)


@given(_TEXTS)
def test_and_or_and_not_are_worth_what_python_makes_of_them(text: str) -> None:
    meant = text
    for atom, worth in (
        ("params.dry", "False"),
        ("params.a-b", "True"),
        ("params.n > 2", "True"),
        ("params.mode == 'fast'", "True"),
        ("params.x in [1, 2.5]", "True"),
        ("true", "True"),
        ("false", "False"),
    ):
        meant = meant.replace(atom, worth)
    assert holds(text) is eval(meant)


@given(st.text(alphabet="params.ny()[]<>=!'\" \n0123mGBandortiu,-_x\x00é", max_size=60))
def test_whatever_is_written_it_is_a_condition_or_refused(text: str) -> None:
    try:
        found = condition(text, TYPES)
    except Wrong as wrong:
        assert wrong.message  # noqa: PT017 - the message is the claim
        return
    assert found.holds(VALUES) in (True, False)
