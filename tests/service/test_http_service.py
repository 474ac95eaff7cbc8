"""Two servers answer for one installation: what one stores, the other knows, and a key is kept once."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from service_kit import House, Process, until

from broker.client import Client
from broker.config import read_settings
from broker.errors import KeyInUse

HELLO = "crossfade: 1\nname: hello\nstages:\n  first: {run: 'echo hi'}\n"


def place(process: Process) -> str:
    """The port at which it listens."""
    until(lambda: "listening at http" in process.told(), "the server listens")
    return re.findall(r"listening at (http://\S+)", process.told())[-1]


def submit(client: Client, key: str, document: str = HELLO) -> str:
    try:
        answer = client.submit(document, key=key)
    except KeyInUse as error:
        return f"in use by {error.run_id}"
    return f"{'new' if answer.new else 'known'} {answer.run}"


def test_a_key_that_two_servers_take_at_once_is_one_run_that_both_know(home: House) -> None:
    servers = [home.start("serve", "--listen", "127.0.0.1:0", kept=False) for _ in range(2)]
    settings = read_settings(home.env)
    with (
        Client.of_home(settings, where=place(servers[0])) as first,
        Client.of_home(settings, where=place(servers[1])) as second,
        ThreadPoolExecutor(8) as pool,
    ):
        both = (first, second)
        for n in range(5):
            key = f"key-{n}"
            answers = list(pool.map(lambda i, key=key: submit(both[i % 2], key), range(8)))
            assert sum(answer.startswith("new") for answer in answers) == 1
            assert len({answer.split()[1] for answer in answers}) == 1
        other = HELLO.replace("hi", "ho")
        rivals = set(pool.map(lambda i: submit(both[i % 2], "rival", (HELLO, other)[i % 2]).split()[-1], range(8)))
        assert len(rivals) == 1  # one document has the key; who brings the other is told whose it is
        assert len(first.history()) == len(second.history()) == 6
        run = first.queue()[0]["run"]
        assert second.status(run)["run"] == run
