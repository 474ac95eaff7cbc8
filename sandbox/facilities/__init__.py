"""Rehearsal facilities: implementations of the port `sandbox.facility`.

`LiveFacility`: the batch model under real time, with real processes and a real folder.
`VirtualFacility`: the same under a virtual clock, with simulated payloads and files in memory.
`SlurmFacility`: a real Slurm.
"""

from sandbox.facilities.live import LiveFacility
from sandbox.facilities.shape import FacilityShape, Queue
from sandbox.facilities.timed import arm
from sandbox.facilities.virtual import VirtualFacility

__all__ = ["FacilityShape", "LiveFacility", "Queue", "VirtualFacility", "arm"]
