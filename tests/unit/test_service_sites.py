"""Where a document may go, as `plan` and `submit` tell it before anything is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
from broker_kit import Lab, Stage, site

from broker.clock import VirtualClock
from broker.config import Settings
from broker.errors import RefusedByPolicy
from broker.service import Request, Service
from broker.sites import load_sites, sites_of
from broker.spec import parse_document

GOLDEN = Path(__file__).parents[1] / "golden"


def service(home: Path, sites: str = "") -> Service:
    """Over the sites of the golden files, or those of this text."""
    clock = VirtualClock()
    given = f"crossfade: 1\nsites:\n{sites}"
    found = (
        sites_of(parse_document(given, name="sites.yaml"), base=home, where="")
        if sites
        else load_sites(GOLDEN / "sites.yaml", home=home, cwd=home, env={})
    )
    return Service(settings=Settings(home=home, user="ann"), store=Lab(clock=clock).store, sites=found, clock=clock)


def request(text: str, **params: str) -> Request:
    return Request(document=parse_document(f"crossfade: 1\nname: t\n{text}", name="t.yaml"), params=params)


def told(plan: list[dict[str, object]]) -> str:
    return str(plan[0]["words"])


SOLVE = """\
policy: {sites: {allow: [perlmutter, polaris, college]}, lane: %s}
stages:
  solve:
    run: ${{ launch }} solve
    resources: {ranks: 64, gpus_per_rank: 1, cores_per_rank: 8}
"""


def test_a_plan_tells_the_lane_and_those_that_were_passed_over(tmp_path: Path) -> None:
    (stage,) = service(tmp_path).plan(
        request(SOLVE % "[preemptible, normal]" + "    policy: {sites: {prefer: [polaris]}}\n")
    )
    assert (stage["outcome"], stage["site"]) == ("place", "polaris")
    assert "in its lane normal" in told([stage])
    assert "asks for 16 nodes, the lane preemptible of polaris ends at 10" in told([stage])


def test_a_plan_tells_which_sites_lack_the_lane(tmp_path: Path) -> None:
    plan = service(tmp_path).plan(request(SOLVE % "urgent"))
    assert plan[0]["site"] in ("perlmutter", "polaris")
    assert "college has no lane urgent" in told(plan)


def test_what_no_site_known_has_a_lane_for_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    with pytest.raises(RefusedByPolicy, match="cluster has no lane urgent"):
        service(tmp_path).submit(request("policy: {sites: {allow: [cluster]}, lane: urgent}\nstages: {a: {run: x}}\n"))


IMAGE = "stages:\n  a: {run: '${{ launch }} x', software: {image: a/b}}\n"


def test_an_image_goes_to_no_site_that_runs_no_containers(tmp_path: Path) -> None:
    only = service(tmp_path, "  desk: {profile: local, root: r}\n")
    with pytest.raises(RefusedByPolicy, match="desk runs no containers"):
        only.submit(request(IMAGE))
    both = service(tmp_path, "  desk: {profile: local, root: r}\n  nersc: {profile: nersc/perlmutter, root: /r}\n")
    plan = both.plan(request(IMAGE))
    assert plan[0]["site"] == "nersc"
    assert "desk runs no containers" in told(plan)


def test_a_plan_passes_over_a_site_that_lacks_a_variable(tmp_path: Path) -> None:
    plan = service(tmp_path).plan(
        request("policy: {lane: urgent}\nstages: {a: {run: 'x ${{ site.vars.tomopy_env }}'}}\n")
    )
    assert plan[0]["site"] == "alcf"
    assert "perlmutter has no vars.tomopy_env, which the command names" in told(plan)


class Contained(Stage):
    def body(self) -> dict[str, object]:
        return {**super().body(), "image": "a/b"}


def test_the_engine_places_an_image_where_containers_run() -> None:
    lab = Lab(site("desk"), site("nersc", container="run {image}"))
    run = lab.submit(*[Contained(f"s{n}", "seconds=5") for n in range(3)])
    assert lab.finish(run) == "SUCCEEDED"
    assert {attempt.site for n in range(3) for attempt in lab.attempts(run, f"s{n}")} == {"nersc"}
