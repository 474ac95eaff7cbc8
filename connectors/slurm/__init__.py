"""Slurm's own words, shared by all that speak to a Slurm: its states, its reasons, the head of its job scripts.

No connector: `nersc`, `olcf` and `command` come by them here, over HTTP or a shell.
"""

from connectors.slurm.jobs import SlurmJob, exit_of, job_of
from connectors.slurm.script import directives, job_script
from connectors.slurm.words import fatal_reason, state_of

__all__ = ["SlurmJob", "directives", "exit_of", "fatal_reason", "job_of", "job_script", "state_of"]
