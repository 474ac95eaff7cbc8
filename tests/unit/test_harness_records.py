"""The records' formats: exact inverses, and no way for foreign bytes to do harm."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.harness import records
from connectors.harness.records import (
    EXIT_KINDS,
    CheckpointRecord,
    ExitRecord,
    Manifest,
    RecordError,
    StartRecord,
    TornRecord,
    check_path,
    format_manifest,
    format_record,
    parse_manifest,
    parse_record,
    parse_spool_name,
    spool_name,
)

CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug
KEYS = st.from_regex(r"[a-z0-9]{1,15}", fullmatch=True)
COUNTS = st.integers(0, 2**63 - 1)
DIGESTS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
PRINTABLE = st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp"))
TEXTS = st.text(PRINTABLE, min_size=1, max_size=60)
COMPONENTS = st.text(PRINTABLE.filter(lambda c: c not in "/\\"), min_size=1, max_size=20).filter(
    lambda part: part not in {".", ".."}
)
PATHS = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join)

STARTS = st.builds(
    StartRecord,
    key=KEYS,
    generation=COUNTS,
    owner=TEXTS,
    host=TEXTS,
    started_at=COUNTS,
    native_id=TEXTS | st.just(""),
    restore_seq=COUNTS | st.none(),
)
CHECKPOINTS = st.builds(
    CheckpointRecord,
    key=KEYS,
    generation=COUNTS,
    seq=COUNTS,
    path=PATHS,
    bytes=COUNTS,
    manifest_digest=DIGESTS,
    at=COUNTS,
)
EXITS = st.builds(
    ExitRecord,
    key=KEYS,
    generation=COUNTS,
    kind=st.sampled_from(sorted(EXIT_KINDS)),
    exit_code=COUNTS,
    signal=COUNTS | st.none(),
    started_at=COUNTS,
    ended_at=COUNTS,
    outputs_count=COUNTS,
    outputs_digest=DIGESTS | st.just(""),
    missing=st.lists(PATHS, max_size=4).map(tuple),
    wrong_size=st.lists(st.tuples(PATHS, COUNTS), max_size=4).map(tuple),
    asked=TEXTS | st.just(""),
)
RECORDS = STARTS | CHECKPOINTS | EXITS
MANIFESTS = st.builds(
    Manifest,
    files=st.lists(st.tuples(PATHS, COUNTS, DIGESTS), max_size=5, unique_by=lambda file: file[0]).map(tuple),
    seq=COUNTS,
    parent=COUNTS | st.none(),
    app=TEXTS | st.just(""),
)


@CALM
@given(RECORDS)
def test_a_record_comes_back_as_it_was_written(record):
    assert parse_record(format_record(record)) == record


@CALM
@given(MANIFESTS)
def test_a_manifest_comes_back_as_it_was_written(manifest):
    assert parse_manifest(format_manifest(manifest)) == manifest


@CALM
@given(RECORDS | MANIFESTS, st.data())
def test_a_record_cut_anywhere_is_torn_and_never_read_as_less(record, data):
    whole = format_manifest(record) if isinstance(record, Manifest) else format_record(record)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(TornRecord):
        (parse_manifest if isinstance(record, Manifest) else parse_record)(part)


@CALM
@given(
    st.binary(max_size=300)
    | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(st.sampled_from([
        b"crossfade-exit 1", b"crossfade-started 1", b"crossfade-checkpoint 1", b"crossfade-manifest 1", b"key cf1",
        b"generation 1", b"generation -1", b"seq 1", b"kind done", b"missing ../x", b"file " + b"0" * 64 + b" 1 /etc",
        b"exit_code 0", b"started_at 1", b"ended_at 1", b"outputs_count 0", b"owner x", b"host \x1b[2J", b"end", b"",
    ])).map(lambda lines: b"\n".join([*lines, b"end", b""]))
)  # fmt: skip
def test_no_bytes_whatever_raise_anything_but_the_records_own_error(data):
    for parse in (parse_record, parse_manifest):
        with contextlib.suppress(RecordError):
            parse(data)


@CALM
@given(st.text(max_size=40))
def test_a_path_is_either_refused_or_stays_below_its_root(text):
    try:
        path = check_path(text)
    except RecordError:
        return
    assert path == text
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(path.split("/"))
    assert not set(path) & set("\\\0\n\r\t\x1b\x7f")


@pytest.mark.parametrize(
    "path",
    ["", "/etc", "..", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b", "a\nb", "a\x1b[2J", "x" * 256, "\u2028", "\ud800",
     "/".join(["abc"] * 2000)],
)  # fmt: skip
def test_a_path_that_could_leave_or_deceive_is_refused(path):
    with pytest.raises(RecordError):
        check_path(path)
    with pytest.raises(RecordError):
        format_manifest(Manifest(files=((path, 1, "0" * 64),), seq=1))


GOOD = b"crossfade-checkpoint 1\nkey cf1\ngeneration 1\nseq 2\npath a/b\nbytes 3\nmanifest_digest %s\nat 5\nend\n" % (
    b"a" * 64
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"seq 2", b"seq 02"),
        (b"seq 2", b"seq -2"),
        (b"seq 2", b"seq 9223372036854775808"),
        (b"seq 2", b"seq 2\nseq 2"),
        (b"seq 2\n", b""),
        (b"seq 2", b"seq"),
        (b"seq 2", b"seq 2\nmore 3"),
        (b"seq 2", b"seq 2\n\n"),
        (b"seq 2", b"seq \xd9\xa2"),
        (b"at 5", b"at 5\nmissing x"),
        (b"a" * 64, b"A" * 64),
        (b"key cf1", b"key cf1;rm"),
        (b"checkpoint 1", b"checkpoint 2"),
        (b"crossfade-checkpoint", b"crossfade-other"),
        (b"a/b", b"\xff\xfe"),
    ],
)
def test_a_line_that_is_not_exactly_as_it_should_be_is_refused(old, new):
    assert isinstance(parse_record(GOOD), CheckpointRecord)
    with pytest.raises(RecordError):
        parse_record(GOOD.replace(old, new))


def test_records_and_manifests_are_bounded():
    with pytest.raises(RecordError, match="too large"):
        parse_record(b"x" * (records.MAX_RECORD_BYTES + 1))
    entry = b"file " + b"0" * 64 + b" 1 %d\n"
    many = b"".join(entry % number for number in range(records.MAX_ENTRIES + 1))
    with pytest.raises(RecordError, match="more than"):
        parse_manifest(b"crossfade-manifest 1\nseq 1\n" + many + b"end\n")


def test_a_file_named_twice_makes_a_manifest_ambiguous_and_is_refused():
    with pytest.raises(RecordError, match="twice"):
        format_manifest(Manifest(files=(("a", 1, "0" * 64), ("a", 2, "1" * 64)), seq=1))


@CALM
@given(KEYS, st.integers(1, 10**9 - 1), st.integers(1, 10**9 - 1), st.sampled_from(["started", "checkpoint", "exit"]))
def test_a_spool_name_comes_back_as_it_was_made(key, generation, n, kind):
    assert parse_spool_name(spool_name(key, generation, n, kind)) == (key, generation, n, kind)


@pytest.mark.parametrize(
    "name", ["", ".cf1.1.1.exit", "cf1.0.1.exit", "cf1.1.01.exit", "cf1.1.1.other", "cf1.1.1.exit\n", "CF.1.1.exit"]
)
def test_other_files_in_a_spool_are_not_taken_for_records(name):
    with pytest.raises(RecordError):
        parse_spool_name(name)


def test_a_record_that_nobody_could_read_is_not_written():
    with pytest.raises(RecordError):
        format_record(StartRecord(key="cf1", generation=1, owner="two\nlines", host="h", started_at=1))
    with pytest.raises(RecordError):
        spool_name("cf1", 0, 1, "exit")
