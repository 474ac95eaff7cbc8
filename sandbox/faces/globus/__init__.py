"""Globus: the Transfer API v0.10, Auth, and the collections' access over HTTPS, over `sandbox.globus`."""

from sandbox.faces.globus.face import GlobusFace

__all__ = ["GlobusFace"]
