"""deploy/systemd: units that start commands which exist, with settings that are read, and with few rights."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pytest

from broker.cli.app import app
from broker.config import read_settings

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
Unit = Mapping[str, Sequence[str]]
PROGRAM = "/opt/crossfade/bin/crossfade"


def unit(name: str) -> Unit:
    """Its settings as `Section.Name`; each may be there several times."""
    found, section = defaultdict[str, list[str]](list), ""
    for line in (UNITS / name).read_text().splitlines():
        if heading := re.fullmatch(r"\[(\w+)\]", line):
            section = heading[1]
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals == "=" * bool(re.fullmatch(r"[A-Z]\w+", key)), line
            found[f"{section}.{key}"].append(value)
    return found


def verb(name: str) -> Sequence[str]:
    (line,) = unit(name)["Service.ExecStart"]
    program, *words = shlex.split(line)
    assert program == PROGRAM
    return words


def told(name: str) -> dict[str, str]:
    return dict(value.split("=", 1) for value in unit(name)["Service.Environment"])


def test_there_is_a_unit_for_each_process_of_a_service() -> None:
    assert [verb(name)[0] for name in SERVICES] == ["beat", "serve", "worker"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_units_command_and_its_options_are_ones_that_there_are(name: str) -> None:
    first, *words = verb(name)
    context = click.Context(app)
    command = app.get_command(context, first)
    assert command is not None
    assert command.make_context(first, list(words), parent=context).params


@pytest.mark.parametrize("name", SERVICES)
def test_a_units_settings_are_read_and_its_passwords_come_from_credentials(name: str, tmp_path: Path) -> None:
    environ = told(name)
    assert environ["CROSSFADE_HOME"] == "/var/lib/" + unit(name)["Service.StateDirectory"][0]
    handed = dict(value.split(":", 1) for value in unit(name)["Service.LoadCredential"])
    for credential in handed:
        (tmp_path / credential).write_text(f"{credential}-canary\n")
        (tmp_path / credential).chmod(0o400)
    environ = {key: value.replace("%d", str(tmp_path)) for key, value in environ.items()}
    addresses = {"CROSSFADE_DATABASE": "postgresql://u@h/d", "CROSSFADE_REDIS": "redis://u@h/0"}
    settings = read_settings({**environ, **addresses})
    assert settings.postgres is not None
    assert "postgres_password-canary" in settings.postgres.url
    assert settings.redis is not None
    assert "redis_password-canary" in settings.redis.url
    assert "canary" not in f"{settings}"


@pytest.mark.parametrize("name", SERVICES)
def test_what_ends_is_started_again_without_end(name: str) -> None:
    found = unit(name)
    assert found["Service.Restart"] == ["always"]
    assert found["Unit.StartLimitIntervalSec"] == ["0"]


def test_jobs_of_local_sites_outlive_their_worker() -> None:
    assert unit("crossfade-worker@.service")["Service.KillMode"] == ["process"]


@pytest.mark.parametrize("name", SERVICES)
@pytest.mark.parametrize(
    "setting",
    ["User=crossfade", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "CapabilityBoundingSet=",
     "PrivateTmp=yes", "UMask=0077", "StateDirectoryMode=0700", "SystemCallFilter=@system-service"],
)  # fmt: skip
def test_a_unit_has_few_rights(name: str, setting: str) -> None:
    key, value = setting.split("=", 1)
    assert unit(name)[f"Service.{key}"] == [value]


def test_the_target_wants_every_service_and_two_workers() -> None:
    (wanted,) = unit("crossfade.target")["Unit.Wants"]
    names = [re.sub(r"@\w+", "@", name) for name in wanted.split()]
    assert sorted(set(names)) == SERVICES
    assert names.count("crossfade-worker@.service") == 2
    for name in SERVICES:
        assert unit(name)["Unit.PartOf"] == unit(name)["Install.WantedBy"] == ["crossfade.target"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_itself_has_nothing_to_say_about_them(tmp_path: Path) -> None:
    for path in UNITS.iterdir():
        (tmp_path / path.name).write_text(path.read_text().replace(PROGRAM, shutil.which("true") or "/bin/true"))
    (wanted,) = unit("crossfade.target")["Unit.Wants"]
    files = [str(tmp_path / name) for name in ("crossfade.target", *wanted.split())]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files],
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "crossfade" in line]) == (0, [])
