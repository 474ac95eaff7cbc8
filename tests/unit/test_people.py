"""Who a person is: what the kernel and the list of users say, and no variable."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest

from broker import people
from broker.config import read_settings

NAMES = {1001: "ann", 0: "root"}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that knows two users, where root's process runs; the file tells who logged in."""

    def entry(uid: int) -> SimpleNamespace:
        return SimpleNamespace(pw_name=NAMES[uid])

    monkeypatch.setattr(pwd, "getpwuid", entry)
    monkeypatch.setattr(os, "getuid", lambda: 0)
    login = tmp_path / "loginuid"
    monkeypatch.setattr(people, "_LOGIN", login)
    return login


@pytest.mark.parametrize(
    ("login", "name"),
    [("1001", "ann"), ("1001\n", "ann"), ("4294967295", "root"), ("", "root"), (None, "root"), ("77", "77")],
    ids=["behind sudo", "with a line's end", "no login", "empty", "no such file", "a user without a name"],
)
def test_who_logged_in_counts_and_else_whose_process_it_is(machine: Path, login: str | None, name: str) -> None:
    if login is not None:
        machine.write_text(login)
    assert people.whoami() == name


def test_variables_name_actors_and_no_persons(machine: Path) -> None:
    machine.write_text("1001")
    settings = read_settings({"USER": "bob", "LOGNAME": "bob", "HOME": "/"})
    assert (settings.user, settings.person) == ("bob", "ann")
