"""`policy simulate`, `policy replay`, `policy test`."""

from __future__ import annotations

import click

from broker.cli.policy.replay import replay
from broker.cli.policy.simulate import simulate
from broker.cli.policy.test import test


@click.group()
def policy() -> None:
    """Try a policy before it decides anything."""


policy.add_command(simulate)
policy.add_command(test)
policy.add_command(replay)
