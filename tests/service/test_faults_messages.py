"""What comes out of Redis may be old, doubled, mixed up, or made by somebody who means ill: it is a hint at most."""

from __future__ import annotations

import base64
import json
import os
import pickle
import random
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from fault_kit import CHAIN, begun, hints_flow, says, went_well
from redis_kit import RedisServer
from service_kit import House, until

from broker.addresses import Address
from broker.celery_app import PREFIX, make_app
from broker.heart import own_queue
from broker.tasks import ACT_AT_SITE, COME_BACK, LOOK_AT_RUNS, LOOK_AT_SITE, RUNS, SWEEP, site_queue

HERE = site_queue("here")
AN_HOUR_AGO = "2020-01-01T00:00:00+00:00"
MOST_LOGGED = 200_000
"""Bytes that a worker may say of all this."""


def message(task: object, args: object, **more: Any) -> dict[str, Any]:
    """A message as Celery writes it; `more` beats what stands in it."""
    tag = str(uuid.uuid4())
    made = {
        "body": base64.b64encode(json.dumps([args, {}, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": task, "id": tag, "retries": 0, "expires": None, "eta": None},
        "properties": {
            "correlation_id": tag,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": RUNS},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
    return {**made, **more}


def push(redis: RedisServer, element: bytes | str | Mapping[str, Any], queue: str = RUNS) -> None:
    raw = json.dumps(element) if isinstance(element, Mapping) else element
    redis.command("LPUSH", f"{PREFIX}{queue}", raw)


@pytest.fixture
def app(redis: RedisServer) -> Iterator[Celery]:
    made = make_app(Address(redis.url))
    yield made
    made.close()


@pytest.mark.fault("F16")
def test_hints_that_come_a_hundred_times_late_and_in_any_order_change_nothing(home: House, redis: RedisServer) -> None:
    home.start("worker")
    home.start("worker")
    over = home.submit(CHAIN)
    went_well(home, over)
    runs = [home.submit(CHAIN) for _ in range(3)]
    begun(home, payloads=4)
    hints = [
        *((RUNS, message(LOOK_AT_RUNS, [[run, over]])) for run in runs),
        (RUNS, message(SWEEP, [])),
        (HERE, message(LOOK_AT_SITE, ["here"])),
        (HERE, message(ACT_AT_SITE, ["here"])),
        (RUNS, message(COME_BACK, [own_queue("a worker that is no more")])),
    ]
    late = message(LOOK_AT_RUNS, [runs])
    late["headers"] |= {"expires": AN_HOUR_AGO}
    again = 100 * [*hints, (RUNS, late)]
    random.Random(16).shuffle(again)
    for queue, hint in again:
        push(redis, hint, queue)
    went_well(home, over, *runs)
    until(lambda: not redis.command("EXISTS", f"{PREFIX}{RUNS}"), "all have been taken in")
    went_well(home, over, *runs)


def no_messages() -> dict[str, bytes | str]:
    """What Celery's own worker ends at."""
    return {
        "no json": b"{no json",
        "nothing": b"",
        "binary": b"\xff\xfe\x00\x01",
        "no object": "[1, 2]",
        "null": "null",
        "deep": "[" * 100_000,
        "no properties": json.dumps(message(SWEEP, [], properties=None)),
        "headers that are a list": json.dumps(message(SWEEP, [], headers=["x"])),
        "a list for a task's name": json.dumps(message(["x"], [])),
    }


def strange_messages(canary: Path) -> dict[str, Mapping[str, Any]]:
    """What looks like a message, and is none of ours."""
    return {
        "an unknown task": message("os.system", [f"touch {canary}"]),
        "a task of celery's own": message("celery.backend_cleanup", []),
        "five MB": message(LOOK_AT_RUNS, [["x" * 5_000_000]]),
        "a million runs": message(LOOK_AT_RUNS, [["x"] * 1_000_000]),
        "no arguments": message(LOOK_AT_RUNS, []),
        "arguments that are no list": message(LOOK_AT_RUNS, 5),
        "a number for runs": message(LOOK_AT_RUNS, [5]),
        "other things for runs": message(
            LOOK_AT_RUNS, [[None, 5, {"x": 1}, "../../etc", "'; DROP TABLE run; --", "\0"]]
        ),
        "no site of ours": message(LOOK_AT_SITE, ["nowhere"]),
        "acting at no site of ours": message(ACT_AT_SITE, ["nowhere"]),
        "a body that is no base64": message(SWEEP, [], body="%%%"),
        "nonsense in the headers": message(
            SWEEP,
            [],
            headers={"task": SWEEP, "id": {}, "eta": "soon", "expires": "later", "timelimit": "x", "retries": "y"},
        ),
        "yaml": message(
            SWEEP,
            [],
            body=base64.b64encode(f"!!python/object/apply:os.system ['touch {canary}']".encode()).decode(),
            **{"content-type": "application/x-yaml"},
        ),
        "pickle": message(
            LOOK_AT_RUNS,
            [],
            body=base64.b64encode(pickle.dumps(Bomb(str(canary)))).decode(),
            **{"content-type": "application/x-python-serialize", "content-encoding": "binary"},
        ),
        "pickle that says it is json": message(
            LOOK_AT_RUNS, [], body=base64.b64encode(pickle.dumps(Bomb(str(canary)))).decode()
        ),
    }


class Bomb:
    """Whoever unpickles it leaves a trace."""

    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.canary,)


def test_the_bomb_goes_off_where_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(str(tmp_path / "canary"))))
    assert (tmp_path / "canary").exists()


@pytest.mark.fault("F17")
def test_strange_messages_are_dropped_and_told_and_the_worker_lives(home: House, redis: RedisServer) -> None:
    worker, canary = home.start("worker"), home.folder / "canary"
    hints_flow(home)
    run = home.submit(CHAIN)
    for strange in strange_messages(canary).values():
        push(redis, strange)
        push(redis, strange, HERE)
    went_well(home, run)
    until(lambda: not redis.command("EXISTS", f"{PREFIX}{RUNS}", f"{PREFIX}{HERE}"), "all have been taken in")
    hints_flow(home)
    assert not canary.exists()
    assert worker.codes == []
    assert restarts(home) == [0]
    assert "os.system" in worker.told()
    assert worker.log.stat().st_size < MOST_LOGGED


@pytest.mark.fault("F17")
def test_what_is_no_message_at_all_is_dropped_and_told_and_work_goes_on(home: House, redis: RedisServer) -> None:
    worker = home.start("worker")
    hints_flow(home)
    for element in no_messages().values():
        push(redis, element)
    went_well(home, home.submit(CHAIN), home.submit(CHAIN))
    until(lambda: not redis.command("EXISTS", f"{PREFIX}{RUNS}"), "all have been taken in")
    hints_flow(home)
    assert worker.codes == []
    assert restarts(home) == [0]
    assert worker.told().count("it is dropped") == len(no_messages())
    assert worker.log.stat().st_size < MOST_LOGGED


@pytest.mark.fault("F17")
def test_a_queue_whose_key_holds_something_else_is_made_good(home: House, redis: RedisServer) -> None:
    worker = home.start("worker")
    hints_flow(home)
    for queue in (RUNS, HERE):
        redis.command("DEL", f"{PREFIX}{queue}")
        redis.command("SET", f"{PREFIX}{queue}", "no queue")
    went_well(home, home.submit(CHAIN))
    says(worker, "held no queue")
    hints_flow(home)
    assert worker.codes == []


@pytest.mark.fault("F17")
def test_nobody_can_stop_a_worker_over_redis(home: House, redis: RedisServer, app: Celery) -> None:
    worker = home.start("worker")
    hints_flow(home)
    app.control.broadcast("shutdown")
    app.control.broadcast("pool_restart", arguments={"reload": True})
    app.control.shutdown()
    for queue in ("celery.pidbox", f"celery@{os.uname().nodename}.celery.pidbox"):
        push(redis, message("shutdown", [], body=base64.b64encode(b'{"method": "shutdown"}').decode()), queue)
    went_well(home, home.submit(CHAIN))
    hints_flow(home)
    assert worker.codes == []


def restarts(home: House) -> list[int]:
    """How often Celery's worker ended by itself, in each process."""
    return [json.loads(row.detail)["restarts"] for row in home.store.workers() if row.kind == "worker"]
