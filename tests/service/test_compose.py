"""docker-compose.yml: well-formed, careful, and made of commands that work. They run here as plain processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from postgres_kit import PASSWORD, Server
from redis_kit import free_port
from service_kit import House, until

from broker import __version__

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ["migrate", "serve", "worker", "beat", "world"]


def test_it_keeps_to_the_schema_of_compose_files() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_opens_a_port_or_may_write_to_its_image_or_keeps_capabilities(name: str) -> None:
    service = SERVICES[name]
    assert not service.get("ports")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert not any("docker.sock" in str(volume) for volume in service.get("volumes", []))


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "postgres"])
def test_all_but_the_database_which_steps_down_by_itself_run_as_nobody_in_particular(name: str) -> None:
    assert not re.match(r"(0|root)(:|$)", SERVICES[name]["user"])


@pytest.mark.parametrize("name", ["postgres", "redis", "serve", "worker", "beat"])
def test_what_stays_up_is_asked_whether_it_gets_on_and_started_again_when_it_ends(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "always"


def test_no_password_is_written_down_in_it() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert re.findall(r"://[^/\s@]+:[^@\s]+@", text) == []
    for name, service in SERVICES.items():
        for key, value in (service.get("environment") or {}).items():
            assert "PASSWORD" not in key or str(value).startswith("/run/secrets/"), f"{name}: {key}"


def test_the_image_is_named_after_this_version() -> None:
    assert {SERVICES[name]["image"] for name in OURS} == {f"crossfade:{__version__}"}


def test_two_workers_are_asked_for() -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] == 2


# -- its commands ------------------------------------------------------------------------------------------------------


class Ground:
    """What the containers would see, as folders and servers of this machine."""

    def __init__(self, folder: Path, postgres: Server) -> None:
        self.folder, self.secrets = folder, folder / "secrets"
        subprocess.run(["sh", str(ROOT / "deploy/make-secrets.sh"), str(self.secrets)], check=True, capture_output=True)
        (self.secrets / "postgres_password").unlink()
        (self.secrets / "postgres_password").write_text(PASSWORD)
        (self.secrets / "postgres_password").chmod(0o600)
        (self.secrets / "redis_password").chmod(0o600)
        postgres.database()  # with it comes the user that has a password
        self.redis_port, self.postgres_port, self.database = free_port(), postgres.port, postgres.empty()
        postgres.run(f"ALTER DATABASE {self.database} OWNER TO locked")
        (folder / "world").mkdir(mode=0o700)
        sites = (ROOT / "deploy/sites.yaml").read_text(encoding="utf-8")
        (folder / "sites.yaml").write_text(sites.replace("/run/world", str(folder / "world")))
        config = (ROOT / "deploy/redis.conf").read_text(encoding="utf-8")
        config = config.replace("bind 0.0.0.0 -::*", f"bind 127.0.0.1\nport {self.redis_port}")
        (folder / "data").mkdir()
        config = config.replace("dir /data", f"dir {folder / 'data'}").replace("/run/secrets", str(self.secrets))
        (folder / "redis.conf").write_text(config)

    def here(self, text: str) -> str:
        """A container's path or address, as it is on this machine."""
        for there, where in (
            ("/run/secrets", str(self.secrets)),
            ("/etc/crossfade/sites.yaml", str(self.folder / "sites.yaml")),
            ("/run/world", str(self.folder / "world")),
            ("crossfade@postgres/crossfade", f"locked@127.0.0.1:{self.postgres_port}/{self.database}"),
            ("@redis/0", f"@127.0.0.1:{self.redis_port}/0"),
        ):
            text = text.replace(there, where)
        return text

    def argv(self, name: str) -> list[str]:
        """The very command of a service; only the paths are this machine's."""
        service = SERVICES[name]
        entry = service.get("entrypoint", ["crossfade"])
        words = [self.here(word) for word in (*entry, *service["command"])]
        return self._program(words)

    def health(self, name: str) -> list[str]:
        """What a service's health check runs."""
        return self._program([self.here(word) for word in SERVICES[name]["healthcheck"]["test"][1:]])

    def env(self, name: str) -> Mapping[str, str]:
        told = {key: self.here(str(value)) for key, value in (SERVICES[name].get("environment") or {}).items()}
        return {**os.environ, "CROSSFADE_HOME": str(self.folder / "home"), **told}

    @staticmethod
    def _program(words: list[str]) -> list[str]:
        program = {"crossfade": [sys.executable, "-m", "broker.cli"], "python": [sys.executable]}
        return [*program[words[0]], *words[1:]]


@pytest.fixture
def ground(tmp_path: Path, postgres: Server, require_tool: Any) -> Iterator[Ground]:
    made = Ground(tmp_path, postgres)
    redis = subprocess.Popen([require_tool("redis-server"), str(tmp_path / "redis.conf")], stdout=subprocess.DEVNULL)
    yield made
    redis.send_signal(signal.SIGTERM)
    redis.wait(20)


def test_the_services_very_commands_carry_a_run_to_its_end_and_their_health_checks_say_so(
    ground: Ground, tmp_path: Path
) -> None:
    argv, env = ground.argv("migrate"), ground.env("migrate")
    migrate = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert migrate.returncode == 0, migrate.stderr
    house = House(tmp_path / "house", database="postgresql://x/y", redis="redis://x")
    house.env = {**ground.env("serve"), "PYTHONUNBUFFERED": "1"}
    try:
        for name in ("world", "serve", "worker", "worker", "beat"):
            house.start_as(name, ground.argv(name), ground.env(name))
        for name in ("serve", "worker", "beat"):
            healthy = lambda name=name: subprocess.run(  # noqa: E731 - said once
                ground.health(name), env=ground.env(name), capture_output=True, check=False
            )
            until(lambda healthy=healthy: healthy().returncode == 0, f"{name} is healthy", pause=0.5)
        document = tmp_path / "w.yaml"
        document.write_text("crossfade: 1\nname: rehearsal\nstages:\n  a: {run: ':'}\n  b: {run: ':', needs: [a]}\n")
        run = [sys.executable, "-m", "broker.cli", "run", str(document), "--timeout", "60s"]
        done = subprocess.run(run, env=ground.env("serve"), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr + house.told()
    finally:
        house.close()
    assert PASSWORD not in house.told()
    assert (ground.secrets / "redis_password").read_text() not in house.told()
