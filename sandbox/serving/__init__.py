"""Faces, served: on sockets, and in this process as httpx's transport; both through the same handling."""

from sandbox.serving.inprocess import InProcess
from sandbox.serving.sockets import FaceServer

__all__ = ["FaceServer", "InProcess"]
