"""Inputs that lie in places: are they there, which of a folder's files are meant, how long may they take to come?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from broker.clock import Clock
from broker.facts import World
from broker.jobs import Job, elsewhere, in_place, place_key
from broker.spec import body_for, input_matches
from connectors.base import PlaceFiles
from connectors.errors import Fault, SiteError
from connectors.model import TransferStatus


class Absent(Exception):
    """An input is not in its place, or nobody can look. The message is for people."""


class PlacedInputs:
    """Looks into places, by their side, where anything does."""

    def __init__(self, *, world: World, places: Mapping[str, PlaceFiles], clock: Clock) -> None:
        self._world, self._places, self._clock = world, places, clock

    def looked_at(self, job: Job, *, begun: Callable[[str], bool]) -> tuple[dict[str, list[str]], set[str]]:
        """What `match` takes of the inputs that are brought; and those that are brought although the site mounts a
        place of theirs, since they are not there and lie elsewhere too. `begun`: is anything under that transfer's
        key? What was begun so is gone on with, whatever turns up meanwhile. Raises Absent."""
        chosen: dict[str, list[str]] = {}
        missed: set[str] = set()
        for given in self._from_places(job):
            here = in_place(self._world, given, job.attempt.site)
            brought = given
            if here is not None:
                brought = elsewhere(self._world, given, job.attempt.site)
                if not self._is_missed(job, brought, here[:2], begun):
                    continue
                missed.add(given["name"])
            if given["match"] is not None:
                chosen[given["name"]] = self._matching(brought)
        return chosen, missed

    def _is_missed(
        self, job: Job, others: Mapping[str, Any], here: tuple[str, str], begun: Callable[[str], bool]
    ) -> bool:
        """Is an input not where the site mounts its place, and to be brought from one of the others? Raises Absent."""
        side, path = here
        if others["places"] and begun(place_key(job, others)):
            return True
        if side not in self._places or self._listed(side, path):
            return False
        if not others["places"]:
            raise Absent(f"{side}{path} is not there")
        return True

    def _matching(self, given: Mapping[str, Any]) -> list[str]:
        for side, path in given["places"]:
            if side in self._places:
                found = [inner for inner in self._listed(side, path) if input_matches(given["match"], inner)]
                if not found:
                    raise Absent(f"nothing in {side}{path} matches {given['match']}")
                return found
        names = ", ".join(side for side, _ in given["places"])
        raise Absent(f"{names} cannot be listed from here yet, so `match` cannot be gone by")

    def _listed(self, side: str, path: str) -> list[str]:
        """Paths below a folder, or the name of a file, if it is there. Raises Absent."""
        folder, files = path.rstrip("/"), self._places[side]
        try:
            if path.endswith("/"):
                return [i.path[len(folder) + 1 :] for i in files.list(folder, recursive=True) if not i.is_dir]
            around = files.list(folder.rpartition("/")[0])
            return [folder] if any(info.path == folder and not info.is_dir for info in around) else []
        except SiteError as error:
            raise Absent(f"{side}{path} cannot be looked at: {error}") from error

    def may_come_later(self, job: Job) -> bool:
        """Is any of them waited for still?"""
        until = max((self._waits_until(job, given) for given in self._from_places(job)), default=0)
        return self._clock() < until

    def may_still_come(self, job: Job, failed: TransferStatus) -> bool:
        """Is it an input that is missing from its place, and waited for?"""
        if failed.fault != Fault.STAGING.value:
            return False
        here = job.attempt.site
        waited = [
            given
            for given in self._from_places(job)
            if failed.key in (place_key(job, given), place_key(job, elsewhere(self._world, given, here)))
        ]
        return any(self._clock() < self._waits_until(job, given) for given in waited)

    def _from_places(self, job: Job) -> list[Mapping[str, Any]]:
        site = self._world.sites[job.attempt.site].config
        body = body_for(json.loads(job.stage.body), site.name, site.profile)
        return [given for given in body["inputs"] if "places" in given]

    def _waits_until(self, job: Job, given: Mapping[str, Any]) -> int:
        return job.attempt.created_at + round(float(given.get("wait", 0)) * 1e6)
