"""Watches whatever is logged in this process for values that `connectors.secrets` knows."""

from __future__ import annotations

import logging

from connectors import secrets

SHORTEST = 12
"""Characters; some tests' short secrets are words that innocent messages hold."""


class LoggedSecrets(logging.Handler):
    """Remembers, without the secret, every record that held one."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:
            return  # a record that cannot be formatted is the other handlers' to complain of
        with secrets._lock:
            leaks = any(value in text for value in secrets._known if len(value) >= SHORTEST)
        if leaks:
            self.found.append(secrets.scrub(text)[:500])

    def take(self) -> list[str]:
        """What was found since it was last asked."""
        found, self.found = self.found, []
        return found
