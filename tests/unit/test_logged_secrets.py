"""The watch over logs, which every test has: it sees a secret in a message, in its arguments and in a traceback."""

from __future__ import annotations

import logging

import pytest
from logged_secrets import LoggedSecrets

from connectors.secrets import MASK, Secret

VALUE = "canary-of-the-watch-0815"


@pytest.fixture
def watched(logged_secrets: LoggedSecrets) -> tuple[logging.Logger, LoggedSecrets]:
    Secret(VALUE)
    return logging.getLogger("some.library"), logged_secrets


def test_a_secret_among_the_arguments_is_seen_and_not_repeated(watched: tuple[logging.Logger, LoggedSecrets]) -> None:
    log, watch = watched
    log.warning("header %s", f"Bearer {VALUE}")
    assert watch.take() == [f"some.library WARNING header Bearer {MASK}"]


def test_a_secret_in_a_traceback_is_seen(watched: tuple[logging.Logger, LoggedSecrets]) -> None:
    log, watch = watched
    try:
        raise ValueError(VALUE)
    except ValueError:
        log.exception("it broke off")
    (found,) = watch.take()
    assert VALUE not in found


def test_a_secret_itself_may_be_logged(watched: tuple[logging.Logger, LoggedSecrets]) -> None:
    log, watch = watched
    log.warning("given: %s %r", Secret(VALUE), {"token": Secret(VALUE)})
    assert watch.take() == []
