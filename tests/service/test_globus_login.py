"""A person logs in to Globus: from the command line, and what the mover then does with it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner
from globus_kit import NATIVE, id_of
from globus_mover_kit import A_ROOT, Rig, a_rig

from broker.cli.app import app
from broker.globus import Demands, Wanted, collection_finding, collection_warnings, globus_references, log_in, wanted_of
from broker.trial import STEPS
from connectors.errors import CredentialError
from connectors.globus_api.identity import PersonIdentity
from connectors.model import TransferState
from connectors.registry import GlobusConfig, SiteConfig
from sandbox.globus import GUEST


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with a_rig(tmp_path) as made:
        made.globus.collections["store"].entity_type = GUEST
        made.globus.collections["store"].need_data_access = None
        made.put("a", "from/a", b"A")
        yield made


@pytest.fixture
def person(rig: Rig, tmp_path: Path) -> GlobusConfig:
    """A native client, and nobody who has logged in."""
    path = tmp_path / "native"
    path.write_text(NATIVE.id)
    path.chmod(0o600)
    config = replace(rig.config, client_id=f"file:{path}", client_secret="", tokens=tmp_path / "home" / "globus")
    for name in ("a", "b"):
        rig.configs[name] = replace(rig.configs[name], globus=config)
    return config


class Browser:
    """Goes where it is told, and brings back the code."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, address: str) -> str:
        self.asked.append(address)
        return httpx.get(address).text


def _log_in(rig: Rig, config: GlobusConfig, **more: Any) -> Browser:
    browser = Browser()
    wanted = wanted_of(rig.configs, rig.places)
    log_in(config, wanted, ask=browser, clock=rig.globus.clock, **more)
    return browser


def test_whoever_logs_in_consents_to_all_collections_that_want_it(rig: Rig, person: GlobusConfig) -> None:
    browser = _log_in(rig, person)
    assert len(browser.asked) == 2  # what kinds they are, Globus tells nobody before
    login = PersonIdentity(person).login()
    assert set(login.consents) == {id_of("a"), id_of("b")}
    assert list(login.without) == [id_of("store")]
    assert login.name == rig.globus.auth.user.username
    mover = rig.connect(config=person)
    assert rig.settled(mover, rig.transfer(("from/a", "to/a"))).state is TransferState.SUCCEEDED
    assert rig.get("b", "to/a") == b"A"


def test_the_next_login_asks_once(rig: Rig, person: GlobusConfig) -> None:
    _log_in(rig, person)
    assert len(_log_in(rig, person).asked) == 1


def test_tokens_are_for_nobody_else_to_read(rig: Rig, person: GlobusConfig) -> None:
    _log_in(rig, person)
    assert person.tokens is not None
    file = person.tokens / f"{NATIVE.id}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(person.tokens.stat().st_mode) == 0o700
    file.chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        PersonIdentity(person).login()


def test_without_a_login_transfers_are_held_with_the_command_and_go_on_after_it(rig: Rig, person: GlobusConfig) -> None:
    mover, transfer = rig.connect(config=person), rig.transfer(("from/a", "to/a"))
    mover.submit([transfer])
    status = mover.status(["k1"])["k1"]
    assert (status.state, status.help) == (TransferState.HELD, "crossfade login globus")
    assert [item.capability for item in mover.probe() if not item.ok] == ["credentials"]
    _log_in(rig, person)
    assert rig.settled(mover, transfer, submit=False).state is TransferState.SUCCEEDED
    assert rig.transfers == 1


def test_a_missing_consent_holds_only_what_needs_it(rig: Rig, person: GlobusConfig) -> None:
    wanted = wanted_of({"a": rig.configs["a"]}, rig.places)
    log_in(person, wanted, ask=Browser(), clock=rig.globus.clock)
    mover = rig.connect(config=person)
    held = rig.settled(mover, rig.transfer(("from/a", "to/a")))
    assert (held.state, held.help) == (TransferState.HELD, f"crossfade login globus --consent {id_of('b')}")
    other = rig.transfer(("from/a", "x"), key="k2", destination_site="store:")
    assert rig.settled(mover, other).state is TransferState.SUCCEEDED


def test_an_access_token_that_ends_is_renewed_and_kept(rig: Rig, person: GlobusConfig) -> None:
    _log_in(rig, person)
    before = PersonIdentity(person).login().tokens["transfer.api.globus.org"]
    for token in list(rig.globus.auth._tokens.values()):
        if not token.refresh:
            rig.globus.auth.revoke(token.value)
    mover = rig.connect(config=person)
    assert rig.settled(mover, rig.transfer(("from/a", "to/a"))).state is TransferState.SUCCEEDED
    after = PersonIdentity(person).login().tokens["transfer.api.globus.org"]
    assert after.access != before.access
    assert after.refresh


def test_a_login_that_was_taken_back_is_told_and_nothing_is_asked_at_a_prompt(rig: Rig, person: GlobusConfig) -> None:
    _log_in(rig, person)
    rig.globus.auth.revoke_all()
    for token in list(rig.globus.auth._tokens):
        rig.globus.auth.revoke(token)
    mover = rig.connect(config=person)
    status = rig.settled(mover, rig.transfer(("from/a", "to/a")))
    assert (status.state, status.help) == (TransferState.HELD, "crossfade login globus")
    _log_in(rig, person)
    assert rig.settled(mover, rig.transfer(("from/a", "to/a"))).state is TransferState.SUCCEEDED


