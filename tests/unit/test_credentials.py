"""What sites' credentials refer to, looked up without asking anybody; and how a secret is kept."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import jwt
import pytest

from broker.credentials import expiry_of, references
from broker.errors import NotFound, UsageError
from broker.logins import advice_for, credential_to_keep, keep_secret
from broker.proven import proof_of, proofs
from connectors.registry import SiteConfig

NOW = 1_800_000_000


def config(**credentials: str) -> SiteConfig:
    return SiteConfig(name="lab", connector="nersc", credentials=credentials)


def token(**claims: object) -> str:
    return jwt.encode(dict(claims), "k" * 32, algorithm="HS256")


def test_a_reference_is_there_with_its_mode_and_end(tmp_path: Path) -> None:
    file = tmp_path / "token"
    keep_secret(file, token(exp=NOW))
    (found,) = references(config(token=f"file:{file}"))
    assert (found.ok, found.mode, found.expires_at) == (True, "0600", NOW * 1_000_000)


def test_an_environment_variable_is_looked_up() -> None:
    there, absent = references(config(a="env:XF_A", b="env:XF_B"), env={"XF_A": "some-secret-value"})
    assert there.ok
    assert not absent.ok
    assert "XF_B" in absent.detail


def test_a_file_that_others_may_read_is_told_with_its_mode_and_the_cure(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret-words")
    file.chmod(0o644)
    (found,) = references(config(token=f"file:{file}"))
    assert (found.ok, found.mode) == (False, "0644")
    assert "chmod 600" in found.detail


def test_a_secret_written_as_itself_is_refused_and_not_shown() -> None:
    (found,) = references(config(token="canary-of-a-secret"))
    assert not found.ok
    assert "canary" not in repr(found)


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_is_no_credential(tmp_path: Path, content: str) -> None:
    file = tmp_path / "token"
    file.write_text(content)
    file.chmod(0o600)
    (found,) = references(config(token=f"file:{file}"))
    assert (found.ok, found.detail) == (False, "it is empty")
    assert found.help == "crossfade login lab"


def claims(value: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip('=')}.x"


@pytest.mark.parametrize(
    "secret",
    [
        "no token",
        "a.b.c",
        "..",
        claims({}),
        claims([1]),
        claims({"exp": "tomorrow"}),
        claims({"exp": True}),
        claims({"exp": 1e300}),
        claims({"exp": -1}),
        f"e30.{'A' * 100_000}.x",
    ],
)
def test_what_does_not_say_when_it_ends_has_no_known_end(secret: str) -> None:
    assert expiry_of(secret) is None


# -- keeping -------------------------------------------------------------------------------------------------------


def test_a_kept_secret_is_nobody_elses_to_read_and_replaces_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "new" / "token"
    keep_secret(file, "first\n")
    file.chmod(0o644)
    keep_secret(file, "  -----BEGIN KEY-----\nsecond\n-----END KEY-----\n")
    assert file.read_text() == "-----BEGIN KEY-----\nsecond\n-----END KEY-----\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in file.parent.iterdir()] == ["token"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("as it was")
    (tmp_path / "token").symlink_to("elsewhere")
    keep_secret(tmp_path / "token", "new")
    assert (tmp_path / "elsewhere").read_text() == "as it was"
    assert not (tmp_path / "token").is_symlink()


@pytest.mark.parametrize("content", ["", " \n", "x" * (1 << 17)])
def test_nothing_and_far_too_much_are_not_kept(tmp_path: Path, content: str) -> None:
    with pytest.raises(UsageError):
        keep_secret(tmp_path / "token", content)
    assert list(tmp_path.iterdir()) == []


def test_which_credential_is_meant_must_be_clear() -> None:
    assert credential_to_keep(config(a="env:A", b="file:/b"), None) == ("b", Path("/b"))
    assert credential_to_keep(config(a="file:/a", b="file:/b"), "b") == ("b", Path("/b"))
    with pytest.raises(UsageError, match="several"):
        credential_to_keep(config(a="file:/a", b="file:/b"), None)
    with pytest.raises(UsageError, match="not a file"):
        credential_to_keep(config(a="env:A"), "a")
    with pytest.raises(UsageError, match="no credential in a file"):
        credential_to_keep(config(), None)
    with pytest.raises(NotFound):
        credential_to_keep(config(a="env:A"), "z")


# -- what comes with the connectors --------------------------------------------------------------------------------


def test_every_connector_says_how_far_it_is_proven() -> None:
    from importlib.metadata import entry_points

    installed = {entry.name for entry in entry_points(group="crossfade.connectors")}
    assert installed <= proofs().keys()
    assert str(proof_of("nersc")).startswith("stand-in only")
    assert "real Slurm" in str(proof_of("command"))
    assert "real processes" in str(proof_of("local"))


def test_a_connector_of_somebody_elses_claims_nothing() -> None:
    assert "not known" in str(proof_of("somebody_elses"))
    assert advice_for("somebody_elses").where == ""


@pytest.mark.parametrize("connector", ["nersc", "iri", "olcf", "kubernetes", "aws_batch", "globus_compute", "command"])
def test_every_connector_with_secrets_says_where_they_are_made(connector: str) -> None:
    assert advice_for(connector).where
