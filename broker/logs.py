"""What the processes of a service write down: one line for each message, to stderr, for whatever collects it."""

from __future__ import annotations

import logging
import sys

from broker.views import clean_text


def tell_the_log() -> None:
    """What happens goes to stderr, a line each, for whatever collects it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("broker").setLevel(logging.INFO)


class _OneLine(logging.Formatter):
    """A message is one line, whoever wrote it, and steers no terminal; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's word
        plain = record.message.replace("<class 'broker.transport.Transport'>", "redis")  # as Celery names addresses
        record.message = " ".join(clean_text(plain).split())
        return super().formatMessage(record)
