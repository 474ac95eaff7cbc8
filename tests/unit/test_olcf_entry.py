"""An entry of the site document for a machine behind Slurm's REST API: its options, its files, its exact request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from olcf_kit import PLAIN_38, PLAIN_44, S3M_43, S3M_44, TOKEN, Flavor, Rehearsal, simulated_job

from connectors.contract import new_key
from connectors.errors import CredentialError, RequestRefused, SiteUnreachable
from connectors.model import Accepted, JobState
from connectors.olcf import RestSite
from connectors.olcf import make as make_rest
from connectors.registry import SiteConfig, make_site

FLAVORS = [S3M_43, S3M_44, PLAIN_38, PLAIN_44]
Make = Callable[..., Rehearsal]


@pytest.fixture(params=FLAVORS, ids=lambda flavor: f"{flavor.connector}-{flavor.version}")
def flavor(request: pytest.FixtureRequest) -> Flavor:
    found: Flavor = request.param
    return found


@pytest.fixture
def make(tmp_path: Path, flavor: Flavor) -> Make:
    return lambda *rules, **more: Rehearsal(tmp_path, *rules, **{"flavor": flavor, **more})


def submitted(site: RestSite, *, seconds: float = 600, **more: Any) -> str:
    key = new_key()
    assert isinstance(site.submit([simulated_job(key, seconds=seconds, **more)])[key], Accepted)
    return key


def state(site: RestSite, key: str) -> JobState:
    (item,) = site.status([key]).items
    return item.state


def s3m(folder: Path, *rules: Mapping[str, Any]) -> Rehearsal:
    return Rehearsal(folder, *rules, flavor=S3M_43)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"colour": "red"}, "no option 'colour'"),
        ({"version": "44"}, "version"),
        ({"url": "ftp://x"}, "url"),
        ({"url": "https://user:secret@x"}, "url"),
        ({"environment": {}}, "PATH"),
        ({"environment": {"A": "x\ny"}}, "one line"),
        ({"prefix": "/a b"}, "prefix"),
        ({"deadline": -1}, "seconds"),
        ({"auth": "kerberos"}, "auth"),
        ({"files": "pigeons"}, "files"),
    ],
)
def test_an_entry_that_cannot_be_is_refused_by_the_options_name(make: Make, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make().site(options=options)


def test_a_machine_must_be_named_and_a_user_too(tmp_path: Path) -> None:
    rehearsal = s3m(tmp_path)
    with pytest.raises(ValueError, match="resource"):
        rehearsal.site(options={"resource": "", "prefix": "/slurm/{resource}"})
    with pytest.raises(ValueError, match="user"):
        Rehearsal(tmp_path, flavor=Flavor("slurmrest", "v0.0.38", {})).site()


def test_the_exact_request_is_shown(make: Make, flavor: Flavor) -> None:
    rehearsal = make()
    site, key = rehearsal.site(), new_key()
    job = simulated_job(key)
    shown = site.script(job)
    site.submit([job])
    (posted,) = (one for one in rehearsal.wire.requests if one.method == "POST")
    body = json.loads(posted.content)
    told = json.loads(shown.request.partition("\n\n")[2])
    assert {**told, "script": shown.script} == body
    assert shown.request.splitlines()[0] == f"POST {posted.url}"
    assert ("jobs" in body) is (flavor.version == "v0.0.44")
    assert f"exec /bin/sh {job.entry}" in shown.script


def test_an_unreachable_service_refuses_nothing(make: Make) -> None:
    rehearsal = make()
    site = rehearsal.site()
    rehearsal.wire.cut = True
    with pytest.raises(SiteUnreachable) as caught:
        site.submit([simulated_job(new_key())])
    assert not caught.value.effect_possible
    assert not isinstance(caught.value, RequestRefused)


def test_files_are_reached_through_a_shell_where_nothing_is_mounted(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, flavor=PLAIN_38)
    root = tmp_path / "at-the-site"
    config = rehearsal.config(root=str(root), options={"files": "command", "shell": {"deadline": "20s"}})
    site = make_rest(config, rehearsal.clock, transport=rehearsal.wire)
    assert site.prepare() == site.prepare()
    site.write("a/b.txt", b"through a shell")
    assert (root / "a" / "b.txt").read_bytes() == b"through a shell"
    with pytest.raises(ValueError, match="no option 'colour'"):
        make_rest(rehearsal.config(options={"files": "command", "shell": {"colour": "red"}}), rehearsal.clock)


def test_files_are_reached_through_a_mount(tmp_path: Path) -> None:
    rehearsal = Rehearsal(tmp_path, flavor=PLAIN_38)
    mount = tmp_path / "seen-here"
    config = rehearsal.config(root="/lustre/orion/abc123", options={"mount": str(mount)})
    site = make_rest(config, rehearsal.clock, transport=rehearsal.wire)
    site.prepare()
    key = new_key()
    site.submit([simulated_job(key)])
    assert (mount / f"runs/{key}/.crossfade/stage.sh").exists()
    (view,) = rehearsal.facility.jobs()
    assert view.order.directory == f"/lustre/orion/abc123/runs/{key}"
    with pytest.raises(ValueError, match="mount"):
        make_rest(rehearsal.config(), rehearsal.clock)


@pytest.mark.parametrize("name", ["olcf", "slurmrest"])
def test_both_names_make_the_same_kind_of_site(name: str, tmp_path: Path) -> None:
    options = {"resource": "odo", "mount": str(tmp_path)} if name == "olcf" else {"user": "me", "mount": str(tmp_path)}
    config = SiteConfig(name="s", connector=name, root="/lustre/x", options=options)
    site = make_site(config, lambda: 0)
    assert isinstance(site, RestSite)
    prefix = "/slurm/open/v0.0.43/odo/" if name == "olcf" else "/slurm/v0.0.38/"
    assert f"{prefix}job/submit" in site.script(simulated_job(new_key())).request
    site.close()


def test_a_token_may_stand_there_as_scontrol_prints_it(make: Make) -> None:
    rehearsal = make()
    rehearsal.put_token(f"SLURM_JWT={TOKEN}")
    assert rehearsal.site().status([new_key()]).complete
    rehearsal.put_token(f"Bearer {TOKEN}")
    with pytest.raises(CredentialError, match="no token has"):
        rehearsal.site().status([new_key()])
