"""The report as a person reads it."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from broker.cli.demo.report import Report
from broker.cli.demo.script import STAGE
from broker.cli.output import styled

WIDTH = 110
_DECIDED = ("failover", "placement", "checkpoint", "retry")
"""Kinds of decisions that say why the stage left, and why it is where it is."""


def report_text(report: Report) -> str:
    """What happened, why, what it cost, and what was left."""
    blocks = [
        _block("What happened", _timeline(report)),
        _block(f"Why: the decisions about {STAGE}", _decisions(report)),
        _block("What Globus carried", _carried(report)),
        _block("What it cost", _cost(report)),
        _block("What came of it", _result(report)),
    ]
    return "\n\n".join(blocks)


def _block(heading: str, lines: Iterator[str]) -> str:
    bold = click.style(heading, bold=True) if styled(sys.stdout) else heading
    return "\n".join([bold, *lines])


def _timeline(report: Report) -> Iterator[str]:
    width = max((len(moment.who) for moment in report.timeline), default=0)
    for moment in report.timeline:
        yield from _wrapped(f"  {moment.seconds:5.1f} s  {moment.who:{width}}  ", moment.what)


def _decisions(report: Report) -> Iterator[str]:
    for decision in report.decisions:
        if _says_why(decision):
            first, *others = (words.replace(f"{report.script.home}/", "") for words in decision["words"])
            yield from _wrapped(f"  {STAGE}@{decision['attempt']}  ", first)
            for words in others:
                yield from _wrapped(" " * (len(STAGE) + 6), words)


def _says_why(decision: Mapping[str, Any]) -> bool:
    return decision["kind"] in _DECIDED and decision["outcome"] != "stay"


def _carried(report: Report) -> Iterator[str]:
    """Of the run that lost its site."""
    mine = [transfer for transfer in report.transfers if report.run in str(transfer["label"])]
    for transfer in mine:
        what = str(transfer["label"]).replace(f"{report.run}/", "")
        way = f"{transfer['from']} to {transfer['to']}"
        yield f"  {way:16}  {transfer['moved']:>9} bytes  {transfer['seconds']:4.1f} s  {transfer['state']:9}  {what}"
    others = len(report.transfers) - len(mine)
    yield f"  {len(mine)} transfers; the undisturbed run had {others}"


def _cost(report: Report) -> Iterator[str]:
    for number, count in report.slices.items():
        yield f"  attempt {number} computed {_slices(count)}"
    twice = _slices(max(0, report.computed - report.slices_undisturbed))
    yield f"  the undisturbed run computed {_slices(report.slices_undisturbed)}: the loss cost {twice} done twice"
    pace = report.pace
    yield from _wrapped(
        "  ",
        f"not computed again: {_slices(report.carried_over)}, about {report.saved_seconds:.1f} s saved "
        f"({report.carried_over} x {pace.per_slice:.3f} s: {_slices(pace.slices)} were seen to take "
        f"{pace.seconds:.1f} s at {report.lost.site})",
    )


def _slices(count: int) -> str:
    return "1 slice" if count == 1 else f"{count} slices"


def _result(report: Report) -> Iterator[str]:
    yield f"  after the loss  {report.digest or 'none'}"
    yield f"  undisturbed     {report.digest_undisturbed or 'none'}"
    yield f"  {_verdict(report)}"
    if report.picture:
        yield f"  picture: {_near(report.picture)}"
    if report.script.keep:
        home = report.script.home
        yield f"  look closer: CROSSFADE_HOME={home} crossfade --sites {home}/sites.yaml explain {report.run}/{STAGE}"
    yield f"  {report.seconds:.1f} s in all"


def _near(path: Path) -> Path:
    """Short where it lies below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _verdict(report: Report) -> str:
    if not report.same:
        return _coloured("the results DIFFER", "red")
    return _coloured("the same, bit for bit", "green")


def _coloured(words: str, colour: str) -> str:
    return click.style(words, fg=colour, bold=True) if styled(sys.stdout) else words


def _wrapped(before: str, words: str) -> list[str]:
    """Paragraphs with a hanging indent; long paths are not torn."""
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=before,
        subsequent_indent=" " * len(before),
        break_long_words=False,
        break_on_hyphens=False,
    )
