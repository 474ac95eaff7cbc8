"""Celery's transport over Redis, but what is no message is dropped and told: left to itself it ends the worker."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from celery import Celery
from kombu.transport import redis

log = logging.getLogger(__name__)

NO_MESSAGE = (TypeError, ValueError, LookupError, AttributeError)
"""What kombu and Celery raise at what has not the shape of a message; the transport's own errors are others."""


class Channel(redis.Channel):
    """Reads queues."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc] # not in the stubs
        except (ValueError, RecursionError) as error:  # no JSON; it is off the queue already
            log.warning("a queue held what is no message; it is dropped (%s)", type(error).__name__)
            return True


class Transport(redis.Transport):
    """Delivers messages."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str | None) -> None:
        try:
            super()._deliver(message, queue)
        except NO_MESSAGE as error:
            log.warning("a queue held a message of no known shape; it is dropped (%s)", type(error).__name__)
            self._forget(message)

    def _forget(self, message: Any) -> None:
        """Else it would come back when it has not been acknowledged for a while."""
        with suppress(*NO_MESSAGE):
            tag = message["properties"]["delivery_tag"]
            for channel in self.channels or ():
                channel.qos.ack(tag)


class App(Celery):
    """Consumes by the transport above."""

    def connection_for_read(self, *args: Any, **named: Any) -> Any:
        connection = super().connection_for_read(*args, **named)
        if issubclass(connection.get_transport_cls(), redis.Transport):
            connection.transport_cls = Transport  # type: ignore[assignment] # kombu takes a name or a class
        return connection
