"""A service under random faults for minutes: what is done to it, and what it holds when all is over."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from postgres_kit import Server
from proxy_kit import Proxy, Way
from redis_kit import RedisServer
from service_kit import FINAL, House, Process, house, until

from broker.api.auth import read_token
from broker.client import Client
from broker.errors import BrokerError
from broker.service import Service
from sandbox.dagwork import make

FAULT_EVERY = (1.5, 4.0)
"""Seconds between two faults: from, to."""


def document(stages: int, seed: int, started: Path, name: str) -> dict[str, Any]:
    """A layered graph; each stage notes its start, some hand a file on."""
    body: dict[str, Any] = {}
    for number, parents in make("layered", stages, seed):
        lines = [f"echo {name}/s{number} >> '{started}'"]
        stage: dict[str, Any] = {"needs": [f"s{parent}" for parent in parents]}
        if number % 10 == 0:
            lines.append(f"echo {number} > made")
            stage["outputs"] = [{"path": "made"}]
        body[f"s{number}"] = {**stage, "run": "\n".join(lines)}
    return {"crossfade": 1, "name": name, "stages": body}


@dataclass
class Ground:
    """Servers, the proxies before them, and the house that lives behind those."""

    folder: Path
    postgres: Server
    redis: RedisServer
    to_postgres: Proxy
    to_redis: Proxy
    house: House
    ports: list[int]
    done: Counter[str] = field(default_factory=Counter)
    """Faults, by name."""

    def start(self, *, serves: int = 2, workers: int = 3, beats: int = 2) -> None:
        for _ in range(workers):
            self.house.start("worker")
        for _ in range(beats):
            self.house.start("beat", "--every", "2")
        for port in self.ports[:serves]:
            self.house.start("serve", "--listen", f"127.0.0.1:{port}")

    # -- submitting --------------------------------------------------------------------------------------------

    def submit(self, told: dict[str, Any], dice: random.Random, *, patience: float = 120.0) -> str:
        """By HTTP, at whichever serve answers; the same key is the same run however often it is asked for."""
        end = time.monotonic() + patience
        while True:
            try:
                token = read_token(self.service.settings)
                with Client(f"http://127.0.0.1:{dice.choice(self.ports)}", token, timeout=15.0) as client:
                    return client.submit(told, key=told["name"]).run
            except BrokerError:
                assert time.monotonic() < end, f"nobody took {told['name']}\n{self.house.told()}"
                time.sleep(0.3)

    @property
    def service(self) -> Service:
        return self.house.service

    # -- faults ------------------------------------------------------------------------------------------------

    def faults(self, dice: random.Random) -> dict[str, Callable[[], None]]:
        """Each returns when its worst is over; what it killed is started again by the supervisor, or by itself."""
        workers, others = self.house.of_kind("worker"), self.house.of_kind("serve") + self.house.of_kind("beat")
        return {
            "worker kill -9": lambda: dice.choice(workers).kill9(),
            "two workers kill -9": lambda: [w.kill9() for w in dice.sample(workers, 2)] and None,
            "worker frozen": lambda: self._frozen(dice.choice(workers), dice.uniform(2, 6)),
            "serve or beat kill -9": lambda: dice.choice(others).kill9(),
            "redis kill -9": lambda: self._redis_down(dice.uniform(0, 3)),
            "redis flushed": self.redis.flushall,
            "redis frozen": lambda: self._redis_frozen(dice.uniform(1, 5)),
            "redis cut off": lambda: self._held(self.to_redis, dice.uniform(1, 4)),
            "redis connections reset": self.to_redis.cut,
            "postgres kill -9": self._postgres_down,
            "postgres connections reset": self.to_postgres.cut,
            "postgres replies lost": lambda: self._held(self.to_postgres, dice.uniform(0.5, 2), Way.TO_CLIENT),
        }

    def hurt(self, dice: random.Random, until_time: float) -> None:
        """Random faults until then."""
        while time.monotonic() < until_time:
            faults = self.faults(dice)
            name = dice.choice(sorted(faults))
            self.done[name] += 1
            faults[name]()
            time.sleep(dice.uniform(*FAULT_EVERY))

    def _frozen(self, process: Process, seconds: float) -> None:
        process.freeze()
        time.sleep(seconds)
        process.thaw()

    def _redis_down(self, seconds: float) -> None:
        self.redis.kill9()
        time.sleep(seconds)
        self.redis.start()

    def _redis_frozen(self, seconds: float) -> None:
        self.redis.freeze()
        time.sleep(seconds)
        self.redis.thaw()

    def _held(self, proxy: Proxy, seconds: float, *ways: Way) -> None:
        proxy.black_hole(*ways)
        time.sleep(seconds)
        proxy.heal()
        proxy.cut()  # what was swallowed never comes: the connections of then are of no use

    def _postgres_down(self) -> None:
        self.postgres.kill9()
        self.postgres.start()

    # -- what is left ------------------------------------------------------------------------------------------

    def all_over(self) -> bool:
        return all(row.state in FINAL for row in self.service.store.runs(limit=10_000))

    def left_behind(self) -> list[str]:
        """Rows, messages and files that nobody will ever look at again."""
        store = self.service.store
        found: list[str] = []
        for row in store.runs(limit=10_000):
            found += [f"effect {e.key} is {e.state}" for e in store.effects(row.run_id) if e.state == "pending"]
            if row.lease_owner is not None:
                found.append(f"{row.run_id} is leased to {row.lease_owner}")
            if row.due_at is not None:
                found.append(f"{row.run_id} is over and due")
        for name, config in self.service.sites.configs.items():
            spool = Path(config.root) / "spool"
            found += [f"{name}: spool/{path.name}" for path in sorted(spool.iterdir())][:5]
        pattern = re.compile(r"^crossfade:(_kombu\.binding|bucket:|unacked_mutex)")
        for key in self.redis.command("KEYS", "*"):
            if not pattern.match(key) and self.redis.command("TYPE", key) == "list":
                length = int(self.redis.command("LLEN", key))
                found += [f"redis: {length} messages wait in {key}"] if length > 50 else []
        return found


@contextmanager
def ground(folder: Path, postgres: Server, *, slots: int = 4) -> Iterator[Ground]:
    """Two sites of this machine, and everything between them and the broker."""
    with ExitStack() as stack:
        (folder / "redis").mkdir()
        redis = stack.enter_context(RedisServer(folder / "redis"))
        database = postgres.empty()
        to_postgres = stack.enter_context(Proxy("127.0.0.1", postgres.port))
        to_redis = stack.enter_context(Proxy("127.0.0.1", redis.port))
        sites = {
            name: {"profile": "local", "root": str(folder / name), "slots": slots, "poll": 0.5, "settle": 1}
            for name in ("nersc", "alcf")
        }
        made = stack.enter_context(
            house(folder / "house", database=postgres.url(database), redis=redis.url, sites=sites)
        )
        assert made.service.store.runs() == []  # the tables are there before anybody is hurt
        made.env |= {
            "CROSSFADE_DATABASE": made.env["CROSSFADE_DATABASE"].replace(f":{postgres.port}", f":{to_postgres.port}"),
            "CROSSFADE_REDIS": made.env["CROSSFADE_REDIS"].replace(f":{redis.port}", f":{to_redis.port}"),
        }
        from redis_kit import free_port

        yield Ground(folder, postgres, redis, to_postgres, to_redis, made, [free_port(), free_port()])


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    memory: int
    """Bytes that are its own."""
    descriptors: int
    threads: int


def held_by(process: Process) -> Held:
    seen = psutil.Process(process.pid)
    with seen.oneshot():
        return Held(memory=seen.memory_full_info().uss, descriptors=seen.num_fds(), threads=seen.num_threads())


def told(ground: Ground) -> str:
    """In a line what was done and how it was borne, for whoever reads the log."""
    codes = {process.name: process.codes for process in ground.house.processes.values()}
    return json.dumps({"faults": dict(ground.done), "ends": codes})


__all__ = ["Ground", "Held", "document", "ground", "held_by", "told", "until"]
