"""`init`: a first workflow and site document, or a workflow made of a batch script."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import output_option
from broker.cli.output import emit
from broker.cli.session import Session, note
from broker.errors import NotFound, UsageError

if TYPE_CHECKING:
    from broker.cli.sbatch import BatchScript

WORKFLOW = """\
# A workflow document. Check it with `crossfade validate`, start it with `crossfade run`.
crossfade: 1
name: first
params:
  who: {type: text, default: world}        # set it with -p who=...
stages:
  greet:
    run: |                                 # /bin/sh -eu, in a folder of its own
      printf 'Hello, %s!\\n' ${{ params.who }} > letter.txt
    outputs: [{path: letter.txt, required: true}]
  count:
    inputs: [{name: letter.txt, from: greet}]   # brought to wherever this stage runs
    run: wc -c < letter.txt
"""
SITES = """\
# The sites where stages may run. `crossfade site check NAME` tries one.
crossfade: 1
sites:
  here: {profile: local, root: ./crossfade-here}
"""


@click.command()
@click.option(
    "--from",
    "script",
    metavar="SCRIPT",
    type=click.Path(path_type=Path),
    help="Make the workflow of a Slurm batch script.",
)
@click.option("--site", metavar="SITE", help="With --from: the site or profile that the script was written for.")
@output_option
@click.pass_obj
def init(session: Session, script: Path | None, site: str | None, output: str) -> None:
    """Write workflow.yaml and sites.yaml here. What is there already is left as it is."""
    del session
    if site and script is None:
        raise UsageError("--site says for which site a script was written", help="give --from SCRIPT too")
    text = WORKFLOW if script is None else _from_script(script, site)
    documents = {Path("workflow.yaml"): text, Path("sites.yaml"): SITES}
    written = [str(path) for path, content in documents.items() if _write_new(path, content)]
    kept = [str(path) for path in documents if str(path) not in written]
    if script is not None and "workflow.yaml" in kept:
        raise UsageError("workflow.yaml is there already", help="move it away, or work in another folder")
    emit({"written": written, "kept": kept}, output=output, text=lambda: _told(written, kept))


def _told(written: list[str], kept: list[str]) -> str:
    lines = [f"wrote {name}" for name in written] + [f"kept {name}, which was there" for name in kept]
    return "\n".join([*lines, "next: crossfade run workflow.yaml"])


def _write_new(path: Path, content: str) -> bool:
    """Write a file that is not there; False: it is."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}", help="work in a folder of your own") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    return True


def _from_script(path: Path, site: str | None) -> str:
    from broker.cli.sbatch import read_sbatch  # noqa: PLC0415

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFound(f"no file {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", help="name a Slurm batch script") from error
    script = read_sbatch(text)
    for words in script.not_taken:
        note(f"not taken over: {words}")
    return _workflow_of(script, path, site)


def _workflow_of(script: BatchScript, path: Path, site: str | None) -> str:
    """The document, as text. Expressions of ours in the script are its own text, and are refused by `validate`."""
    import yaml  # noqa: PLC0415 - slow to import

    stage: dict[str, Any] = {"resources": script.resources}
    if script.submit:
        stage["at"] = {site or "slurm": {"submit": script.submit}}
    document = {"crossfade": 1, "name": script.name, "stages": {"job": {**stage, "run": script.body}}}
    dumped = yaml.dump(document, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=110)
    where = "" if site or not script.submit else "# `slurm` below stands for your site or its profile: name it.\n"
    return f"# Made of {path.name}. Add outputs, and a checkpoint if the code writes one.\n{where}{dumped}"


def _dumper() -> Any:
    """Writes texts of several lines as blocks."""
    import yaml  # noqa: PLC0415

    class Blocks(yaml.SafeDumper):
        pass

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Blocks.add_representer(str, text)
    return Blocks
