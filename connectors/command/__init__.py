"""Slurm and PBS by their commands, on this machine or over OpenSSH: the way to any cluster with a login node."""

from connectors.command.options import CommandOptions
from connectors.command.site import CommandSite, make
from connectors.ssh.openssh import OpenSshTransport
from connectors.ssh.transport import LocalTransport, Transport

__all__ = ["CommandOptions", "CommandSite", "LocalTransport", "OpenSshTransport", "Transport", "make"]
