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
from connectors.errors import CredentialError, SiteUnreachable


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


def with_clouds(settings: Settings, tmp_path: Path, **options: object) -> Sites:
    """The document with a Kubernetes site more, of which nothing is there."""
    document = json.loads(settings.sites.read_text())
    document["sites"]["cloud"] = {
        "profile": "kubernetes",
        "root": "s3://bucket/crossfade",
        "credentials": {
            "kubeconfig": f"file:{tmp_path}/nothing",
            "access_key": "env:NO_KEY",
            "secret_key": "env:NO_KEY",
        },
        "options": options,
    }
    settings.sites.write_text(json.dumps(document))
    return load_sites(settings.sites, home=settings.home, cwd=tmp_path, env={})


def test_a_credential_that_is_missing_leaves_the_other_sites_served_and_is_told_at_its_own(
    settings: Settings, store: SqlStore, tmp_path: Path
) -> None:
    connected = connect(settings, with_clouds(settings, tmp_path), store)
    assert connected.sites["here"].list("spool") == []
    cloud = connected.sites["cloud"]
    for ask in (lambda: cloud.list("spool"), lambda: cloud.status(["cf0"]), lambda: cloud.submit([])):
        with pytest.raises(CredentialError, match="nothing"):
            ask()
    (evidence,) = cloud.probe()
    assert (evidence.capability, evidence.ok) == ("credentials", False)
    connected.close()


def test_an_option_that_cannot_be_is_told_with_where_it_is_mended(
    settings: Settings, store: SqlStore, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        connect(settings, with_clouds(settings, tmp_path, in_cluster="perhaps"), store)
    assert "in_cluster" in str(caught.value)
    assert "mend the site document" in str(caught.value.help)
