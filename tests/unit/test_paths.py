"""Paths as text: what is let through cannot leave its root."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.contract import UNSAFE_PATHS
from connectors.errors import UnsafePath
from connectors.paths import clean, file_path, join, split


@pytest.mark.parametrize("path", UNSAFE_PATHS)
def test_an_unsafe_path_is_refused(path):
    with pytest.raises(UnsafePath):
        clean(path)


@pytest.mark.parametrize(
    ("path", "cleaned"),
    [
        ("a/b.txt", "a/b.txt"),
        ("./a//b/./c/", "a/b/c"),
        ("", ""),
        (".", ""),
        ("...", "..."),
        ("a..b/..c", "a..b/..c"),
        ("-rf", "-rf"),
        ("~root/x", "~root/x"),
        ("sp ace/$(x)/ü", "sp ace/$(x)/ü"),
    ],
)
def test_a_safe_path_comes_out_in_its_plain_form(path, cleaned):
    assert clean(path) == cleaned


@pytest.mark.parametrize("path", ["", ".", "./", "folder/"])
def test_a_folder_is_no_file_path(path):
    with pytest.raises(UnsafePath):
        file_path(path)


def test_joined_paths_are_checked_one_by_one():
    assert join("runs/r1", "./out/", "a") == "runs/r1/out/a"
    assert join("", "a") == "a"
    for parts in [("runs", "/etc"), ("runs", "../x"), ("..", "x")]:
        with pytest.raises(UnsafePath):
            join(*parts)


def test_a_path_splits_into_folder_and_name():
    assert split("a/b/c") == ("a/b", "c")
    assert split("c") == ("", "c")


NASTY = st.text(alphabet=st.sampled_from("ab./\\\n\0~-\x7f\u2028 é"), max_size=30) | st.text(max_size=30)


@given(NASTY)
def test_whatever_is_let_through_stays_below_its_root(path):
    try:
        cleaned = clean(path)
    except UnsafePath:
        return
    whole = posixpath.normpath(posixpath.join("/root", cleaned))
    assert whole == "/root" or whole.startswith("/root/")
    assert clean(cleaned) == cleaned
    assert not set(cleaned) & set("\0\n\r\\")
