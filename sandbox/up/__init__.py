"""`crossfade sandbox up`: four facilities on loopback in one process, each behind its own protocol."""

from sandbox.up.sandbox import Sandbox, SandboxSettings
from sandbox.up.state import Running, running

__all__ = ["Running", "Sandbox", "SandboxSettings", "running"]
