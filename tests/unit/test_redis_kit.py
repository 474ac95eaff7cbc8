"""The servers that other tests rely on: they hold and lose data, answer and refuse, as real ones do."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import leftovers
import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis_kit import COMMANDS, Account, RedisServer

Make = Callable[..., RedisServer]


def pid(server: RedisServer) -> int:
    return int(server.command("INFO", "server")["process_id"])


def a_client(server: RedisServer, **options: Any) -> redis.Redis:
    """Not the kit's own: it may do what `options` give it the right to, and tries everything once."""
    return redis.Redis(port=server.port, retry=Retry(NoBackoff(), 0), **options)


def as_account(server: RedisServer) -> redis.Redis:
    """A client with the rights that Celery has there."""
    assert server.account is not None
    return a_client(server, username=server.account.name, password=server.account.password)


def test_the_shared_server_answers_at_its_address(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.ping()


def test_a_server_listens_on_the_loopback_alone(redis_server: RedisServer) -> None:
    listening = psutil.Process(pid(redis_server)).net_connections("inet")
    assert {one.laddr.ip for one in listening if one.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_a_killed_server_forgets_and_comes_back_at_its_port(make_redis: Make) -> None:
    server = make_redis()
    port = server.port
    server.command("SET", "a", "b")
    server.kill9()
    with pytest.raises(redis.ConnectionError):
        server.command("PING")
    server.restart()
    assert server.port == port
    assert server.command("GET", "a") is None


@pytest.mark.parametrize("appendonly", ["everysec", "always"])
def test_a_server_with_a_log_remembers(make_redis: Make, appendonly: str) -> None:
    server = make_redis(appendonly=appendonly)
    server.command("SET", "a", "b")
    server.stop()
    server.restart()
    assert server.command("GET", "a") == "b"


def test_an_answered_write_outlives_a_kill_where_each_is_logged(make_redis: Make) -> None:
    server = make_redis(appendonly="always")
    server.command("SET", "a", "b")
    server.kill9()
    server.restart()
    assert server.command("GET", "a") == "b"


def test_a_frozen_server_takes_connections_and_answers_when_thawed(make_redis: Make) -> None:
    server = make_redis()
    server.freeze()
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(b"PING\r\n")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(10)
        server.thaw()
        client.settimeout(20)
        assert client.recv(10) == b"+PONG\r\n"


def test_a_frozen_server_can_be_ended(make_redis: Make) -> None:
    server = make_redis()
    process = psutil.Process(pid(server))
    server.freeze()
    server.close()
    assert not process.is_running()


def test_a_full_server_refuses_what_is_new(make_redis: Make) -> None:
    server = make_redis(maxmemory="1")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        server.command("SET", "a", "b")


def test_an_account_keeps_to_its_prefix_and_its_commands(make_redis: Make) -> None:
    server = make_redis(account=Account())
    with as_account(server) as client:
        client.lpush("crossfade:queue", "1")
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.lpush("other:queue", "1")
        for refused in ("FLUSHALL", "CONFIG GET maxmemory", "KEYS *", "SHUTDOWN", "EVAL x 0", "ACL LIST"):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*refused.split())
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.publish("other:channel", "1")
        client.publish("crossfade:news", "1")
    assert server.command("LLEN", "crossfade:queue") == 1


def test_nobody_comes_in_without_a_password_where_there_are_accounts(make_redis: Make) -> None:
    server = make_redis(account=Account(commands=(*COMMANDS, "info")))
    with a_client(server) as client, pytest.raises(redis.exceptions.AuthenticationError):
        client.ping()


def test_tls_is_spoken_with_who_trusts_the_authority_and_nobody_else(make_redis: Make) -> None:
    server = make_redis(tls=True)
    assert server.command("PING")
    with a_client(server, ssl=True) as stranger, pytest.raises(redis.ConnectionError, match="CERTIFICATE"):
        stranger.ping()
    with a_client(server) as plain, pytest.raises(redis.ConnectionError):
        plain.ping()


def test_a_server_that_a_test_left_behind_is_found(make_redis: Make) -> None:
    server = make_redis()
    assert pid(server) in [process.pid for process in leftovers.jobs_below(server.folder.parent)]


def test_a_server_at_a_path_has_no_port(make_redis: Make) -> None:
    server = make_redis(unix=True)
    assert server.command("PING")
    assert psutil.Process(pid(server)).net_connections("inet") == []
    assert server.socket_path.stat().st_mode & 0o077 == 0


def test_a_replica_follows_and_refuses_writes_until_promoted(make_redis: Make) -> None:
    first = make_redis()
    first.command("SET", "a", "b")
    second = make_redis(replicaof=first)
    second.in_sync()
    assert second.command("GET", "a") == "b"
    with pytest.raises(redis.exceptions.ReadOnlyError):
        second.command("SET", "a", "c")
    second.promote()
    assert second.command("SET", "a", "c")


def test_a_server_whose_port_is_taken_says_so(make_redis: Make, tmp_path: Path) -> None:
    taken = make_redis()
    other = RedisServer(tmp_path)
    other.port = taken.port
    with pytest.raises(RuntimeError, match="in use"):
        other.start()
    assert taken.command("PING")
