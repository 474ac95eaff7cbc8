"""Telling: over a real HTTPS server, a real mail server, and commands; and what does not get out."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from alert_kit import Hook, deaf_port, mail_sink, webhook
from broker_kit import fresh_store

from broker.alerts import command, mail, web
from broker.alerts.allowed import MailConfig, NotifyConfig
from broker.alerts.errors import NotTold
from broker.alerts.message import message_of
from broker.alerts.rows import AlertRow, new_alert
from broker.alerts.sending import Sender
from broker.clock import VirtualClock

NOW = 1_780_000_000.0


def row(
    address: str = "command:page", key: str = "needs_person:r:0:1", text: str = "a waits", **said: object
) -> AlertRow:
    made = new_alert(
        installation="me",
        key=key,
        kind="needs_person",
        address=address,
        now=0,
        body={"text": text, "help": "crossfade explain r/a", "name": "tomo", "stage": "a"},
        run_id="r",
        n=0,
        about="a",
    )
    return made._replace(**said)


def message(**said: object):
    return message_of(row(**said), installation="me")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    with webhook(tmp_path_factory.mktemp("hook")) as hook:
        yield hook


@pytest.fixture
def hook(served: Hook) -> Hook:
    served.got.clear()
    served.answers.clear()
    served.location = ""
    return served


def config(hook: Hook, **said: object) -> NotifyConfig:
    known = NotifyConfig(hosts=frozenset({("127.0.0.1", int(hook.host.rpartition(":")[2]))}), ca=hook.ca)
    return replace(known, **said)


# -- a webhook -------------------------------------------------------------------------------------------------


def test_a_webhook_gets_one_small_json_under_the_name_of_the_message(hook: Hook) -> None:
    web.tell(hook.address, message(number=2), config(hook), now=NOW)
    ((headers, body),) = hook.got
    said = json.loads(body)
    assert (said["text"], said["help"], said["run"], said["number"]) == ("a waits", "crossfade explain r/a", "r", 3)
    assert headers["X-Crossfade-Notice"] == said["id"]
    assert headers["Idempotency-Key"] == f"{said['id']}.3"
    assert headers["Content-Type"] == "application/json"
    assert "X-Crossfade-Signature" not in headers


def test_what_is_sent_is_signed_with_the_installations_secret(hook: Hook, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-shared-secret-of-two\n")
    secret.chmod(0o600)
    web.tell(hook.address, message(), config(hook, secret=f"file:{secret}"), now=NOW)
    ((headers, body),) = hook.got
    stamp, mac = headers["X-Crossfade-Signature"].split(",")
    wanted = hmac.new(b"a-shared-secret-of-two", f"{int(NOW)}.".encode() + body, hashlib.sha256).hexdigest()
    assert (stamp, mac) == (f"t={int(NOW)}", f"v1={wanted}")


def test_no_redirect_is_followed(hook: Hook) -> None:
    hook.answers, hook.location = [302], hook.address
    with pytest.raises(NotTold, match="answered 302: it sends us elsewhere"):
        web.tell(hook.address, message(), config(hook), now=NOW)
    assert len(hook.got) == 1


def test_a_webhook_that_answers_with_an_error_was_not_told(hook: Hook) -> None:
    hook.answers = [503]
    with pytest.raises(NotTold, match=r"127\.0\.0\.1 answered 503"):
        web.tell(hook.address, message(), config(hook), now=NOW)


def test_a_machine_inside_is_told_only_if_the_owner_has_named_it(hook: Hook) -> None:
    with pytest.raises(NotTold, match=r"is a machine inside \(127\.0\.0\.1\), and notify\.web\.hosts does not name it"):
        web.tell(hook.address, message(), config(hook, hosts=frozenset()), now=NOW)
    for inside in ("10.0.0.1", "169.254.169.254", "::1", "fe80::1%lo", "192.168.1.7"):
        with pytest.raises(NotTold, match="is a machine inside"):
            web.tell("https://evil.example.org/", message(), NotifyConfig(), now=NOW, find=lambda *_, i=inside: [i])
    assert hook.got == []


def test_a_name_that_means_a_machine_inside_by_any_of_its_addresses_is_not_told(hook: Hook) -> None:
    found = ["93.184.216.34", "127.0.0.1"]
    with pytest.raises(NotTold, match="is a machine inside"):
        web.tell("https://evil.example.org/", message(), NotifyConfig(), now=NOW, find=lambda *_: found)


def test_a_server_that_is_not_who_it_says_is_told_nothing(hook: Hook) -> None:
    with pytest.raises(NotTold, match="certificate"):
        web.tell(hook.address, message(), config(hook, ca=None), now=NOW)
    assert hook.got == []


# -- mail ------------------------------------------------------------------------------------------------------


def relay(port: int, **said: object) -> MailConfig:
    known = MailConfig(host="127.0.0.1", port=port, sender="crossfade@example.org", tls="none")
    return replace(known, **said)


def test_a_mail_says_what_happened_and_what_helps_and_its_repetition_answers_it() -> None:
    with mail_sink() as sink:
        for number in (0, 1):
            mail.tell("ann@example.org", message(number=number), relay(sink.port), now=NOW)
    first, again = sink.mails
    assert (first["To"], first["From"]) == ("ann@example.org", "crossfade@example.org")
    assert first["Subject"] == "[crossfade] needs person: tomo/a"
    text = first.get_payload()
    assert "a waits" in text
    assert "What helps: crossfade explain r/a" in text
    assert f"crossfade ack {row().id} --reason" in text
    assert first["Message-ID"] != again["Message-ID"]
    assert again["In-Reply-To"] == first["Message-ID"]


def test_the_same_mail_sent_twice_has_the_same_message_id() -> None:
    with mail_sink() as sink:
        for _ in range(2):
            mail.tell("ann@example.org", message(), relay(sink.port), now=NOW)
    assert sink.mails[0]["Message-ID"] == sink.mails[1]["Message-ID"]


def test_no_text_of_a_job_makes_a_header_of_its_own() -> None:
    with mail_sink() as sink:
        mail.tell("ann@example.org", message(text="x\r\nBcc: eve@example.org\x1b[2J"), relay(sink.port), now=NOW)
    (got,) = sink.mails
    assert got["Bcc"] is None
    assert "\x1b" not in got.get_payload()


def test_a_relay_that_refuses_is_quoted_and_one_that_cannot_encrypt_gets_nothing() -> None:
    with mail_sink() as sink:
        sink.refused.add("nobody@example.org")
        with pytest.raises(NotTold, match="550 nobody of that name"):
            mail.tell("nobody@example.org", message(), relay(sink.port), now=NOW)
        with pytest.raises(NotTold, match="STARTTLS"):
            mail.tell("ann@example.org", message(), relay(sink.port, tls="starttls"), now=NOW)
        sink.greylisted = 1
        with pytest.raises(NotTold, match="451 come again"):
            mail.tell("ann@example.org", message(), relay(sink.port), now=NOW)
    assert sink.mails == []


# -- a command -------------------------------------------------------------------------------------------------


def script(folder: Path, text: str) -> tuple[str, ...]:
    made = folder / "page"
    made.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{text}\n")
    made.chmod(0o700)
    return (str(made),)


def test_a_command_gets_it_on_stdin_and_in_its_environment_and_no_shell_reads_it(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    argv = script(
        tmp_path, f"json.dump([json.load(sys.stdin), dict(os.environ), sys.argv[1:]], open({str(out)!r}, 'w'))"
    )
    text = "$(touch /tmp/pwned); `id`\x00 'quoted'"
    env = {"PATH": os.environ["PATH"], "HOME": "/home/me", "NERSC_TOKEN": "hush"}
    command.tell((*argv, "--group", "x y"), message(text=text), folder=tmp_path, env=env)
    said, had, arguments = json.loads(out.read_text())
    assert said["text"] == "$(touch /tmp/pwned); `id` 'quoted'"
    assert had["CROSSFADE_NOTICE_TEXT"] == said["text"]
    assert had["CROSSFADE_NOTICE_ID"] == row().id
    assert "NERSC_TOKEN" not in had  # it is nobody's business
    assert arguments == ["--group", "x y"]


def test_a_command_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(NotTold, match="ended with 3: no such pager"):
        command.tell(
            script(tmp_path, "sys.exit(print('no such pager', file=sys.stderr) or 3)"), message(), folder=tmp_path
        )
    with pytest.raises(NotTold, match="cannot be started"):
        command.tell(("/nowhere/page",), message(), folder=tmp_path)


def test_a_command_that_takes_too_long_ends_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "SECONDS", 0.5)
    left = tmp_path / "pid"
    argv = script(
        tmp_path,
        f"pid = os.fork()\nif pid: open({str(left)!r}, 'w').write(str(pid))\ntime.sleep(60)",
    )
    began = time.monotonic()
    with pytest.raises(NotTold, match="took more than"):
        command.tell(argv, message(), folder=tmp_path)
    assert time.monotonic() - began < 10
    if left.exists():
        for _ in range(100):
            if not _lives(int(left.read_text())):
                break
            time.sleep(0.02)
        assert not _lives(int(left.read_text()))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# -- a pass ----------------------------------------------------------------------------------------------------


def test_one_pass_tells_all_three_and_a_dead_one_holds_up_nobody(hook: Hook, tmp_path: Path) -> None:
    clock = VirtualClock()
    store = fresh_store(clock, lambda _: 7)
    out = tmp_path / "out"
    argv = script(tmp_path, f"open({str(out)!r}, 'a').write(json.load(sys.stdin)['id'] + chr(10))")
    with mail_sink() as sink, deaf_port() as port:
        dead = f"https://127.0.0.1:{port}/x"
        told = config(
            hook,
            commands={"page": argv},
            mail=relay(sink.port, to=("*@example.org",)),
            folder=tmp_path,
        )
        told = replace(told, hosts=told.hosts | {("127.0.0.1", port)})
        rows = [
            new_alert(installation="me", key=f"done:{i}", kind="done", address=to, now=clock(), body={"text": "x"})
            for i, to in enumerate(["command:page", "mailto:ann@example.org", hook.address, dead, dead])
        ]
        store.alerts.keep_standing(rows, kind="done", abouts=None, why="", now=clock())
        patch = pytest.MonkeyPatch()
        patch.setattr(web, "SECONDS", 0.3)
        assert Sender(store, told, clock=clock, owner="w").run() == 3
        patch.undo()
    assert out.read_text().split() == [rows[0].id]
    assert len(sink.mails) == len(hook.got) == 1
    after = {r.id: r for r in store.alerts.ls()}
    assert [after[r.id].state for r in rows[:3]] == ["told"] * 3
    failed, waits = sorted((after[r.id] for r in rows[3:]), key=lambda r: -r.tries)
    assert (failed.state, failed.tries, waits.state, waits.tries) == ("failing", 1, "new", 0)
    assert "127.0.0.1" in failed.error
    assert waits.error.startswith("waits for its address")
    store.close()


def test_what_the_owner_has_taken_out_since_is_not_told_any_more(hook: Hook) -> None:
    clock = VirtualClock()
    store = fresh_store(clock, lambda _: 7)
    gone = new_alert(installation="me", key="k", kind="done", address="command:gone", now=clock(), body={"text": "x"})
    store.alerts.keep_standing([gone], kind="done", abouts=None, why="", now=clock())
    assert Sender(store, config(hook), clock=clock, owner="w").run() == 0
    (after,) = store.alerts.ls()
    assert (after.state, after.error) == ("failing", "there is no command 'gone'")
    store.close()


def test_the_owners_secret_file_must_be_closed_to_others(hook: Hook, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open-to-all-of-them")
    secret.chmod(0o644)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o644
    with pytest.raises(NotTold, match=r"notify\.web\.secret"):
        web.tell(hook.address, message(), config(hook, secret=f"file:{secret}"), now=NOW)
    assert hook.got == []
