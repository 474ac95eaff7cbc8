"""Secrets come by reference, from places closed to others, and are shown to nobody."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from connectors.errors import CredentialError
from connectors.secrets import MASK, Secret, private_file, scrub, secret_from


def test_a_secret_shows_itself_to_nobody() -> None:
    secret = Secret("a-long-canary-0451")
    assert "canary" not in f"{secret} {secret!r} {[secret]} { ({'key': secret}) }"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_a_secret_is_taken_out_of_any_text() -> None:
    Secret("another-canary-77")
    assert scrub("Authorization: Bearer another-canary-77!") == f"Authorization: Bearer {MASK}!"


def test_each_line_of_a_key_is_taken_out_too() -> None:
    Secret("-----BEGIN KEY-----\nMIIEvQIBADANBgkqh\n-----END KEY-----")
    assert "MIIEvQIBADANBgkqh" not in scrub("key is MIIEvQIBADANBgkqh, said openssl")


def test_short_values_stay_in_texts_that_hold_them_by_chance() -> None:
    Secret("yes")
    assert scrub("yes, it is") == "yes, it is"


def test_an_environment_variable_is_read_when_it_is_asked_for() -> None:
    assert secret_from("env:TOKEN", env={"TOKEN": "value-of-it"}).reveal() == "value-of-it"
    with pytest.raises(CredentialError, match="TOKEN is not set"):
        secret_from("env:TOKEN", env={})


def test_a_file_is_read_without_its_last_newline(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("value-of-it\n")
    file.chmod(0o600)
    assert secret_from(f"file:{file}").reveal() == "value-of-it"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o666, 0o610])
def test_a_file_that_others_may_use_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "token"
    file.write_text("value-of-it")
    file.chmod(mode)
    with pytest.raises(CredentialError, match=f"chmod 600 {file}"):
        secret_from(f"file:{file}")


def test_what_is_no_file_of_that_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="No such file"):
        private_file(tmp_path / "nothing")
    with pytest.raises(CredentialError, match="regular"):
        private_file(tmp_path)
    large = tmp_path / "large"
    large.write_bytes(b"x" * 100_000)
    large.chmod(0o600)
    with pytest.raises(CredentialError, match="larger"):
        private_file(large)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    binary.chmod(0o600)
    with pytest.raises(CredentialError, match="no text"):
        secret_from(f"file:{binary}")


@pytest.mark.parametrize("reference", ["the-token-itself", "env:", "env:NOT A NAME", "file:", "http://x/y", ""])
def test_a_value_in_place_of_a_reference_is_refused_and_not_repeated(reference: str) -> None:
    with pytest.raises(CredentialError) as caught:
        secret_from(reference, env={})
    assert "the-token-itself" not in str(caught.value)
