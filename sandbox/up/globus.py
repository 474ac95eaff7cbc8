"""Globus, beside the facilities: a collection over each one's files, one of a beamline's, and a client to use them."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.facilities import LiveFacility
from sandbox.globus import GUEST, MAPPED, Client, Collection, GlobusAuth, GlobusService, Worker, weather_of
from sandbox.up.ground import Ground

NAME = "globus"
BEAMLINE = "beamline"
_SPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "sandbox.crossfade.example.org")
_WITHOUT_FILES = ("cloud",)
"""Their files are no folder: a bucket's objects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobusStage:
    """Globus, put up."""

    service: GlobusService
    auth: GlobusAuth
    client: Mapping[str, object]
    """For the site document's `globus:`."""
    places: Mapping[str, Mapping[str, object]]
    """For its `places:`."""


def collection_id(name: str) -> str:
    """Of a facility's collection, or the beamline's: the same at every start."""
    return str(uuid.uuid5(_SPACE, name))


def put_up(ground: Ground, facilities: Mapping[str, LiveFacility]) -> GlobusStage:
    from sandbox.faces.globus import GlobusFace  # noqa: PLC0415 - brings JWT

    beamline = ground.state / BEAMLINE
    beamline.mkdir(exist_ok=True, mode=0o700)
    collections = [_of(facility) for name, facility in facilities.items() if name not in _WITHOUT_FILES]
    collections.append(
        Collection(id=collection_id(BEAMLINE), display_name=BEAMLINE, folder=beamline, entity_type=GUEST)
    )
    faults = ground.script.of(NAME)
    service = GlobusService(
        collections, clock=ground.clock, faults=faults, weather=weather_of(ground.script), inline=False
    )
    client = Client(id=str(uuid.uuid4()), secret=secrets.token_urlsafe(32))
    person = Client(id=str(uuid.uuid4()))
    auth = GlobusAuth([client, person], clock=ground.clock, knows=service.knows_scope)
    ground.stack.enter_context(Worker(service))
    address = ground.serve_for(NAME, faults, GlobusFace(service, auth), NAME)
    ground.credential("globus.person", person.id)
    told: Mapping[str, object] = {
        "client_id": ground.credential("globus.client", client.id),
        "client_secret": ground.credential("globus.secret", client.secret),
        "transfer_url": address,
        "auth_url": address,
        "poll": ground.poll,
    }
    places = {BEAMLINE: {"collection": collection_id(BEAMLINE), "path": "/"}}
    return GlobusStage(service=service, auth=auth, client=told, places=places)


def entry_of(name: str, facility: LiveFacility) -> Mapping[str, object]:
    """What a site's entry says of its collection; nothing where it has none."""
    if name in _WITHOUT_FILES:
        return {}
    return {"collection": collection_id(name), "collection_base": facility.files.root}


def _of(facility: LiveFacility) -> Collection:
    return Collection(
        id=collection_id(facility.name),
        display_name=facility.name,
        folder=Path(facility.files.root),
        entity_type=MAPPED,
        up=lambda: facility.up("files"),
    )
