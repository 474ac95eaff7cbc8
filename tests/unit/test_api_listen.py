"""A server in a thread, over real sockets."""

from __future__ import annotations

import logging
import socket
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_kit import HELLO

from broker.api import listen
from broker.api.listen import listening
from broker.api.places import AlreadyListening
from broker.client import Client, Refused
from broker.config import Settings
from broker.errors import BrokerError, UsageError
from broker.service import Service, open_service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    sites = tmp_path / "sites.yaml"
    sites.write_text(f"crossfade: 1\nsites:\n  here: {{profile: local, root: {tmp_path}/root}}\n")
    opened = open_service(Settings(home=tmp_path / "home", sites=sites, user="ann"))
    yield opened
    opened.store.close()


def no_thread_is_left() -> bool:
    return not [thread for thread in threading.enumerate() if thread.name in ("crossfade-http", "crossfade-wakes")]


def test_the_same_installation_answers_at_its_socket_and_at_a_port(service: Service) -> None:
    told: list[str] = []
    with listening(service, service.settings, ["unix", "127.0.0.1:0"], told.append) as at:
        path, url = at.places
        assert path == str(service.settings.socket)
        with Client.of_home(service.settings) as near, Client.of_home(service.settings, where=url) as far:
            run = near.submit(HELLO, key="k").run
            assert not far.submit(HELLO, key="k").new
            assert far.status(run)["state"] == "PENDING"
            assert near.healthy()
    assert told == [run, run]
    assert not service.settings.socket.exists()
    assert no_thread_is_left()


def test_no_request_changes_the_process_s_warning_filters(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are the whole process's: a server that sets them aside for a moment meets the other one's warnings."""
    changed: list[str] = []
    enter = warnings.catch_warnings.__enter__

    def noted(self: Any) -> Any:
        changed.append(threading.current_thread().name)
        return enter(self)

    monkeypatch.setattr(warnings.catch_warnings, "__enter__", noted)
    with (
        listening(service, service.settings, "127.0.0.1:0") as at,
        Client.of_home(service.settings, where=at.places[0]) as client,
    ):
        client.submit(HELLO, key="k")
        client.history()
    assert "crossfade-http" not in changed


def test_two_servers_over_one_store_keep_a_key_once(service: Service) -> None:
    with (
        closing(open_service(service.settings).store) as store,
        listening(service, service.settings, "127.0.0.1:0") as one,
        listening(
            Service(settings=service.settings, store=store, sites=service.sites), service.settings, "127.0.0.1:0"
        ) as two,
        Client.of_home(service.settings, where=one.places[0]) as first,
        Client.of_home(service.settings, where=two.places[0]) as second,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda n: (first, second)[n % 2].submit(HELLO, key="k"), range(16)))
        assert len({answer.run for answer in answers}) == 1
        assert sum(answer.new for answer in answers) == 1
        assert len(first.history()) == 1


def test_a_document_beyond_the_limit_is_told_to_its_sender(service: Service) -> None:
    with (
        listening(service, service.settings, "unix") as at,
        Client.of_home(service.settings, where=at.places[0]) as client,
        pytest.raises(Refused, match="too large"),
    ):
        client.submit("#" * (17 << 20))


def test_an_ipv6_port_has_its_brackets(service: Service) -> None:
    with listening(service, service.settings, "[::1]:0") as at:
        assert at.places[0].startswith("http://[::1]:")
        with Client.of_home(service.settings, where=at.places[0]) as client:
            assert client.queue() == []


def test_none_listens_nowhere_and_makes_no_token(service: Service) -> None:
    with listening(service, service.settings, "none") as at:
        assert at.places == ()
    assert not service.settings.token.exists()


def test_a_second_server_of_the_same_home_says_so_and_disturbs_nothing(service: Service) -> None:
    with listening(service, service.settings, "unix"):
        with pytest.raises(AlreadyListening), listening(service, service.settings, ["127.0.0.1:0", "unix"]):
            pass
        with Client.of_home(service.settings) as client:
            assert client.queue() == []
    assert no_thread_is_left()


def test_a_token_that_others_may_read_keeps_the_server_shut(service: Service) -> None:
    with listening(service, service.settings, "unix"):
        pass
    service.settings.token.chmod(0o644)
    with pytest.raises(UsageError, match="others may read"), listening(service, service.settings, "unix"):
        pass
    assert not service.settings.socket.exists()


def test_a_server_that_cannot_start_says_so(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise OSError("no more files")

    monkeypatch.setattr(listen.to_thread, "current_default_thread_limiter", lambda: broken(0))
    with pytest.raises(BrokerError, match="did not start: OSError"), listening(service, service.settings, "unix"):
        pass
    assert no_thread_is_left()


def raw(place: str, sent: bytes) -> bytes:
    """What a server answers to these bytes until it hangs up."""
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(30)
        client.connect(place)
        client.sendall(sent)
        received = b""
        try:
            while part := client.recv(65536):
                received += part
        except ConnectionResetError:
            pass
        return received


@pytest.mark.parametrize("sent", [b"", b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nX-Slow:"])
def test_who_does_not_come_to_the_point_is_hung_up_on(
    service: Service, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(listen, "HEADER_SECONDS", 0.2)
    with listening(service, service.settings, "unix") as at:
        assert raw(at.places[0], sent) == b""
        whole = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answered = raw(at.places[0], whole + b"GET /v1/hea")  # the second request never comes whole
        assert answered.startswith(b"HTTP/1.1 200")
        assert answered.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /v1/runs HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET /v1/runs HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /v1/runs HTTP/1.0\r\n\r\n", b"403"),
        (b"GET /v1/runs HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"431"),
        (b"GET http://evil.example/v1/runs HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"403"),
    ],
)
def test_what_is_no_sound_request_is_refused_on_the_wire(service: Service, sent: bytes, status: bytes) -> None:
    with listening(service, service.settings, "unix") as at:
        head = raw(at.places[0], sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert head.split(b" ", 2)[1] == status


def test_nothing_of_a_request_reaches_the_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with listening(service, service.settings, "unix") as at:
        token = service.settings.token.read_text().strip()
        with httpx.Client(transport=httpx.HTTPTransport(uds=at.places[0]), base_url="http://localhost") as client:
            client.get("/v1/canary%0d%0aforged?canary=1", headers={"Authorization": f"Bearer {token}"})
            client.get("/v1/runs", headers={"Authorization": "Bearer canary"})
    told = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
    assert not [line for line in told if "canary" in line or token in line or "forged" in line]


def test_an_answer_under_way_is_given_before_the_server_ends(service: Service) -> None:
    begun, go_on = threading.Event(), threading.Event()
    history = service.history

    def slow(*, limit: int = 50) -> list[dict[str, object]]:
        begun.set()
        assert go_on.wait(30)
        return history(limit=limit)

    service.history = slow  # type: ignore[method-assign]
    answers: list[object] = []
    with listening(service, service.settings, "unix"):
        client = Client.of_home(service.settings)
        asking = threading.Thread(target=lambda: answers.append(client.history()))
        asking.start()
        assert begun.wait(30)
        threading.Timer(0.3, go_on.set).start()
    asking.join(30)
    client.close()
    assert answers == [[]]
