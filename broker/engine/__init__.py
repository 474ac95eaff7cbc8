"""The engine: rows and the time in, changes out. Pure."""

from broker.engine.decide import decide

__all__ = ["decide"]
