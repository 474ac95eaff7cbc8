"""Connecting to sites: a place is prepared once, by who serves it, and never made anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.clock import wall_clock
from broker.config import Settings
from broker.errors import UsageError
from broker.serving import connect, queues_of
from broker.sites import Sites, load_sites
from broker.store.sql import SqlStore
from connectors.errors import SiteUnreachable


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    document = tmp_path / "sites.yaml"
    sites = {name: {"profile": "local", "root": str(tmp_path / name)} for name in ("here", "there")}
    document.write_text(json.dumps({"crossfade": 1, "sites": sites}))
    return Settings(home=tmp_path / "home", sites=document)


@pytest.fixture
def sites(settings: Settings, tmp_path: Path) -> Sites:
    return load_sites(settings.sites, home=settings.home, cwd=tmp_path, env={})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    made = SqlStore.open(tmp_path / "home" / "crossfade.db", clock=wall_clock)
    yield made
    made.close()


def test_a_site_is_prepared_by_who_serves_it_also_when_another_one_came_first(
    settings: Settings, sites: Sites, store: SqlStore, tmp_path: Path
) -> None:
    connect(settings, sites, store, serves=["there"]).close()
    assert [(tmp_path / name).is_dir() for name in ("here", "there")] == [False, True]
    connect(settings, sites, store, serves=["here"]).close()
    assert (tmp_path / "here").is_dir()


def test_a_place_that_is_gone_is_dark_and_not_made_anew(
    settings: Settings, sites: Sites, store: SqlStore, tmp_path: Path
) -> None:
    connect(settings, sites, store).close()
    shutil.rmtree(tmp_path / "here")
    connected = connect(settings, sites, store)
    with pytest.raises(SiteUnreachable):
        connected.sites["here"].list("spool")
    connected.close()
    assert not (tmp_path / "here").exists()


def test_a_worker_takes_the_queues_that_it_is_given_names_of(sites: Sites) -> None:
    assert queues_of(sites, []) == ["runs", "site.here", "site.there"]
    assert queues_of(sites, ["sites"]) == ["site.here", "site.there"]
    assert queues_of(sites, ["runs", "site.here", "runs"]) == ["runs", "site.here"]
    with pytest.raises(UsageError, match=r"site\.nowhere"):
        queues_of(sites, ["site.nowhere"])
