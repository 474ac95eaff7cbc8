"""What the model of a site asks of the ground where executions are real."""

from __future__ import annotations

from typing import Protocol

from sandbox.job import Execution


class Executor(Protocol):
    """Processes of executions. None of these calls back into the model: an end is told later, by `SiteModel.exited`,
    and also for an execution that could not be started."""

    def start(self, execution: Execution, now: int) -> None: ...

    def signal(self, execution: Execution, name: str, *, shell_only: bool = False) -> None:
        """Send TERM, USR1, ... to all of it, or to the script's shell alone."""
        ...

    def kill(self, execution: Execution) -> None:
        """None of it lives on return; no end is told."""
        ...
