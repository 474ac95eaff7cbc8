"""Text to plain data: YAML 1.2's scalars, and every fault with its place."""

import time

import pytest

from broker.spec import DocumentError, RawDocument, document_from, parse_document, read_document


def parsed(text: str, name: str = "t.yaml") -> dict:
    return dict(parse_document(text, name=name).data)


def refusal(text: str, name: str = "t.yaml") -> str:
    with pytest.raises(DocumentError) as caught:
        parse_document(text, name=name)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("00564", "00564"),
        ("20260202_101500", "20260202_101500"),
        ("1:30:00", "1:30:00"),
        ("on", "on"),
        ("no", "no"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("17", 17),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("0x1F", 31),
        ("0o17", 15),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("01.5", "01.5"),
        ("2026-02-02", "2026-02-02"),
        ("'17'", "17"),
        ('"true"', "true"),
        ("=", "="),
    ],
)
def test_scalars_follow_the_core_schema_and_ids_stay_text(written, read):
    assert parsed(f"a: {written}\n") == {"a": read}
    assert type(parsed(f"a: {written}\n")["a"]) is type(read)


def test_keys_are_always_text():
    assert parsed("17: a\ntrue: b\non: c\nnull: d\n") == {"17": "a", "true": "b", "on": "c", "null": "d"}


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("", "1:1", "empty"),
        ("# only a comment\n", "1:1", "empty"),
        ("- a\n", "1:1", "a list"),
        ("just words", "1:1", "a single value"),
        ("a: 1\nb: {x: ${{ params.x }}}\n", "2:9", "put quotes around it"),
        ("a: [${{ params.x }}]\n", "1:6", "put quotes around it"),
        ("a: 1\na: 2\n", "2:1", "a second time"),
        ("s:\n  x: {b: 1, b: 2}\n", "2:13", "a second time"),
        ("a: !!python/object:os.system x\n", "1:4", "tags"),
        ("a: !mine 1\n", "1:4", "tags"),
        ("a:\n\t- b\n", "2:1", "spaces, not tabs"),
        ("a: b: c\n", "1:5", "quotes"),
        ("a: [\n", "2:1", "this is not YAML"),
        ("a: *nowhere\n", "1:4", "no anchor"),
        ("a: &x [*x]\n", "1:8", "within what it repeats"),
        ("<<: {a: 1}\n", "1:1", "merge keys"),
        ("? [a, b]\n: c\n", "1:3", "must be text"),
        ("&x a: 1\n", "1:1", "anchor"),
        ("a: &x y\n*x : 1\n", "2:1", "alias"),
        ("a: 1\n---\nb: 2\n", "2:1", "second document"),
        ("a: 123456789012345678901234567890\n", "1:4", "18 digits"),
        ("a: 1e999\n", "1:4", "too large"),
        ("a: .inf\n", "1:4", "not a number that can be used"),
        ('a: "x\\0y"\n', "1:4", "NUL"),
        ('"\\0": 1\n', "1:1", "NUL"),
        ("a: x\0y\n", "1:5", "may not stand"),
        ("a: 1\nb: x\x07\n", "2:5", "may not stand"),
        ("a: @x\n", "1:4", "quotes"),
        ("a: " + "[" * 40 + "]" * 40, "1:35", "32 deep"),
    ],
)
def test_a_malformed_document_is_told_with_line_and_column_and_what_to_do(text, place, words):
    told = refusal(text)
    assert told.startswith(f"t.yaml:{place} ")
    assert words in told


def test_the_path_to_a_fault_is_told_too():
    assert refusal("stages:\n  a: {needs: [x, !t y]}\n").startswith("t.yaml:2:18 stages.a.needs[1]: tags")


def test_a_byte_order_mark_is_no_part_of_the_document():
    assert parsed("\ufeffa: 1\n") == {"a": 1}
    assert parsed('\ufeff{"a": 1}') == {"a": 1}


def test_aliases_repeat_what_they_name():
    assert parsed("a: &x {k: [1, 2]}\nb: *x\n") == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}}


