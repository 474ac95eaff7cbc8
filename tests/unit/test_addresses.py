"""Addresses of servers: read from the environment, and never shown with what is secret in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.addresses import Address
from broker.config import read_settings
from broker.errors import UsageError

CANARY = "canary-secret"
DATABASE = "postgresql://me@db/crossfade"


def settings(**env: str):
    return read_settings({"HOME": "/home/me", "CROSSFADE_HOME": "/tmp/x", **env})


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{CANARY}@/:%\n")
    path.chmod(0o600)
    return path


def test_without_addresses_one_process_over_sqlite_does_everything() -> None:
    found = settings()
    assert not found.is_service
    assert (found.postgres, found.redis) == (None, None)


def test_with_addresses_it_is_a_service() -> None:
    found = settings(CROSSFADE_DATABASE=DATABASE, CROSSFADE_REDIS="rediss://r:6380/1")
    assert found.is_service
    assert found.transport().url == "rediss://r:6380/1"


def test_a_password_is_in_no_text_of_an_address() -> None:
    address = Address(f"postgresql://me:{CANARY}@db:5432/x")
    assert CANARY not in f"{address} {address!r} {address.shown}"
    assert address.shown == "postgresql://me:***@db:5432/x"
    found = settings(CROSSFADE_DATABASE=address.url)
    assert CANARY not in f"{found} {found.where}"


def test_a_password_from_a_file_is_escaped_into_the_url(secret: Path) -> None:
    found = settings(CROSSFADE_DATABASE=DATABASE, CROSSFADE_DATABASE_PASSWORD_FILE=str(secret))
    assert found.postgres is not None
    assert found.postgres.url == f"postgresql://me:{CANARY}%40%2F%3A%25@db/crossfade"


def test_a_file_that_everybody_may_read_is_refused(secret: Path) -> None:
    secret.chmod(0o644)
    with pytest.raises(UsageError, match="everybody may read") as refused:
        settings(CROSSFADE_DATABASE=DATABASE, CROSSFADE_DATABASE_PASSWORD_FILE=str(secret))
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines\n", b"\xff\xfe", b"x" * 5000])
def test_a_file_without_one_line_of_text_is_refused(secret: Path, content: bytes) -> None:
    secret.write_bytes(content)
    with pytest.raises(UsageError):
        settings(CROSSFADE_DATABASE=DATABASE, CROSSFADE_DATABASE_PASSWORD_FILE=str(secret))


def test_two_passwords_for_one_server_are_refused_without_telling_either(secret: Path) -> None:
    url = f"postgresql://me:{CANARY}@db/x"
    with pytest.raises(UsageError) as refused:
        settings(CROSSFADE_DATABASE=url, CROSSFADE_DATABASE_PASSWORD_FILE=str(secret))
    assert CANARY not in f"{refused.value} {refused.value.help}"


@pytest.mark.parametrize(
    "env",
    [
        {"CROSSFADE_DATABASE": "mysql://db/x"},
        {"CROSSFADE_DATABASE": "nonsense"},
        {"CROSSFADE_DATABASE": f"postgresql://me:{CANARY}@[db/x"},
        {"CROSSFADE_DATABASE": f"postgresql://me:{CANARY}@db:port/x"},
        {"CROSSFADE_DATABASE": DATABASE, "CROSSFADE_REDIS": "http://r"},
        {"CROSSFADE_DATABASE": DATABASE, "CROSSFADE_REDIS": "rediss://r/0?ssl_cert_reqs=none"},
        {"CROSSFADE_REDIS": "redis://r"},
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_variables_name(env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="CROSSFADE_") as refused:
        settings(**env)
    assert CANARY not in f"{refused.value} {refused.value.help}"


def test_work_without_a_transport_is_refused_where_one_is_needed() -> None:
    with pytest.raises(UsageError, match="CROSSFADE_REDIS"):
        settings(CROSSFADE_DATABASE=DATABASE).transport()
