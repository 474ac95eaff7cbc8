"""Identities: run ids and submit keys."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
from datetime import UTC, datetime

RandomBits = Callable[[int], int]
"""Gives that many random bits as an integer."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
KEY_PREFIX = "cf"


def random_bits(count: int) -> int:
    """From the operating system."""
    return secrets.randbits(count)


def run_id(now: int, bits: RandomBits) -> str:
    """A run's name for ever: `yymmdd-hhmmss-` and 8 random characters (40 bits).

    Sorts by time, can be read out on the telephone, and is never serial: a database restored from a backup
    would issue serial numbers a second time.
    """
    stamp = datetime.fromtimestamp(now / 1_000_000, UTC).strftime("%y%m%d-%H%M%S")
    value = bits(40)
    return f"{stamp}-" + "".join(_ALPHABET[(value >> shift) & 31] for shift in range(35, -5, -5))


def standby_key(run: str, stage: int, order: int) -> str:
    """The name of the folder that a stage's inputs are sent ahead to, and the start of their transfers' keys: `in` and
    13 base32 characters. `order`: from 1, which of the stage's orders it is."""
    raw = hashlib.sha256("\0".join((run, str(stage), str(order), "inputs")).encode()).digest()
    return "in" + base64.b32encode(raw[:9]).decode().lower()[:13]


def submit_key(installation: str, incarnation: int, run: str, stage: str, attempt: int, digest: str) -> str:
    """The name under which one attempt's job goes to a site: `cf` and 13 base32 characters (65 bits).

    15 characters is the least that every scheduler keeps whole in a job's name.
    """
    text = "\0".join((installation, str(incarnation), run, stage, str(attempt), digest))
    raw = hashlib.sha256(text.encode()).digest()
    return KEY_PREFIX + base64.b32encode(raw[:9]).decode().lower()[:13]
