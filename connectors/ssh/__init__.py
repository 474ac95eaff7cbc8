"""Scripts and programs over the OpenSSH client: shared by the connector that submits and the mover that carries."""

from connectors.ssh.openssh import OpenSshTransport
from connectors.ssh.options import SshOptions
from connectors.ssh.reach import OverSsh, Reach
from connectors.ssh.transport import LocalTransport, Transport

__all__ = ["LocalTransport", "OpenSshTransport", "OverSsh", "Reach", "SshOptions", "Transport"]
