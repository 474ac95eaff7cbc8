"""NERSC's Superfacility API, as a face of a rehearsal facility."""

from sandbox.faces.superfacility.clients import ApiClient, new_client
from sandbox.faces.superfacility.face import BASE, TOKEN, SuperfacilityFace

__all__ = ["BASE", "TOKEN", "ApiClient", "SuperfacilityFace", "new_client"]
