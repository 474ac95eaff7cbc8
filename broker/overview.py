"""How an installation stands: its sites, what is under way there, what is at risk, and who must act."""

from __future__ import annotations

from collections.abc import Mapping

from broker.alerts.acking import Acking
from broker.at_risk import at_risk
from broker.operating.freezes import Freezes
from broker.operating.leaving import lines
from broker.overview_silence import Silence, silences
from broker.runbooks import fitting
from broker.service import Service
from broker.standing import standing
from broker.store.base import SiteRow
from broker.views import View, when
from broker.waiting import asked_of_people

MOST_RUNS = 1000


def _answered_by(target: str) -> str:
    """What a person types who is asked about a stage."""
    return f"crossfade explain {target}, then crossfade answer {target} retry|wait|cancel|move:SITE"


def overview(service: Service, *, now: int) -> View:
    """What `status` says without a run."""
    runs = service.store.runs(unfinished=True, limit=MOST_RUNS)
    dark = {silence.site: silence for silence in silences(service)}
    asked = [
        {
            "run": run.run_id,
            "stage": stage.path,
            "reason": stage.reason,
            "do": _answered_by(f"{run.run_id}/{stage.path}"),
        }
        for run in runs
        for stage in asked_of_people(service.store.stages(run.run_id))
    ]
    rows = {row.site: row for row in service.store.sites()}
    return {
        "freezes": Freezes(service).ls(),
        "leaving": lines(service),
        "sites": [_with_page(_site(view, rows.get(str(view["site"])), dark, now)) for view in service.site_list()],
        "runs": service.queue(),
        "at_risk": at_risk(service, runs, dark),
        "needs_person": asked,
        "notices": Acking(service).ls(open_only=True),
    }


def _site(view: View, row: SiteRow | None, dark: Mapping[str, Silence], now: int) -> View:
    silence = dark.get(str(view["site"]))
    held = _quarantine_line(str(view["site"])) if view["quarantined"] else ""
    view = {**view, **standing(view, row, silence, now=now).view}
    if silence is None:
        return {**view, "unreachable_stages": 0, "moves_at": None, "says": held or _health_line(view)}
    return {
        **view,
        "unreachable_stages": silence.unreachable,
        "moves_at": when(silence.moves_at),
        "says": f"{silence.line(now)}; {held}" if held else silence.line(now),
    }


def _with_page(view: View) -> View:
    return {**view, "runbook": fitting(view)}


def _health_line(view: View) -> str:
    """What is judged to be wrong at a site that answers; empty: nothing."""
    site, health = view["site"], view["health"]
    return "" if health in ("up", "unknown") else f"{site}: {health}; `crossfade site show {site}` says why"


def _quarantine_line(site: str) -> str:
    return (
        f"{site}: in quarantine since a backup was restored; ends by itself when the site has listed its jobs, "
        f"else `crossfade site release {site} --reason ...`"
    )
