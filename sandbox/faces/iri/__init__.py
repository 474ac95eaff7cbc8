"""The DOE IRI Facility API over a rehearsal facility, with the manners of the sites that speak it."""

from sandbox.faces.iri.face import IriFace
from sandbox.faces.iri.profiles import ALCF, NERSC, REFERENCE, IriProfile, IriResource

__all__ = ["ALCF", "NERSC", "REFERENCE", "IriFace", "IriProfile", "IriResource"]
