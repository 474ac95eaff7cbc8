"""What one call of the command has: its settings, and the service, opened when first asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from broker.config import Settings, read_settings

if TYPE_CHECKING:
    from broker.service import Service


class Session:
    """Made once per call; verbs take it with `click.pass_obj`."""

    def __init__(self) -> None:
        self.sites_path: Path | None = None
        self.policy_path: Path | None = None
        self.debug = False
        self._service: Service | None = None

    @property
    def settings(self) -> Settings:
        return read_settings(os.environ, sites=self.sites_path, policy=self.policy_path)

    @property
    def service(self) -> Service:
        """Raises Unwritable, DocumentError (the site document)."""
        if self._service is None:
            from broker.service import open_service  # noqa: PLC0415 - slow, and not for help and usage errors

            self._service = open_service(self.settings)
        return self._service

    def served_by(self) -> str:
        """Who goes on with runs: the process that serves this home, or the workers of a service; empty: nobody."""
        from broker.serve_lock import served_by  # noqa: PLC0415

        if not self.settings.is_service:
            return served_by(self.settings)
        from broker.heart import who_works  # noqa: PLC0415

        return ", ".join(row.name for row in who_works(self.service.store, clock=self.service.clock))

    def close(self) -> None:
        if self._service is not None:
            self._service.store.close()
            self._service = None


def note(message: str) -> None:
    """Tell the person something that is not the answer: on stderr, whatever the format."""
    click.echo(message, err=True)
