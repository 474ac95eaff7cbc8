"""`policy simulate`."""

from __future__ import annotations

import click

from broker.cli.policy.simulate import simulate


@click.group()
def policy() -> None:
    """Try a policy before it decides anything."""


policy.add_command(simulate)
