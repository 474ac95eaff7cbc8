"""The pages for who runs a service: every setting that is read is told, and every command is one that there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import click
import pytest

from broker.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/configuration.md").read_text()
PAGES = ["docs/howto/run-a-service.md", "docs/howto/waive-a-residency-rule.md", *(f"docs/runbooks/{name}.md" for name in
         ("redis-is-down", "postgres-is-down", "a-worker-is-stuck", "disk-full"))]  # fmt: skip
VARIABLE = re.compile(r"CROSSFADE_[A-Z_]+")


def read_somewhere() -> set[str]:
    """Variables that are a text of their own in the code, and the password files beside addresses."""
    found = set()
    for path in (ROOT / "broker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value):
                found.add(node.value)
    return (found | {f"{name}_PASSWORD_FILE" for name in ("CROSSFADE_DATABASE", "CROSSFADE_REDIS")}) - {"CROSSFADE_"}


def test_the_page_tells_every_variable_that_is_read_and_no_other() -> None:
    assert len(read_somewhere()) >= 8
    assert set(re.findall(r"^\| `(CROSSFADE_\w+)`", PAGE, re.MULTILINE)) == read_somewhere()


@pytest.mark.parametrize("verb", ["worker", "beat", "serve"])
def test_the_page_tells_every_option_of_a_process(verb: str) -> None:
    command = app.get_command(click.Context(app), verb)
    assert command is not None
    for param in command.params:
        if isinstance(param, click.Option) and param.name != "help":
            row = next(
                (line for line in PAGE.splitlines() if line.startswith("|") and f"`{param.opts[-1]}" in line), ""
            )
            assert f"| `{verb}` |" in row, param.opts


def commands(page: str) -> set[tuple[str, ...]]:
    """Every `crossfade ...` of a page: in a block at a line's beginning or after a prompt, or in quotes."""
    text = (ROOT / page).read_text()
    blocks = "\n".join(re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    inline = re.findall(r"`(crossfade [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [re.sub(r"^\$ ", "", line) for line in [*blocks.splitlines(), *inline]]
    ours = [re.split(r"\s[#&<|]", line)[0] for line in lines if line.startswith("crossfade ")]
    return {tuple(re.sub(r"[\[\]]", "", line).split()[1:]) for line in ours}


@pytest.mark.parametrize("page", [*PAGES, "docs/reference/configuration.md"])
def test_every_command_of_a_page_is_one_that_there_is(page: str) -> None:
    assert commands(page)
    for words in commands(page):
        command: click.Command | None = app
        rest = list(words)
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), rest.pop(0))
        assert command is not None, words
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        assert {word for word in rest if word.startswith("-")} <= {*known, "--help"}, words


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("redis-is-down", "no hint can be sent ("),
        ("redis-is-down", "hints can be sent again"),
        ("redis-is-down", "; workers sweep by themselves"),
        ("postgres-is-down", "the database's server does not answer ("),
        ("postgres-is-down", "no sign of life can be written: "),
        ("postgres-is-down", "; whether a write just then was kept is unknown"),
        ("postgres-is-down", "does not let us in ("),
        ("a-worker-is-stuck", "Where every thread is:"),
        ("a-worker-is-stuck", "hints were sent to this process and none was taken in for "),
        ("a-worker-is-stuck", "the sweeper has been at the same thing for "),
        ("disk-full", "no space left where the database lives ("),
        ("disk-full", "make room on its disk, then try again"),
    ],
)
def test_what_a_runbook_has_you_look_for_is_what_is_printed(page: str, words: str) -> None:
    assert words in (ROOT / f"docs/runbooks/{page}.md").read_text()
    assert any(words in path.read_text() for path in (ROOT / "broker").rglob("*.py"))
