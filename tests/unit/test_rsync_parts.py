"""Parts of the rsync mover that need no server: its scripts, its command line, what is made of foreign words."""

from __future__ import annotations

import re
import shlex
import subprocess
import threading
from pathlib import Path

import pytest
import tool_kit

from connectors.command import CommandOptions
from connectors.errands import TransferFailure
from connectors.files import shell_scripts
from connectors.files.shell import Record
from connectors.model import TransferItem
from connectors.rsync import scripts
from connectors.rsync.ends import End, Here
from connectors.rsync.plan import make_plan
from connectors.rsync.program import Progress, Run
from connectors.ssh.openssh import OpenSshTransport
from connectors.ssh.options import SshOptions
from connectors.ssh.reach import Reach

SCRIPTS = ["LOOK", "DIGESTS", "RECEIPT", "READY", "DROP", "BUSY", "PUBLISH"]


@pytest.mark.parametrize("verb", SCRIPTS)
def test_the_scripts_are_clean(verb: str) -> None:
    checked_by_shellcheck(shell_scripts.HEAD + getattr(scripts, verb) + shell_scripts.TAIL)


def test_what_rsync_is_wrapped_in_is_clean() -> None:
    values = dict.fromkeys(("root", "folder", "program", "umask"), "'it'\\''s'")
    checked_by_shellcheck(scripts.SERVE.format(**values, where="there", lock=scripts.LOCK))


def checked_by_shellcheck(text: str) -> None:
    checked = subprocess.run(
        [tool_kit.require_tool("shellcheck"), "--shell=sh", "--exclude=SC2034,SC2317,SC2329", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def far(root: str = "/far/root", **options: str) -> End:
    chosen = SshOptions(host="there", **options)
    reach = Reach(transport=OpenSshTransport(site="far", options=chosen), options=chosen, root=root)
    return End("far", reach, stop=threading.Event())


def near(folder: Path) -> End:
    return End("near", Here(live_root=lambda: folder), stop=threading.Event())


def argv(tmp_path: Path, end: End) -> list[str]:
    tool_kit.require_tool("rsync")
    return list(Run(source=near(tmp_path), destination=end, stage="incoming/k/in-0")._argv())


def test_no_value_of_ours_is_seen_by_a_shell_at_the_other_end(tmp_path: Path) -> None:
    words = argv(tmp_path, far(root="/far/it's $(touch hacked)"))
    (path,) = [word for word in words if word.startswith("--rsync-path=")]
    assert re.fullmatch(r"--rsync-path=exec /bin/sh -c 'eval \"\$\(printf %s [\w+/=]+ \| base64 -d\)\"' rsync", path)
    assert not any("hacked" in word for word in words)
    assert "--secluded-args" in words


def test_the_ssh_command_is_taken_apart_by_rsync_as_it_was_put_together(tmp_path: Path) -> None:
    config = tmp_path / "it's my config"
    end = far(ssh_config=str(config), control=str(tmp_path / "c"))
    (rsh,) = [word for word in argv(tmp_path, end) if word.startswith("--rsh=")]
    assert end.reach is not None
    _, inner = rsh.removeprefix("--rsh=/bin/sh -c ").split("exec 9>&-; ", 1)
    command = inner.removesuffix("'").replace("''", "'")  # a doubled quote is one: rsync's own rule
    assert shlex.split(command) == ["exec", *end.reach.transport.argv(), "$@"]


def test_the_line_may_be_left_to_others(tmp_path: Path) -> None:
    assert "--bwlimit=50m" in argv(tmp_path, far(bwlimit="50m"))
    assert not any(word.startswith("--bwlimit") for word in argv(tmp_path, far()))


@pytest.mark.parametrize(
    ("option", "value"),
    [("bwlimit", "fast"), ("bwlimit", "1;reboot"), ("bwlimit", True), ("rsync", "rsync -e sh"), ("rsync", "$(x)")],
)
def test_options_that_make_no_sense_are_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=option):
        CommandOptions.read("there", {option: value})


def test_options_are_taken_as_they_are() -> None:
    options = CommandOptions.read("there", {"bwlimit": "50m", "rsync": "/opt/rsync/bin/rsync"})
    assert (options.bwlimit, options.rsync) == ("50m", "/opt/rsync/bin/rsync")


def test_progress_is_heard_however_the_output_is_cut() -> None:
    told: list[int] = []
    progress = Progress(told.append)
    output = b"\r         32,768   0%\r        1048576  10%    1.00MB/s    0:00:01\r    2097152  20%\n"
    output += b"Literal data: 77 bytes\n"
    for at in range(len(output)):
        progress.hear(output[at : at + 1])
    assert told[-1] == 2_097_152
    assert progress.sent == 77
    progress.hear(b"x" * 1_000_000)
    assert len(progress._tail) <= 4_096


@pytest.mark.parametrize(
    "body",
    [
        b"regular file/1/1/./../outside",
        b"regular file/1/1/.//etc/passwd",
        b"regular file/1/1/./a\\b",
        b"regular file/x/1/./a",
        b"regular file/1/1/a",
        b"regular file/99999999999999999999999/1/./a",
        b"regular file/1/1/./\xff",
    ],
)
def test_a_listing_that_makes_no_sense_or_leads_out_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    end = near(tmp_path)
    monkeypatch.setattr(End, "ask", lambda *_, **__: [Record("l", ("1",), body, "near")])
    with pytest.raises(TransferFailure) as caught:
        make_plan([TransferItem(source="from/", destination="to/")], end)
    assert caught.value.site == "near"


def test_a_source_that_tells_of_less_than_was_asked_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(End, "ask", lambda *_, **__: [Record("s", ("1", "5", "1"), b"", "near")])
    items = [TransferItem(source=name, destination=name) for name in ("a", "b")]
    with pytest.raises(TransferFailure, match="did not tell of every file"):
        make_plan(items, near(tmp_path))


def test_another_look_at_a_source_that_has_changed_gets_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = set()
    for size, written in ((5, 1), (5, 2), (6, 1), (5, 1)):
        told = [Record("s", ("1", str(size), str(written)), b"", "near")]
        monkeypatch.setattr(End, "ask", lambda *_, told=told, **__: told)
        stages.add(make_plan([TransferItem(source="a", destination="b")], near(tmp_path)).stage)
    assert len(stages) == 3
