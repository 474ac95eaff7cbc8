"""Every fault of the proxy, in front of a server that sends back what it gets."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from proxy_kit import Proxy, Way

PATIENCE = 20.0
"""Seconds after which what should come is taken for missing."""
SILENCE = 0.3
"""Seconds in which nothing comes; that much, a broken proxy has to be quick to be caught."""


class Echo(socketserver.BaseRequestHandler):
    """Says what it hears, and "over" when the client has ended its side."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        try:
            while heard := self.request.recv(65536):
                server.heard += heard
                self.request.sendall(heard)
            self.request.sendall(b"over")
        except OSError:
            server.resets += 1


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    heard = b""
    resets = 0

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.socket.getsockname()[1]


@pytest.fixture
def echo() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Server) -> Iterator[Proxy]:
    with Proxy(*echo.address) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[[], socket.socket]]:
    made: list[socket.socket] = []

    def connected() -> socket.socket:
        made.append(socket.create_connection(("127.0.0.1", proxy.port), PATIENCE))
        return made[-1]

    yield connected
    for one in made:
        one.close()


def says(client: socket.socket, words: bytes) -> bytes:
    """What comes back, as many bytes as went; fewer if the stream ends."""
    client.sendall(words)
    return hears(client, len(words))


def hears(client: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count and (more := client.recv(count - len(got))):
        got += more
    return got


def hears_nothing(client: socket.socket) -> bool:
    client.settimeout(SILENCE)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(PATIENCE)
    return False


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


Connect = Callable[[], socket.socket]


def test_without_a_fault_all_comes_through_and_is_counted(proxy: Proxy, connect: Connect) -> None:
    sent = bytes(range(256)) * 2000
    client = connect()
    assert says(client, sent) == sent
    client.shutdown(socket.SHUT_WR)
    assert hears(client, 10) == b"over"
    assert proxy.connections == 1
    assert proxy.passed == {Way.TO_SERVER: len(sent), Way.TO_CLIENT: len(sent) + 4}
    until(lambda: proxy.live == 0)


def test_a_refused_connection_is_reset_and_an_older_one_goes_on(proxy: Proxy, connect: Connect) -> None:
    old = connect()
    assert says(old, b"one") == b"one"
    proxy.refuse()
    with pytest.raises(ConnectionError):
        says(connect(), b"two")
    assert says(old, b"three") == b"three"
    proxy.heal()
    assert says(connect(), b"four") == b"four"


def test_a_cut_resets_both_ends_of_every_connection(proxy: Proxy, connect: Connect, echo: Server) -> None:
    one, two = connect(), connect()
    assert says(one, b"one") + says(two, b"two") == b"onetwo"
    proxy.cut()
    for client in (one, two):
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    until(lambda: echo.resets == 2)
    assert says(connect(), b"three") == b"three"


def test_in_a_black_hole_connections_are_made_and_bytes_arrive_when_it_is_over(
    proxy: Proxy, connect: Connect, echo: Server
) -> None:
    old = connect()
    assert says(old, b"one") == b"one"
    proxy.black_hole()
    new = connect()
    for client in (old, new):
        client.sendall(b"two")
        assert hears_nothing(client)
    assert echo.heard == b"one"
    proxy.heal()
    assert hears(old, 3) == b"two" == hears(new, 3)


def test_a_black_hole_one_way_lets_the_server_hear(proxy: Proxy, connect: Connect, echo: Server) -> None:
    client = connect()
    proxy.black_hole(Way.TO_CLIENT)
    client.sendall(b"one")
    until(lambda: echo.heard == b"one")
    assert hears_nothing(client)
    proxy.heal()
    assert hears(client, 3) == b"one"


def test_a_server_does_not_hear_of_a_client_that_gave_up_in_a_black_hole(
    proxy: Proxy, connect: Connect, echo: Server
) -> None:
    client = connect()
    assert says(client, b"one") == b"one"
    proxy.black_hole()
    client.sendall(b"two")
    client.close()
    assert proxy.live == 1
    assert echo.heard == b"one"
    proxy.heal()
    until(lambda: echo.heard == b"onetwo")  # too late, as a partition does it


def test_a_delay_keeps_every_piece_that_long_and_heal_ends_it_at_once(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    proxy.delay(SILENCE, Way.TO_SERVER)
    began = time.monotonic()
    assert says(client, b"one") == b"one"
    assert time.monotonic() - began >= SILENCE
    proxy.delay(3600)
    client.sendall(b"two")
    assert hears_nothing(client)
    proxy.heal()
    assert hears(client, 3) == b"two"


def test_truncated_streams_end_after_that_many_bytes(proxy: Proxy, connect: Connect, echo: Server) -> None:
    old = connect()
    assert says(old, b"first") == b"first"  # what went by before does not count
    proxy.truncate(Way.TO_CLIENT, after=4)
    assert says(old, b"abcdefgh") == b"abcd"
    assert says(connect(), b"abcdefgh") == b"abcd"
    until(lambda: proxy.live == 0)
    assert echo.heard == b"first" + b"abcdefgh" * 2
    proxy.heal()
    assert says(connect(), b"whole again") == b"whole again"


def test_a_request_may_be_truncated_too(proxy: Proxy, connect: Connect, echo: Server) -> None:
    proxy.truncate(Way.TO_SERVER, after=3)
    connect().sendall(b"abcdef")
    until(lambda: echo.heard == b"abc")


def test_a_half_closed_client_sees_the_end_and_may_still_speak(proxy: Proxy, connect: Connect, echo: Server) -> None:
    client = connect()
    assert says(client, b"one") == b"one"
    proxy.half_close(Way.TO_CLIENT)
    assert client.recv(1) == b""
    client.sendall(b"two")
    until(lambda: echo.heard == b"onetwo")


def test_a_half_closed_server_sees_the_end_and_may_still_speak(proxy: Proxy, connect: Connect) -> None:
    client = connect()
    assert says(client, b"one") == b"one"
    proxy.half_close(Way.TO_SERVER)
    assert hears(client, 4) == b"over"


def test_dropped_replies_were_done_by_the_server(proxy: Proxy, connect: Connect, echo: Server) -> None:
    client = connect()
    assert says(client, b"one") == b"one"
    proxy.drop_replies()
    client.sendall(b"two")
    until(lambda: echo.heard == b"onetwo")
    assert hears_nothing(client)
    proxy.heal()
    with pytest.raises(ConnectionResetError):  # a stream with a hole in it is good for nothing
        client.recv(1)


def test_replies_are_dropped_once_a_pattern_went_by_even_in_pieces(proxy: Proxy, connect: Connect) -> None:
    client, other = connect(), connect()
    proxy.drop_replies(after=b"SUBMIT")
    assert says(client, b"look") == b"look"
    assert says(client, b"SUB") == b"SUB"
    client.sendall(b"MIT job")
    assert hears_nothing(client)
    assert says(other, b"look") == b"look"


def test_replies_of_so_many_connections_are_dropped_and_no_more(proxy: Proxy, connect: Connect) -> None:
    proxy.drop_replies(after=b"SUBMIT", times=1)
    first = connect()
    first.sendall(b"SUBMIT")
    assert hears_nothing(first)
    first.sendall(b"again")
    assert hears_nothing(first)
    assert says(connect(), b"SUBMIT") == b"SUBMIT"


def test_new_connections_go_to_another_target_and_old_ones_stay(proxy: Proxy, connect: Connect) -> None:
    old = connect()
    assert says(old, b"one") == b"one"
    with socketserver.TCPServer(("127.0.0.1", 0), Upper) as server:
        threading.Thread(target=server.handle_request).start()
        proxy.target = ("127.0.0.1", server.socket.getsockname()[1])
        assert says(connect(), b"two") == b"TWO"
        assert says(old, b"three") == b"three"


class Upper(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(self.request.recv(100).upper())


def test_a_server_that_is_not_there_resets_the_client(connect: Connect, proxy: Proxy) -> None:
    with socket.socket() as unused:  # bound, and listening to nobody
        unused.bind(("127.0.0.1", 0))
        proxy.target = unused.getsockname()
        with pytest.raises(ConnectionError):
            says(connect(), b"one")


def test_a_closed_proxy_leaves_no_thread_and_no_socket(echo: Server) -> None:
    before = threading.active_count()
    with Proxy(*echo.address) as proxy:
        client = socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)
        assert says(client, b"one") == b"one"
        proxy.black_hole()
    with client, pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), PATIENCE)
    until(lambda: threading.active_count() == before)