def _bomb(levels: int, wide: int) -> str:
    lines = [f"l0: &l0 [{', '.join(['x'] * wide)}]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * wide)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_a_billion_laughs_are_refused_at_once():
    started = time.process_time()
    assert "1,000,000 values" in refusal(_bomb(12, 10))
    assert time.process_time() - started < 1


def test_a_bomb_that_is_deep_and_not_wide_is_refused():
    lines = ["l0: &l0 [x]"] + [f"l{i}: &l{i} [*l{i - 1}]" for i in range(1, 60)]
    assert "32 deep" in refusal("\n".join(lines))


def test_a_bomb_of_keys_is_refused():
    lines = ["l0: &l0 {a: 1, b: 2}"] + [f"l{i}: &l{i} {{a: *l{i - 1}, b: *l{i - 1}}}" for i in range(1, 25)]
    assert "1,000,000 values" in refusal("\n".join(lines))


def test_an_endless_flow_of_brackets_ends_soon():
    started = time.process_time()
    assert "32 deep" in refusal("a: " + "[" * 2_000_000)
    assert time.process_time() - started < 2


def test_a_document_has_a_largest_size():
    assert "larger than 16 MB" in refusal("a: " + "x" * (17 << 20))


# -- JSON --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('{"a": 1, "a": 2}', "1:10", "a second time"),
        ('{"a": 1,}', "1:9", "not JSON"),
        ("{", "1:2", "not JSON"),
        ('{"a": NaN}', "1:1", "finite"),
        ('{"a": 1e999}', "1:7", "too large"),
        ('{"a": ' + "9" * 5000 + "}", "1:7", "18 digits"),
        ('{"a": "x\\u0000"}', "1:7", "NUL"),
        ('{"a":' * 40 + "1" + "}" * 40, "1:161", "32 deep"),
        ('{"a":' + "[" * 500_000, "1:1", "32 deep"),
    ],
)
def test_malformed_json_is_told_with_its_place(text, place, words):
    told = refusal(text, "t.json")
    assert words in told
    assert told.startswith(f"t.json:{place} ")


def test_half_a_surrogate_pair_is_refused():
    assert "surrogate" in refusal('{"a": "\\ud83d"}', "t.json") or "Unicode" in refusal('{"a": "\\ud83d"}', "t.json")
    assert "UTF-8" in refusal("a: \ud83d")


def test_json_is_known_by_its_first_character_whatever_its_name():
    assert parsed('  {"a": {"b": [1, null]}}') == {"a": {"b": [1, None]}}


# -- files -------------------------------------------------------------------------------------------------


def test_bytes_that_are_no_utf8_are_told_with_their_place(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_bytes(b"a: 1\nb: caf\xe9\n")
    with pytest.raises(DocumentError, match=r"t.yaml:2:7 the document is not UTF-8"):
        read_document(path)


def test_a_missing_file_and_a_folder_are_told_without_a_traceback(tmp_path):
    with pytest.raises(DocumentError, match="cannot be read: No such file"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(DocumentError, match="cannot be read: Is a directory"):
        read_document(tmp_path)


# -- places ------------------------------------------------------------------------------------------------


def test_every_part_of_a_document_can_be_found_again():
    raw = parse_document("a:\n  b:\n    - x\n    - {c: 1}\n  d: 2\n", name="t")
    assert raw.locate(("a", "b")) == (2, 3)
    assert raw.locate(("a", "b", 1)) == (4, 7)
    assert raw.locate(("a", "b", 1, "c")) == (4, 8)
    assert raw.locate(("a", "missing", "more")) == (1, 1)
    assert parse_document('{"a":\n {"b": 1}}', name="t").locate(("a", "b")) == (2, 3)


def test_a_document_that_was_never_text_has_no_lines_and_the_same_limits():
    assert document_from({"a": 1}, name="t").locate(("a",)) is None
    deep: dict = {}
    for _ in range(40):
        deep = {"a": deep}
    endless: list = []
    endless.append(endless)
    for bad in (deep, {"a": endless}, {"a": "\0"}, {1: 2}):
        with pytest.raises(DocumentError):
            document_from(bad, name="t")
    assert isinstance(document_from({"a": 1}, name="t"), RawDocument)
