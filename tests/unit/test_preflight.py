"""The cheap look at every site that work may go to, before it is handed over."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest

from broker.logins import keep_secret
from broker.preflight import warnings_for
from broker.store.base import EvidenceRow as Fact
from broker.store.base import SiteRow
from connectors.registry import SiteConfig

NOW = 1_800_000_000 * 1_000_000
HOUR = 3600
FINE = Fact("lab", NOW, "status", ok=True, latency_us=0, detail="")


def looked(config: SiteConfig, *evidence: Fact, row: SiteRow | None = None, credentials: bool = True) -> list[str]:
    return warnings_for(config, row, list(evidence), now=NOW, credentials=credentials, env={})


def with_token(path: Path, *, ends_in: float) -> SiteConfig:
    keep_secret(path, jwt.encode({"exp": NOW // 1_000_000 + ends_in}, "k" * 32, algorithm="HS256"))
    return SiteConfig(name="lab", connector="olcf", credentials={"token": f"file:{path}"})


def test_a_site_without_credentials_and_news_is_not_warned_of() -> None:
    assert looked(SiteConfig(name="lab", connector="local")) == []


def test_a_credential_that_is_not_there_is_warned_of_by_name_with_the_command() -> None:
    config = SiteConfig(name="lab", connector="olcf", credentials={"token": "file:/nowhere/token"})
    (warning,) = looked(config, FINE)
    assert warning.startswith("lab: credential token: ")
    assert "`crossfade login lab`" in warning


@pytest.mark.parametrize(("ends_in", "words"), [(-HOUR, "has ended"), (3 * HOUR, "ends in 3.0 h"), (48 * HOUR, "")])
def test_a_credential_is_warned_of_before_it_ends(tmp_path: Path, ends_in: float, words: str) -> None:
    warnings = looked(with_token(tmp_path / "token", ends_in=ends_in), FINE)
    assert len(warnings) == bool(words)
    assert all(words in warning for warning in warnings)


def test_the_newest_evidence_of_each_capability_counts(tmp_path: Path) -> None:
    config = with_token(tmp_path / "token", ends_in=48 * HOUR)
    cured = Fact("lab", NOW - 1, "files", ok=False, latency_us=0, detail="quota")
    warnings = looked(
        config, cured, Fact("lab", NOW, "files", True, 0, ""), Fact("lab", NOW, "submit", False, 0, "closed")
    )
    assert len(warnings) == 1
    assert "submit did not work" in warnings[0]
    assert "closed" in warnings[0]


def test_what_is_wrong_with_a_credential_is_told_once() -> None:
    config = SiteConfig(name="lab", connector="olcf", credentials={"token": "env:XF_NOT_SET"})
    assert len(looked(config, FINE, Fact("lab", NOW, "credentials", False, 0, "XF_NOT_SET is not set"))) == 1


def test_a_remote_site_that_nobody_has_tried_is_told(tmp_path: Path) -> None:
    (warning,) = looked(with_token(tmp_path / "token", ends_in=48 * HOUR))
    assert "never been tried" in warning


def test_a_silent_site_is_told_once_its_probes_are_spent() -> None:
    config = SiteConfig(name="lab", connector="local", unreachable_probes=3)
    row = SiteRow(**{**dict.fromkeys(SiteRow._fields, None), "site": "lab", "cannot_ask_since": NOW - 90_000_000})
    assert looked(config, row=row._replace(probes=2)) == []
    (warning,) = looked(config, row=row._replace(probes=3))
    assert "90 s, 3 probes" in warning


def test_where_the_credentials_are_elsewhere_they_are_not_missed() -> None:
    config = SiteConfig(name="lab", connector="olcf", credentials={"token": "env:XF_NOT_SET"})
    assert looked(config, FINE, credentials=False) == []


@pytest.mark.parametrize(("capability", "warned"), [("status", 0), ("credentials", 0), ("submit", 1)])
def test_a_site_that_has_answered_since_is_there_and_lets_us_in(capability: str, warned: int) -> None:
    config = SiteConfig(name="lab", connector="local")
    row = SiteRow(**{**dict.fromkeys(SiteRow._fields, None), "site": "lab", "last_ok_at": NOW})
    bad = Fact("lab", NOW - 1, capability, ok=False, latency_us=0, detail="no")
    assert len(looked(config, bad, row=row)) == warned
    assert len(looked(config, bad, row=row._replace(last_ok_at=NOW - 2))) == 1
