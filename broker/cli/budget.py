"""`budget show|set`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from broker.cli.options import change_options, output_option
from broker.cli.output import emit, table
from broker.cli.session import Session, note

if TYPE_CHECKING:
    from broker.budgets import Budgets


@click.group()
def budget() -> None:
    """Show what was spent and what is left, and set bounds: for a run, a project or a person."""


@budget.command("show")
@click.argument("target", metavar="[RUN]", required=False)
@click.option(
    "--by",
    type=click.Choice(["project", "site", "user", "run"]),
    default="project",
    show_default=True,
    help="Of all runs: what to add up by.",
)
@click.option("--reconcile", is_flag=True, help="Compare with the sites' own accounting, as far as it was asked.")
@output_option
@click.pass_obj
def show(session: Session, target: str | None, by: str, reconcile: bool, output: str) -> None:
    """Show what all runs have spent, or one: held for what runs, spent, wasted and why, and what is left."""
    run = session.service.find(target)[0] if target else None
    view = _budgets(session).show(run, by=by)
    emit(view, output=output, text=lambda: "\n\n".join(_parts(view, reconcile=reconcile)))


@budget.command("set")
@click.argument("target", metavar="[RUN]", required=False)
@click.option("--project", metavar="NAME", default="", help="Bound all runs that this account pays for.")
@click.option("--user", metavar="NAME", default="", help="Bound all runs of this person.")
@click.option("--node-hours", type=click.FloatRange(min=0), help="The most that may be spent.")
@click.option("--usd", type=click.FloatRange(min=0), help="The most, where hours are paid for.")
@click.option("--clear", is_flag=True, help="Take away what was set; what documents say holds again.")
@change_options
@output_option
@click.pass_obj
def set_(
    session: Session,
    target: str | None,
    project: str,
    user: str,
    node_hours: float | None,
    usd: float | None,
    clear: bool,
    dry_run: bool,
    reason: str,
    yes: bool,
    output: str,
) -> None:
    """Set a bound over what documents say. --reason is needed. What waits for it goes on; nothing is ended by it."""
    from broker.budgets import Wish  # noqa: PLC0415 - slow to import
    from broker.errors import UsageError  # noqa: PLC0415

    del yes  # it can be set again
    if clear is not (node_hours is None and usd is None):
        raise UsageError("say a bound, or --clear", help="--node-hours 100, --usd 50, or both")
    run = session.service.find(target)[0] if target else None
    budgets = _budgets(session)
    row = budgets.wanted(run, Wish(node_hours=node_hours, usd=usd, reason=reason, project=project, user=user))
    before = budgets.before(row, run)
    if not dry_run:
        budgets.put(row)
    after = budgets.before(row, run) if not dry_run else None
    view = {
        "kind": row.kind,
        "name": row.name,
        "node_hours": node_hours,
        "usd": usd,
        "cleared": clear,
        "reason": reason,
        "dry_run": dry_run,
    }
    new = _cap_words(after) if after is not None else ", ".join(_given(node_hours, usd)) or "what documents say"
    words = f"{row.kind} {row.name}: {_cap_words(before)} -> {new}"
    emit(view, output=output, text=lambda: f"would set {words}" if dry_run else words)
    if not dry_run and not session.served_by():
        note("kept; what waits goes on when somebody serves")


def _given(node_hours: float | None, usd: float | None) -> Iterable[str]:
    if node_hours is not None:
        yield f"{node_hours:g} node-hours"
    if usd is not None:
        yield f"{usd:g} USD"


def _cap_words(cap: Any) -> str:
    """Of a `policies.model.Cap`."""
    hours = None if cap.node_hours is None else cap.node_hours / 1e6
    return ", ".join(_given(hours, None if cap.usd is None else cap.usd / 1e6)) or "no bound"


# -- as tables -------------------------------------------------------------------------------------------------


def _parts(view: Mapping[str, Any], *, reconcile: bool) -> Iterable[str]:
    yield _charges(view["by"], view["charges"])
    if view["bounds"]:
        yield _bounds(view["bounds"])
    if view["allocations"]:
        yield _allocations(view["allocations"])
    if view["reservations"]:
        yield _reservations(view["reservations"])
    if reconcile:
        yield _reconciled(view["by"], view["charges"])


def _charges(by: str, lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            str(line[by]),
            _unit(line["unit"]),
            str(line["attempts"]),
            _figure(line["held"]),
            _figure(line["actual"]),
            _figure(line["wasted"]),
            ", ".join(f"{cause} {_figure(amount)}" for cause, amount in line["wasted_by_cause"].items()) or "-",
            _figure(line["usd"]) if line["usd"] else "-",
        ]
        for line in lines
    ]
    return table((by, "unit", "attempts", "held", "spent", "wasted", "why", "usd"), rows, empty="nothing was booked")


def _bounds(bounds: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for bound in bounds:
        for kind in ("node_hours", "usd"):
            if bound[f"cap_{kind}"] is None:
                continue
            figures = [_figure(bound[f"{what}_{kind}"]) for what in ("cap", "spent", "held", "left")]
            rows.append([f"{bound['kind']} {bound['name']}", _unit(kind), *figures, bound["set_by"] or "document"])
    return table(("bound", "unit", "cap", "spent", "held", "left", "set by"), rows, empty="")


def _allocations(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            one["site"],
            one["project"] + (f" ({one['pool']})" if one["pool"] else ""),
            _unit(one["unit"]),
            *(_figure(one[name]) for name in ("granted", "used", "left")),
            one["ends_at"] or "-",
            _age(one["age"]) + (f"; since then: {one['detail']}" if one["detail"] else ""),
        ]
        for one in found
    ]
    return table(("allocation at", "project", "unit", "granted", "used", "left", "ends", "told"), rows, empty="")


def _reservations(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            one["site"],
            one["reservation"],
            _unit(one["unit"]),
            _figure(one["block"]),
            _figure(one["used"]),
            ", ".join(f"{who or '(none)'} {_figure(share)}" for who, share in one["shares"].items()) or "nobody",
        ]
        for one in found
    ]
    return table(("reserved at", "reservation", "unit", "block", "used", "shared out to"), rows, empty="")


def _reconciled(by: str, lines: Sequence[Mapping[str, Any]]) -> str:
    from broker.charged import differs  # noqa: PLC0415 - needs the store

    rows = [
        [
            str(line[by]),
            _unit(line["unit"]),
            _figure(line["compared"]),
            _figure(line["site_says"]),
            _figure(line["difference"]),
            "look at it" if differs(line) else "agrees",
        ]
        for line in lines
        if line["compared"] or line["site_says"]
    ]
    headings = (by, "unit", "booked", "the site says", "difference", "")
    return table(headings, rows, empty="no site's accounting was asked yet for what is booked here")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _unit(unit: str) -> str:
    return unit.replace("_", "-")


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def _budgets(session: Session) -> Budgets:
    from broker.budgets import Budgets  # noqa: PLC0415 - needs the store

    return Budgets.of(session.service)
