"""The Celery application of the peers: one task that appends a line, as a broker's user would write it."""

from __future__ import annotations

import os

from celery import Celery

from sandbox.dagwork import stage

LEAN = os.environ.get("PEER_FORM") == "lean"
EVENTS = os.environ["PEER_EVENTS"]
REDIS = os.environ["PEER_REDIS"]

app = Celery("peer", broker=REDIS, backend=None if LEAN else REDIS)
app.conf.update(
    task_acks_late=not LEAN,
    task_ignore_result=LEAN,
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=False,
)


@app.task(name="peer.stage")
def peer_stage(number: int) -> int:
    return stage(EVENTS, number)
