"""A server's sign of life is an answer to itself, the way that every request goes."""

from __future__ import annotations

import os
from pathlib import Path

from broker.answering import answers
from broker.api.listen import listening
from broker.config import Settings
from broker.service import open_service


def test_a_server_answers_itself_at_a_port_and_in_a_home_whose_path_is_too_long_for_a_socket(tmp_path: Path) -> None:
    home = tmp_path / ("h" * 120)
    service = open_service(Settings(home=home, user="ann"))
    try:
        with listening(service, service.settings, ["unix", "127.0.0.1:0"]) as at:
            assert len(os.fsencode(at.places[0])) > 107
            assert [answers(place) for place in at.places] == [True, True]
        assert not any(answers(place) for place in at.places[1:])
    finally:
        service.store.close()


def test_a_home_that_has_gone_is_no_answer(tmp_path: Path) -> None:
    assert not answers(str(tmp_path / ("h" * 120) / "serve.sock"))
