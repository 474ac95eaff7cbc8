"""The shipped profiles: each is sound, is known to its connector, and is what the reference says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from broker.facts import site_facts, site_setup
from broker.jobs import launch_line
from broker.sites import sites_of
from broker.spec import document_from
from broker.spec.profiles import profile, profile_names
from connectors.model import Resources
from connectors.registry import SiteConfig, make_site
from policies.fit import Fit, fit
from policies.model import Ranks, Rules

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "profiles.md"
UUID = "55c1c993-1124-47f9-b823-514ba3849a9a"
ROOTS = {"kubernetes": "s3://bucket/crossfade", "aws/batch": "s3://bucket/crossfade", "simulated": "/tmp/sim"}
TOLD: dict[str, dict[str, Any]] = {
    "alcf/aurora": {"options": {"host": "aurora"}},
    "olcf/frontier": {"options": {"host": "frontier"}},
    "olcf/defiant": {"options": {"files": "mounted", "mount": "/tmp"}},
    "slurm/ssh": {"options": {"host": "campus"}},
    "slurm/rest": {"options": {"url": "http://127.0.0.1:6820", "user": "ann", "files": "mounted", "mount": "/tmp"}},
    "pbs/ssh": {"options": {"host": "campus"}},
    "kubernetes": {
        "options": {"image": "a/b:1", "server": "https://k.example.org", "endpoint": "https://s3.example.org"},
        "credentials": {"access_key": "env:PROFILE_TOKEN", "secret_key": "env:PROFILE_TOKEN"},
    },
    "aws/batch": {
        "options": {"queue": "q", "definition": "d", "endpoint": "https://s3.example.org"},
        "credentials": {"access_key": "env:PROFILE_TOKEN", "secret_key": "env:PROFILE_TOKEN"},
    },
    "iri/nersc": {"options": {"resource": UUID, "file_system": UUID}},
    "iri/olcf": {"options": {"resource": UUID, "mount": "/tmp"}},
}
"""What an entry must say that no profile can know."""
SHIPPED = {
    "local", "simulated", "nersc/perlmutter", "nersc/perlmutter-gpu", "alcf/polaris", "alcf/crux", "alcf/aurora",
    "olcf/frontier", "olcf/defiant", "slurm", "slurm/ssh", "slurm/rest", "pbs", "pbs/ssh", "kubernetes", "aws/batch",
    "iri/nersc", "iri/olcf",
}  # fmt: skip


def config_of(name: str) -> SiteConfig:
    told = TOLD.get(name, {})
    credentials = told.get("credentials", {}) | {"token": "env:PROFILE_TOKEN"}
    entry = {"profile": name, "root": ROOTS.get(name, "/scratch/crossfade"), "credentials": credentials}
    raw = document_from({"crossfade": 1, "sites": {"x": entry | {"options": told.get("options", {})}}}, name="t")
    return sites_of(raw, base=Path("/"), where="").configs["x"]


def test_the_machines_of_the_users_are_shipped() -> None:
    assert set(profile_names()) == SHIPPED


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_makes_a_site_whose_connector_knows_its_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROFILE_TOKEN", "a-token-for-a-test")
    config = config_of(name)
    site = make_site(config, lambda: 0)
    assert config.claim in ("", site.claim)


@pytest.mark.parametrize("name", profile_names())
def test_a_small_stage_finds_a_lane_and_a_launch_line(name: str) -> None:
    config = config_of(name)
    facts = site_facts(site_setup(config), None, load=0, share=1, now=0)
    nodes = config.lane_limits["normal"].min_nodes
    found = fit(Rules(resources=Resources(nodes=nodes)), facts)
    assert isinstance(found, Fit), found
    line = launch_line({"image": "a/b:1"}, found.resources, config)
    assert "{" not in line
    assert config.container in ("", "native") or "a/b:1" in line


@pytest.mark.parametrize("name", [name for name in profile_names() if profile(name).gpus and profile(name).launcher])
def test_ranks_with_gpus_are_laid_out_on_machines_that_have_some(name: str) -> None:
    config = config_of(name)
    facts = site_facts(site_setup(config), None, load=0, share=1, now=0)
    nodes = config.lane_limits["normal"].min_nodes
    found = fit(Rules(ranks=Ranks(count=4 * max(nodes, 4), cores=4, gpus=1, nodes=max(nodes, 4))), facts)
    assert isinstance(found, Fit), found
    line = launch_line({}, found.resources, config)
    assert re.search(rf"(-n |--ntasks=){found.resources.ranks}\b", line)


@pytest.mark.parametrize("name", profile_names())
def test_a_profiles_times_fit_each_other(name: str) -> None:
    config = config_of(name)
    assert config.fence >= 2 * config.heartbeat
    assert config.poll < config.unreachable_seconds
    assert config.lanes.keys() >= {"normal"}
    longest = [limits.longest(limits.max_nodes or 1) for limits in config.lane_limits.values()]
    assert config.max_walltime is None or all(limit is None or limit <= config.max_walltime for limit in longest)


def row_of(name: str) -> str:
    """The profile's line in the reference."""
    p, c = profile(name), config_of(name)
    figures = [str(figure) if figure else "" for figure in (p.cores, p.gpus)]
    memory = f"{p.memory // 10**9} GB" if p.memory else ""
    lanes = ", ".join(lane + (f" ({' '.join(words.values())})" if words else "") for lane, words in c.lanes.items())
    cells = (f"`{name}`", p.about, p.connector or "", *figures, memory, str(p.nodes or ""), lanes, p.claim or "")
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def test_the_reference_shows_every_profile_as_it_is() -> None:
    page = PAGE.read_text()
    missing = [row for name in profile_names() if (row := row_of(name)) not in page]
    assert not missing, "\n".join(missing)
    shown = re.findall(r"^\| `([a-z/-]+)` \|", page.partition("\n## ")[0], re.MULTILINE)
    assert tuple(shown) == profile_names()
