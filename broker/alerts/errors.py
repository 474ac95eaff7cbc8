"""Why something was not told."""

from __future__ import annotations


class NotTold(Exception):
    """It has not arrived, as far as is known; it is tried again. The message may be shown: no secret is in it."""
