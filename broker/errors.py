"""What can go wrong between a person and the broker, and the exit code that says so.

BrokerError
├── UsageError       2   the request or the document is wrong
│   └── KeyInUse     2   the key belongs to a run that asked for something else
├── NotFound         3   no such run, stage, attempt or site
├── RefusedByPolicy  4   understood, and not allowed
├── SiteDark         5   a site cannot be reached
├── WaitTimedOut     6   what was waited for has not happened yet
├── RunFailed        7   the run ended without all its products
├── BoundBroken      7   a drill cost more than it may, or something was not as it must be
├── NeedsPerson      8   it waits for somebody to decide
└── Unwritable       1   the state folder cannot be used (disk full, no permission, another version)
"""

from __future__ import annotations


class BrokerError(Exception):
    """Something that a person should read; `help` says what to do."""

    exit_code = 1

    def __init__(self, message: str, *, help: str = "") -> None:  # noqa: A002 - the reader's word
        super().__init__(message)
        self.help = help


class UsageError(BrokerError):
    exit_code = 2


class KeyInUse(UsageError):
    """`run_id` is the run that holds the key."""

    def __init__(self, message: str, *, run_id: str, help: str = "") -> None:  # noqa: A002 - the reader's word
        super().__init__(message, help=help)
        self.run_id = run_id


class NotFound(BrokerError):
    exit_code = 3


class RefusedByPolicy(BrokerError):
    exit_code = 4


class SiteDark(BrokerError):
    exit_code = 5


class WaitTimedOut(BrokerError):
    exit_code = 6


class RunFailed(BrokerError):
    exit_code = 7


class BoundBroken(BrokerError):
    exit_code = 7


class NeedsPerson(BrokerError):
    exit_code = 8


class Unwritable(BrokerError):
    exit_code = 1
