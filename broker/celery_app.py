"""The Celery application: a wake-up channel that may lose, double and delay, and nothing more."""

from __future__ import annotations

from celery import Celery


def make_app(*, transport: str = "memory://localhost", polling_interval: float = 0.01) -> Celery:
    """An application for wake-ups: ids in, nothing out. With `memory:` the messages live in this process alone.

    `polling_interval` (seconds) is the in-memory transport's own; its default of 1 s would let it carry 8 messages
    a second, 0.01 s lets it carry some 650.
    """
    app = Celery("crossfade", set_as_current=False)
    app.conf.update(
        broker_url=transport,
        broker_transport_options={"polling_interval": polling_interval},
        broker_connection_retry_on_startup=True,
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
        task_default_queue="crossfade",
        task_create_missing_queues=True,
        enable_utc=True,
    )
    return app
