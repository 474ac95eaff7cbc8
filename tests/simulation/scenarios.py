"""The stories in which a worker is ended at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from broker_kit import CHECKPOINT, Stage, site
from simulation.crashing import Scenario

from broker.clock import micros
from connectors.model import Tariff
from sandbox.faults import Partition, Preemption, Window

FAST = {"unreachable_probes": 2, "unreachable_seconds": 5.0, "settle": 5.0, "tariff": Tariff()}
LEAVE = {"failover": {"after": 10.0}}
STAYS = {"export_control": False, "stay": ["a"]}
SPOT_KEPT = {
    "side": "spot:",
    "path": "raw/x",
    "after": 60.0,
    "entry": 0,
    "all": [["data:", "raw/x"]],
    "any": [["data:", "raw/x"]],
}


def partition(start: float, end: float) -> Callable[[int], Window]:
    return lambda origin: Partition(start=origin + micros(start), end=origin + micros(end))


def preemption(start: float, *, notice: float) -> Callable[[int], Window]:
    return lambda origin: Preemption(start=origin + micros(start), count=1, notice=notice, requeue=True)


CHAIN = Scenario(
    "a chain with files",
    [site("a", **FAST)],
    [
        Stage("make", "seconds=12 outputs=o:10", outputs=["o"]),
        Stage("use", "seconds=8 outputs=p:10", outputs=["p"], inputs=[("in", "make")]),
    ],
)
FAILOVER = Scenario(
    "a checkpoint carried to another site",
    [site("a", **FAST), site("b", **FAST)],
    [
        Stage(
            "long",
            "seconds=40 checkpoint_every=10 outputs=o:10",
            outputs=["o"],
            rules={**LEAVE, "checkpoint": CHECKPOINT, "sites": {"prefer": ["a"]}},
        )
    ],
    faults=[("a", partition(18, 60))],
)
REFUSED = Scenario(
    "a refusal, a lost reply and a lost request",
    [site("a", adopts=False, **FAST)],
    [
        Stage("no", "seconds=5 outputs=o:1", outputs=["o"]),
        Stage("yes", "seconds=5 outputs=o:1", outputs=["o"]),
        Stage("lost", "seconds=5 outputs=o:1", outputs=["o"]),
    ],
    ordained=[("a", "refused"), ("a", "request_lost"), ("a", "reply_lost")],
)
CANCEL = Scenario(
    "a cancel while stages run",
    [site("a", slots=1, cancel_grace=7.0, **FAST)],
    [
        Stage("runs", "seconds=60 outputs=o:1", outputs=["o"]),
        Stage("waits", "seconds=60 outputs=o:1", outputs=["o"]),
        Stage("after", needs=["runs"]),
    ],
    commands=[(15, "cancel", "", {})],
)
CONTINUED = Scenario(
    "two segments of one stage",
    [site("a", **FAST)],
    [
        Stage(
            "segments",
            "seconds=40 checkpoint_every=10 outputs=o:10",
            outputs=["o"],
            rules={
                "checkpoint": CHECKPOINT,
                "continue": {"on": ["time_limit"], "max": 10, "no_progress": 2},
                "resources": {"walltime": 30.0},
            },
        )
    ],
)
MOVED = Scenario(
    "an operator moves a stage that runs",
    [site("a", **FAST), site("b", **FAST)],
    [
        Stage(
            "moved",
            "seconds=40 checkpoint_every=10 outputs=o:10",
            outputs=["o"],
            rules={"checkpoint": CHECKPOINT, "sites": {"prefer": ["a"]}},
        )
    ],
    commands=[(20, "move", "moved", {"to": "b"})],
)
OPTIONAL = Scenario(
    "an optional stage that fails",
    [site("a", **FAST)],
    [
        Stage("may", "seconds=5 exit=3", rules={"required": False}),
        Stage("turn", "seconds=5", needs=["may"]),
        Stage("files", "seconds=5", inputs=[("in", "may")]),
    ],
)
RETRIED = Scenario(
    "a failed stage is retried by a person",
    [site("a", **FAST)],
    [
        Stage("first", "seconds=5 outputs=o:1", outputs=["o"], rules={"retry": {"site_fault": 0}}),
        Stage("child", "seconds=5", inputs=[("in", "first")]),
        Stage("grandchild", "seconds=5", needs=["child"]),
    ],
    ordained=[("a", "refused")],
    commands=[(20, "retry", "first", {}), (150, "retry", "first", {})],
)
STOPPED = Scenario(
    "a preempted job is told to stop, and does",
    [site("a", requeue_delay=10.0, **FAST)],
    [
        Stage(
            "stopped",
            "seconds=30 checkpoint_every=10 outputs=o:10",
            outputs=["o"],
            rules={"checkpoint": CHECKPOINT},
        )
    ],
    faults=[("a", preemption(17, notice=5.0))],
)
REQUEUED = Scenario(
    "a job dies without a word and is started again by its site",
    [site("a", requeue_delay=5.0, heartbeat=5, fence=10, **FAST)],
    [
        Stage(
            "requeued",
            "seconds=30 checkpoint_every=10 outputs=o:10",
            outputs=["o"],
            rules={"checkpoint": CHECKPOINT},
        )
    ],
    faults=[("a", preemption(17, notice=0.0))],
)
HELD = Scenario(
    "held, and released",
    [site("a", **FAST)],
    [Stage("one", "seconds=12"), Stage("two", "seconds=5", needs=["one"])],
    commands=[(5, "hold", "", {}), (30, "release", "", {})],
)
BY_SERVICE = replace(
    CHAIN,
    name="a chain whose files go by a service",
    sites=[site("a", **FAST), site("b", **FAST)],
    stages=[CHAIN.stages[0], replace(CHAIN.stages[1], rules={"sites": {"allow": ["b"]}})],
    service=True,
)
SHIPPED = replace(
    FAILOVER,
    name="a checkpoint shipped by a service and carried on from",
    stages=[replace(FAILOVER.stages[0], sim="seconds=30 checkpoint_every=10 outputs=o:10")],
    faults=[("a", partition(22, 45))],
    service=True,
)
CANCELED_UNDER_WAY = replace(
    BY_SERVICE,
    name="a cancel while files are on their way",
    commands=[(17, "cancel", "", {})],
)

COPIES = Scenario(
    "files copied between places, an input from one, and a delivery",
    [site("a", **FAST)],
    [
        Stage("raw", copies=[("spot:raw/x", "data:raw/x"), ("spot:d/", "data:d/")], keep=[SPOT_KEPT]),
        Stage("recon", "seconds=8 outputs=o:10", outputs=["o"], needs=["raw"], places=[("in", ["data:raw/x"])]),
        Stage("recon/deliver", copies=[("recon/o", "data:o"), ("recon/o", "cfs:o")]),
        Stage("after", "seconds=3", needs=["recon/deliver"]),
    ],
    places=["spot", "data", "cfs"],
    files=["spot:raw/x", "spot:d/1", "spot:d/e/2"],
)
COPY_CANCELED = Scenario(
    "a cancel while files are copied between places",
    [site("a", **FAST)],
    [
        Stage("raw", copies=[("spot:raw/x", "data:raw/x")]),
        Stage("missing", copies=[("spot:nothing", "data:nothing")], rules={"retry": {"site_fault": 5}}),
        Stage("after", "seconds=50", needs=["raw"]),
    ],
    commands=[(12, "cancel", "", {})],
    places=["spot", "data"],
    files=["spot:raw/x"],
    latency=20.0,
)
COPIES_BY_SERVICE = replace(COPIES, name="files copied between places by a service", stages=COPIES.stages[:1])
COPIES_BY_SERVICE = replace(COPIES_BY_SERVICE, service=True)
COPY_CANCELED_BY_SERVICE = replace(
    COPY_CANCELED,
    name="a cancel while a service copies",
    stages=COPY_CANCELED.stages[:1],
    service=True,
    commands=[(4, "cancel", "", {})],
)
BY_WORKERS = replace(
    BY_SERVICE, name="a chain whose files each worker carries itself", service=False, direct=True, latency=12.0
)
SHIPPED_BY_WORKERS = replace(SHIPPED, name="a checkpoint shipped by who works", service=False, direct=True, latency=3.0)
CANCELED_AT_WORKERS = replace(
    BY_WORKERS, name="a cancel while a worker carries", commands=CANCELED_UNDER_WAY.commands, latency=30.0
)
COPY_CANCELED_AT_WORKERS = replace(
    COPY_CANCELED_BY_SERVICE, name="a cancel while a worker copies", service=False, direct=True
)

STANDBY = Scenario(
    "inputs sent ahead, and taken there by a failover",
    [site("a", losses_every=600.0, **FAST), site("b", **FAST)],
    [
        Stage(
            "long",
            "seconds=40 checkpoint_every=10 outputs=o:10",
            outputs=["o"],
            places=[("in", ["data:raw/x"])],
            rules={
                **LEAVE,
                "checkpoint": CHECKPOINT,
                "sites": {"prefer": ["a"]},
                "resources": {"walltime": 100.0},
            },
        )
    ],
    faults=[("a", partition(22, 60))],
    places=["data"],
    files=["data:raw/x"],
)
STANDBY_BY_SERVICE = replace(
    STANDBY,
    name="inputs sent ahead by a service",
    stages=[replace(STANDBY.stages[0], sim="seconds=30 checkpoint_every=10 outputs=o:10")],
    faults=[("a", partition(26, 42))],
    service=True,
)
STANDBY_CANCELED = replace(
    STANDBY,
    name="a cancel while inputs are sent ahead",
    stages=[replace(STANDBY.stages[0], sim="seconds=80 checkpoint_every=10 outputs=o:10")],
    faults=(),
    commands=[(38, "cancel", "", {})],
    service=True,
    latency=8.0,
)

WAIVED = replace(
    FAILOVER,
    name="a stage leaves where its data stays by way of a waiver",
    stages=[
        replace(
            FAILOVER.stages[0],
            sim="seconds=30 checkpoint_every=10 outputs=o:10",
            rules={**LEAVE, "checkpoint": CHECKPOINT, "data": STAYS},
        )
    ],
    faults=[("a", partition(18, 90))],
    waivers=[(5, 15, "b"), (42, 400, "b")],  # the first one ends before it is needed
)
EVACUATED = replace(
    MOVED,
    name="a site is evacuated, and its payload asked for a checkpoint first",
    stages=[
        replace(
            MOVED.stages[0],
            sim="seconds=40 outputs=o:10",
            rules={"checkpoint": {**CHECKPOINT, "ask": {"kind": "file", "value": "save"}}, "sites": {"prefer": ["a"]}},
        )
    ],
    commands=(),
    modes=[(15, "a", "evacuating", "")],
)
CLOSED = replace(
    MOVED,
    name="a site is closed, and its stage goes on elsewhere",
    commands=(),
    modes=[(20, "a", "closed", "elsewhere")],
)
ADOPTED = Scenario(
    "a copy that was left behind is taken over again, and another one reaped",
    [site("a", **FAST), site("b", **FAST)],
    [
        Stage(
            name,
            "seconds=90 checkpoint_every=40 outputs=o:10",
            outputs=["o"],
            rules={
                "failover": {"after": 10.0, "old_copy": "leave"},
                "checkpoint": CHECKPOINT,
                "sites": {"prefer": ["a"]},
            },
        )
        for name in ("adopted", "reaped")
    ],
    faults=[("a", partition(18, 40))],
    commands=[(55, "adopt", "adopted", {"attempt": "1"}), (55, "reap", "reaped", {"attempt": "1"})],
)
ALL = [
    *(CHAIN, FAILOVER, REFUSED, CANCEL, CONTINUED, MOVED, OPTIONAL, RETRIED, STOPPED, REQUEUED, HELD),
    *(BY_SERVICE, SHIPPED, CANCELED_UNDER_WAY),
    *(COPIES, COPY_CANCELED, COPIES_BY_SERVICE, COPY_CANCELED_BY_SERVICE),
    *(STANDBY, STANDBY_BY_SERVICE, STANDBY_CANCELED),
    WAIVED,
    *(EVACUATED, CLOSED, ADOPTED),
    *(BY_WORKERS, SHIPPED_BY_WORKERS, CANCELED_AT_WORKERS, COPY_CANCELED_AT_WORKERS),
]
