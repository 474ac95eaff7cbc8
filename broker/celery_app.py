"""The Celery application: a wake-up channel that may lose, double and delay, and nothing more."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from celery import Celery

from broker.addresses import Address
from broker.transport import App

PREFIX = "crossfade:"
"""Of every key in Redis, so that an ACL may keep us to our own."""

MEMORY: dict[str, Any] = {"polling_interval": 0.01}
"""Of the in-memory transport. Its default of 1 s would let it carry 8 messages a second, 0.01 s lets it carry 650."""

REDIS: dict[str, Any] = {
    "global_keyprefix": PREFIX,
    # hints are acknowledged when they arrive, so next to nothing is ever parked; what is comes back after this
    "visibility_timeout": 90,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    # without these a frozen server or a half-open connection holds a publisher for ever (measured: over 40 s);
    # with them, and none of kombu's own tries on top, for 2 s
    "socket_timeout": 2,
    "socket_connect_timeout": 2,
    "max_retries": 0,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
"""Of the Redis transport, seconds."""


def make_app(redis: Address | None = None, *, ca: Path | None = None) -> Celery:
    """An application for wake-ups: ids in, nothing out. Without `redis` the messages live in this process alone.

    `ca`: whose certificates are believed with `rediss://`; None: the system's.
    """
    app = App("crossfade", set_as_current=False)
    app.conf.update(
        broker_url="memory://localhost" if redis is None else redis.url,
        broker_transport_options=MEMORY if redis is None else REDIS,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_soft_shutdown_timeout=5.0,
        worker_enable_soft_shutdown_on_idle=True,
        task_default_queue="runs",
        task_create_missing_queues=True,
        enable_utc=True,
    )
    if redis is not None and redis.scheme == "rediss":
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, **({"ssl_ca_certs": str(ca)} if ca else {})}
    return app
