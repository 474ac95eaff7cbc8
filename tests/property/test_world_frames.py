"""What processes say of a simulated world arrives as it was said: at a word that it does not know, the world's host
hangs up, on every worker alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors import model
from connectors.registry import SiteConfig
from sandbox import wire

NOUNS = [
    kind
    for kind in [SiteConfig, *vars(model).values()]
    if isinstance(kind, type) and is_dataclass(kind) and kind.__name__ in wire._NAMES
]
PLAIN: st.SearchStrategy[object] = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())


def told(kind: Any) -> st.SearchStrategy[Any]:
    """Anything of that type, down to each field of each noun in it."""
    match get_origin(kind) or kind:
        case origin if origin in (Union, UnionType):
            return st.one_of(*map(told, get_args(kind)))
        case origin if origin is Mapping:
            return st.dictionaries(*map(told, get_args(kind)), max_size=2)
        case origin if origin is tuple and get_args(kind)[-1] is ...:
            return st.lists(told(get_args(kind)[0]), max_size=2).map(tuple)
        case origin if origin is tuple:
            return st.tuples(*map(told, get_args(kind)))
        case origin if is_dataclass(origin):
            return st.builds(origin, **{name: told(hint) for name, hint in get_type_hints(origin).items()})
        case origin if origin is object:
            return PLAIN
        case origin if origin is float:
            return st.floats(allow_nan=False)  # no two of which are equal
        case origin if origin is Path:
            return st.text(min_size=1).map(Path)
        case _:
            return st.from_type(kind)


def test_the_nouns_of_the_model_and_a_sites_entry_are_looked_at() -> None:
    assert SiteConfig in NOUNS
    assert {model.JobSpec, model.Transfer, model.TransferStatus, model.JobStatus} <= set(NOUNS)


def inside(kind: Any) -> Iterator[type]:
    """The nouns that a type is made of, at any depth."""
    if is_dataclass(kind):
        yield kind  # type: ignore[misc]
        kind = tuple[tuple(get_type_hints(kind).values())]  # type: ignore[misc]
    for part in get_args(kind):
        yield from inside(part)


def test_a_noun_that_is_known_is_made_of_none_that_is_not() -> None:
    assert {found.__name__ for kind in NOUNS for found in inside(kind)} <= set(wire._NAMES)


@pytest.mark.parametrize("kind", NOUNS, ids=lambda kind: kind.__name__)
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_every_noun_arrives_as_it_was_said(kind: type, data: st.DataObject) -> None:
    said = data.draw(told(kind))
    assert wire.unpacked(wire.packed(said)[4:]) == said
