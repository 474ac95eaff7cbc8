"""A site behind the IRI Facility API, v1 or v2."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors.base import Preparable, SiteFiles
from connectors.errors import NotThere, RequestRefused, SiteBusy, SiteError, UnsafePath
from connectors.files.held import HoldsFiles
from connectors.iri.api import IriApi, hours_of
from connectors.iri.body import body_of, folder_of
from connectors.iri.checking import Checker
from connectors.iri.finding import Finder
from connectors.iri.health import Health
from connectors.iri.marks import MARKER
from connectors.iri.quirks import Quirks
from connectors.model import (
    Accepted,
    Balance,
    Doubtful,
    Evidence,
    Finding,
    JobSpec,
    Listing,
    Refused,
    Script,
    SmallFile,
    SubmitAnswer,
)
from connectors.paths import file_path


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where jobs run and what they are charged to."""

    url: str
    resource: str
    root: str
    owner: str = ""
    account: str = ""
    umask: str = ""


class IriSite(HoldsFiles[SiteFiles]):
    """The port Site. Keeps no job; every answer is the site's own."""

    inline = False

    def __init__(
        self,
        name: str,
        *,
        api: IriApi,
        files: SiteFiles,
        finder: Finder,
        health: Health,
        checker: Checker,
        quirks: Quirks,
        place: Place,
        claim: str = "atomic_fs",
    ) -> None:
        self.name = name
        self.claim = claim
        self._api, self.files, self._finder, self._health = api, files, finder, health
        self._checker, self._quirks, self._place = checker, quirks, place

    # -- jobs --------------------------------------------------------------------------------------------------

    def submit(self, specs: Sequence[JobSpec]) -> Mapping[str, SubmitAnswer]:
        answers: dict[str, SubmitAnswer] = {}
        fit: dict[str, tuple[JobSpec, dict[str, Any]]] = {}
        for spec in specs:
            if spec.key in fit or spec.key in answers:
                continue
            try:
                fit[spec.key] = spec, self._body(spec)
            except (RequestRefused, UnsafePath) as error:
                answers[spec.key] = Refused(reason=str(error), fault=error.fault.value)
        if not fit:
            return answers
        held, asked = self._finder.before([spec for spec, _ in fit.values()])
        answers |= held
        fresh = {key: pair for key, pair in fit.items() if key not in held}
        if fresh:
            self.files.write_many([*(file for spec, _ in fresh.values() for file in _files_of(spec)), *asked])
            answers |= self._send(fresh)
        return answers

    def _send(self, fresh: Mapping[str, tuple[JobSpec, dict[str, Any]]]) -> dict[str, SubmitAnswer]:
        """One request each, until the site does not answer."""
        answers: dict[str, SubmitAnswer] = {}
        trouble: SiteError | None = None
        for key, (_, body) in fresh.items():
            if trouble is not None:  # a doubt costs a look; asking a site that does not answer costs more
                answers[key] = Doubtful(reason=f"not sent: {trouble}")
                continue
            try:
                answers[key] = self._api.submit(key, body)
            except SiteError as error:
                if not answers and not error.effect_possible:
                    raise
                trouble = error
                possible = error.effect_possible or isinstance(error, SiteBusy)
                refusal = Refused(reason=str(error), fault=error.fault.value)
                answers[key] = Doubtful(reason=str(error)) if possible else refusal
        taken = {key: answer.native_id for key, answer in answers.items() if isinstance(answer, Accepted)}
        if taken:
            self._finder.accepted({key: (fresh[key][0], native_id) for key, native_id in taken.items()})
        self._finder.gone([key for key, answer in answers.items() if isinstance(answer, Refused)])
        return answers

    def _body(self, spec: JobSpec) -> dict[str, Any]:
        place = self._place
        for file in spec.files:
            file_path(file.path)
        return body_of(spec, self._quirks, root=place.root, owner=place.owner, account=place.account, umask=place.umask)

    def find(self, keys: Sequence[str]) -> Listing:
        return self._finder.look(keys, thorough=True)

    def status(self, keys: Sequence[str]) -> Listing:
        return self._finder.look(keys, thorough=False)

    def list_mine(self, since: int) -> Listing:
        return self._finder.everything(since)

    def cancel(self, keys: Sequence[str]) -> Mapping[str, bool]:
        if not keys:
            return {}
        listing = self.find(keys)
        ended = dict.fromkeys(keys, listing.complete)
        for item in listing.items:
            ended[item.key] = item.state.final and ended.get(item.key, True)
        found = {item.key for item in listing.items}
        self._finder.gone([key for key, dead in ended.items() if dead and key not in found])
        for item in listing.items:
            if not item.state.final:
                self._api.cancel(item.native_id)
                ended[item.key] = False
        return ended

    def prepare(self) -> str:
        """Mark the root as ours, once, so that a file system that is away is never taken for an empty one."""
        if isinstance(self.files, Preparable):
            return self.files.prepare()
        try:
            return self.files.read(MARKER, limit=64).decode("ascii", "replace").strip()
        except NotThere:
            identity = secrets.token_hex(16)
            self.files.write(MARKER, f"{identity}\n".encode())
            return identity

    # -- for people ----------------------------------------------------------------------------------------------

    def script(self, spec: JobSpec) -> Script:
        body = self._body(spec)
        more = "Idempotency-Key: " + spec.key + "\n" if self._quirks.idempotency != "no" else ""
        script = body["arguments"][1]
        shown = {**body, "arguments": ["-lc", "<the script>"]}
        url = f"{self._place.url.rstrip('/')}/compute/job/{self._place.resource}"
        request = f"POST {url}\n{more}{json.dumps(shown, indent=2)}"
        return Script(script=script, request=request)

    def probe(self) -> Sequence[Evidence]:
        return self._health.probe()

    def balances(self, account: str) -> Sequence[Balance]:
        """What the project's allocations have of hours; storage, and units that are not known, are left out."""
        found = self._api.allocations(account)
        if found is None:
            raise RequestRefused(f"{self.name}: no project {account!r} is told by the site", site=self.name)
        return [
            Balance(account=account, granted=granted, used=used, unit=known)
            for granted, used, unit in found
            if (known := hours_of(unit))
        ]

    def check(self, *, canary: bool = False) -> Sequence[Finding]:  # noqa: ARG002
        """Without a canary of its own: whoever checks knows better which queue one may be sent to."""
        return self._checker.check()


def _files_of(spec: JobSpec) -> list[SmallFile]:
    folder = folder_of(spec, "").lstrip("/")
    return [replace(file, path=f"{folder}/{file_path(file.path)}" if folder else file.path) for file in spec.files]