def test_a_session_that_a_facility_wants_is_asked_for(rig: Rig, person: GlobusConfig) -> None:
    browser = _log_in(rig, person, demands=Demands(domains=["alcf.anl.gov"], mfa=True))
    assert "session_required_single_domain=alcf.anl.gov" in browser.asked[0]
    assert "session_required_mfa=True" in browser.asked[0]


def test_what_lacks_is_listed_with_its_command(rig: Rig, person: GlobusConfig) -> None:
    wanted = wanted_of(rig.configs, rig.places)
    none = globus_references(person, wanted)
    assert [(one.name, one.ok, one.help) for one in none][-1] == ("login", False, "crossfade login globus")
    log_in(person, Wanted(collections={id_of("a"): "a"}), ask=Browser(), clock=rig.globus.clock)
    found = {one.name: one for one in globus_references(person, wanted)}
    assert found["login"].ok
    assert found["login"].detail == rig.globus.auth.user.username
    assert found["consent of b"].help == f"crossfade login globus --consent {id_of('b')}"
    assert "consent of a" not in found
    assert collection_warnings(rig.configs["a"]) == []
    assert f"`crossfade login globus --consent {id_of('b')}`" in collection_warnings(rig.configs["b"])[0]


def test_without_a_client_id_it_is_said_that_none_is_shipped(rig: Rig) -> None:
    found = globus_references(GlobusConfig(), wanted_of(rig.configs, rig.places))
    assert "none is shipped" in found[0].detail
    assert globus_references(GlobusConfig(), Wanted()) == ()


def test_the_step_collection_of_a_site_check_says_what_it_has_seen(rig: Rig) -> None:
    assert "collection" in STEPS
    config = rig.configs["a"]
    found = collection_finding(config)
    assert (found.ok, found.step) == (True, "collection")
    rig.darken("a")
    assert collection_finding(config).ok is False
    rig.collection("a").down = ""
    assert "no folder" in collection_finding(replace(config, root="/lustre/absent")).detail
    assert collection_finding(replace(config, root="/elsewhere")).ok is False
    assert collection_finding(replace(config, globus=GlobusConfig())).ok is None


# -- from the command line -----------------------------------------------------------------------------------


def _document(rig: Rig, config: GlobusConfig, folder: Path) -> Path:
    site = {"profile": "slurm/ssh", "root": f"/lustre/{A_ROOT}", "collection": id_of("a"), "collection_base": "/lustre"}
    known = {"client_id": config.client_id, "transfer_url": config.transfer_url, "auth_url": config.auth_url}
    if config.client_secret:
        known["client_secret"] = config.client_secret
    path = folder / "sites.yaml"
    sites = {"cluster": {**site, "options": {"host": "h"}, "account": "x"}}
    path.write_text(yaml.safe_dump({"crossfade": 1, "sites": sites, "globus": known}))
    return path


def _run(rig: Rig, config: GlobusConfig, folder: Path, *words: str, stdin: str = "") -> Any:
    document = _document(rig, config, folder)
    env = {"CROSSFADE_HOME": str(folder / "home"), "CROSSFADE_SITES": str(document)}
    return CliRunner().invoke(app, [*words], input=stdin, env=env)


def test_the_command_line_shows_the_address_and_takes_the_code(
    rig: Rig, person: GlobusConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Browser()
    monkeypatch.setattr("broker.cli.login_globus._ask", browser)
    done = _run(rig, person, tmp_path, "login", "globus", "-o", "json")
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    assert [(row["site"], row["open"]) for row in told["collections"]] == [("cluster", True)]
    listed = _run(rig, person, tmp_path, "credential", "ls", "-o", "json")
    rows = {row["credential"]: row for row in json.loads(listed.stdout) if row["site"] == "globus"}
    assert rows["login"]["there"]
    assert rows["login"]["detail"] == rig.globus.auth.user.username
    assert _run(rig, person, tmp_path, "credential", "check", "globus").exit_code == 0
    assert "access" not in listed.stdout


def test_a_code_that_is_wrong_is_told_without_it(rig: Rig, person: GlobusConfig, tmp_path: Path) -> None:
    done = _run(rig, person, tmp_path, "login", "globus", stdin="not-a-code-at-all\n")
    assert "not-a-code-at-all" not in done.output
    assert done.exit_code != 0
    assert "authorize" in done.output  # the address was shown


def test_the_service_client_is_only_looked_at(rig: Rig, tmp_path: Path) -> None:
    done = _run(rig, rig.config, tmp_path, "login", "globus", "--service", "-o", "json")
    assert done.exit_code == 0, (done.output, done.exception)
    refused = _run(rig, rig.config, tmp_path, "login", "globus")
    assert "nobody needs to log in" in refused.output


@pytest.mark.parametrize("words", [("--consent", "x"), ("--domain", "a b; rm"), ("--policy", "../x")])
def test_options_of_no_known_shape_are_refused(
    rig: Rig, person: GlobusConfig, tmp_path: Path, words: tuple[str, str]
) -> None:
    done = _run(rig, person, tmp_path, "login", "globus", *words)
    assert done.exit_code != 0
    assert "is no" in done.output


def test_options_for_globus_are_for_globus_alone(rig: Rig, person: GlobusConfig, tmp_path: Path) -> None:
    done = _run(rig, person, tmp_path, "login", "cluster", "--mfa")
    assert "login globus" in done.output
    assert SiteConfig(name="x", connector="y").globus == GlobusConfig()
