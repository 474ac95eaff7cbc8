"""Sites behind the DOE IRI Facility API (v1 and v2): ALCF, NERSC, ESnet, and OLCF's front end.

Options of a site's entry: `url` (up to `/api/v1` or `/api/v2`), `resource` (the compute resource's id), `files` (`iri`
or `mounted`, with `mount`), `file_system` (its resource's id, with `files: iri`), `watch` (ids of other
resources that jobs need), `activity` (the address of an activity.json), `token_expires` (ISO time), `scope`, and the
quirks of `connectors.iri.quirks`.
Credentials: `token`, or `client_id` with `refresh_token` or `client_secret` (Globus Auth).
"""

from connectors.iri.make import make
from connectors.iri.quirks import Quirks
from connectors.iri.site import IriSite

__all__ = ["IriSite", "Quirks", "make"]
