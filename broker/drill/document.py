"""The drill file: sites, a workflow, what goes wrong, and what that may cost at the most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from broker.drill.values import Lost, Moments, Spread
from broker.spec.check import validated
from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.part import Open, Part, always
from broker.spec.raw import RawDocument, read_document
from broker.spec.values import Count, Duration, Line, Name, Positive, Size, one_of
from sandbox.faults import FaultKind, parse_fault

ORDAINED = {"lost_reply": "reply_lost", "lost_request": "request_lost", "refusal": "refused"}
"""Kinds that befall the next submission, by the sandbox's word for them."""
GLOBUS = "globus_down"
KINDS = (*FaultKind.__members__, *ORDAINED, GLOBUS)
ROLES = ("at_work", "others", "all")
"""What may stand instead of a site's name: where the stage is at work at that moment, everywhere else, everywhere."""

State = Literal["SUCCEEDED", "FAILED", "CANCELED", "WAITING"]


class Incident(Part):
    """Something goes wrong."""

    at: Moments = Field(description="30m after the start, or 55% of the stage's work; a list: one play for each.")
    kind: Annotated[str, Field(description=f"One of {', '.join(KINDS)}.")]
    site: Line = Field(default="at_work", description=f"A site's name, or {', '.join(ROLES)}.")
    stage: Name | None = Field(default=None, description="Whose work counts; otherwise whichever is at work.")
    for_: Duration | None = Field(default=None, alias="for", description="How long it lasts; otherwise for good.")
    every: Duration | None = Field(default=None, description="With `times`: from one beginning to the next.")
    times: Positive = 1
    with_: Open = Field(default_factory=dict, alias="with", description="What else the fault is told, as `notice: 60`.")


class Bounds(Part):
    """What the drill may cost at the most. That nothing is submitted twice, that each stage has one result, and that
    every invariant holds, is asked of every drill."""

    state: Annotated[State, one_of(State)] = Field(default="SUCCEEDED", description="In which the run is at the end.")
    recovery: Duration | None = Field(default=None, description="From a fault until the stage that it hit works again.")
    lost: Lost | None = Field(default=None, description="Work done twice; `shipping`: as copies are meant to bound it.")
    wasted: Duration | None = Field(default=None, description="Node time that is in no result.")
    moves: Spread | None = Field(default=None, description="How often a stage went on at another site.")
    restores: Spread | None = Field(default=None, description="Attempts that went on from a checkpoint.")
    alerts: Spread | None = Field(default=None, description="How often an operator is told that all may be our fault.")
    reaped: Spread | None = Field(default=None, description="Copies that were left behind, and ended.")
    adopted: Spread | None = Field(default=None, description="Results of a copy that had been left behind.")
    within: dict[Name, Duration] = Field(default_factory=dict, description="By stage: from ready to its result.")


class Carrying(Part):
    """What carries files between the sites."""

    latency: Duration = 10
    rate: Size = Field(default=100_000_000, description="Bytes a second.")
    known: Count = Field(default=30, description="Transfers like those of the drill that links are known from.")
    size: Size = Field(default=2_000_000, description="Bytes of each of them.")


class DrillDocument(Part):
    """A drill."""

    drill: Literal[1] = Field(description="The format's number.")
    title: Line
    about: str = Field(default="", description="What it rehearses, for `drill ls`.")
    sites: dict[Name, Open] = Field(min_length=2, max_length=20, description="Entries as in a site document.")
    places: dict[Name, Open] = Field(default_factory=dict, description="As in a site document; kept in memory.")
    carrying: Carrying = always(Carrying())
    workflow: Open = Field(description="A workflow document; its `: sim` lines tell what a stage does.")
    incidents: list[Incident] = Field(default_factory=list, max_length=1_000)
    bounds: Bounds = always(Bounds())
    limit: Duration = Field(default=172_800, description="Virtual time after which a run that goes on counts as stuck.")


def read_drill(path: Path) -> tuple[DrillDocument, RawDocument]:
    """The drill in this file. Raises DocumentError."""
    raw = read_document(path)
    return checked(raw), raw


def checked(raw: RawDocument) -> DrillDocument:
    """The drill in a document already read. Raises DocumentError."""
    found = validated(DrillDocument, raw, unbuilt={})
    faults = list(_faults(found))
    if faults:
        raise raw.refuse(faults)
    return found


def _faults(drill: DrillDocument) -> list[tuple[KeyPath, Wrong]]:
    faults: list[tuple[KeyPath, Wrong]] = []
    names = (*drill.sites, *ROLES)
    for i, incident in enumerate(drill.incidents):
        here: KeyPath = ("incidents", i)
        if incident.kind not in KINDS:
            wrong = Wrong(f"there is no fault {quoted(incident.kind)}", nearest(incident.kind, KINDS, what="faults"))
            faults.append(((*here, "kind"), wrong))
            continue
        if incident.site not in names and incident.kind != GLOBUS:
            wrong = Wrong(f"there is no site {quoted(incident.site)}", nearest(incident.site, names, what="sites"))
            faults.append(((*here, "site"), wrong))
        if incident.times > 1 and incident.every is None:
            faults.append(((*here, "times"), Wrong("needs `every`", "say after how long it begins again")))
        if (told := _told_wrongly(incident)) is not None:
            faults.append(((*here, "with"), told))
    several = [i for i, incident in enumerate(drill.incidents) if len(incident.at) > 1]
    if len(several) > 1:
        faults.append((("incidents", several[1], "at"), Wrong("a second list of moments", "only one may be a list")))
    if not drill.incidents and not drill.bounds.within:
        faults.append((("incidents",), Wrong("nothing goes wrong, and nothing is bounded", "write an incident")))
    return faults


def _told_wrongly(incident: Incident) -> Wrong | None:
    if incident.kind not in FaultKind.__members__:
        what = f"{incident.kind} is told nothing else"
        return Wrong(what, "leave `with` out") if incident.with_ else None
    taken = {"kind", "start", "end"} & incident.with_.keys()
    if taken:
        return Wrong(f"{quoted(min(taken))} cannot stand here", "write `kind`, `at` and `for` beside it")
    try:
        parse_fault({**incident.with_, "kind": incident.kind, "start": 0}, 0)
    except (ValueError, TypeError) as error:
        return Wrong(str(error))
    return None


def plays_of(drill: DrillDocument) -> list[list[Incident]]:
    """The incidents of each play: one, or one for each moment of the list."""
    chosen = next((incident for incident in drill.incidents if len(incident.at) > 1), None)
    if chosen is None:
        return [list(drill.incidents)]
    return [
        [i.model_copy(update={"at": (moment,)}) if i is chosen else i for i in drill.incidents] for moment in chosen.at
    ]


def schema() -> dict[str, Any]:
    """JSON Schema of the file."""
    return DrillDocument.model_json_schema(by_alias=True)
