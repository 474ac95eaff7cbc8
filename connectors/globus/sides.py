"""Which of a transfer's two sides is at fault, by a cheap look at both."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.errors import NotThere, SiteError
from connectors.globus.plan import Plan
from connectors.globus_api.api import GlobusApi
from connectors.globus_api.ends import End
from connectors.globus_api.faults import CollectionAway, CollectionPaused, Gone, NotAllowed
from connectors.globus_api.storage import Storage


class Sides:
    """Looks at collections."""

    def __init__(self, api: GlobusApi) -> None:
        self._api = api

    def at_fault(self, plan: Plan) -> str:
        """The name of the side whose collection does not answer; empty: both do, or Globus itself does not. Where
        both are away it is the source: there may be another one."""
        return next((end.side for end in (plan.source, plan.destination) if self.trouble(end)), "")

    def trouble(self, end: End) -> str:
        """What is wrong with this side's collection, in words; empty: nothing that was seen. One call."""
        try:
            Storage(self._api, end.collection).list(end.top, limit=1)
        except NotThere:
            return ""  # the collection answers
        except (CollectionAway, CollectionPaused, Gone, NotAllowed) as error:
            return str(error)
        except SiteError:
            return ""
        return ""

    def missing(self, plan: Plan, sources: Sequence[str]) -> Sequence[str]:
        """Those of these sources that are surely not there. One call for each."""
        storage = Storage(self._api, plan.source.collection)
        wanted = {piece.item.source: piece.source for piece in plan.pieces}
        found: list[str] = []
        for source in sources:
            try:
                if storage.look(wanted[source]) is None:
                    found.append(source)
            except SiteError:
                break
        return found
