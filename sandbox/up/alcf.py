"""ALCF: a PBS behind the IRI Facility API with ALCF's manners, and its machine's status feed."""

from __future__ import annotations

import secrets

from sandbox.facilities import FacilityShape, LiveFacility, Queue
from sandbox.up.ground import Entry, Ground

QUEUES = {
    "prod": Queue(max_walltime=86_400),
    "debug": Queue(max_walltime=3_600, max_nodes=2),
    "demand": Queue(max_walltime=3_600, priority=100),
    "preemptable": Queue(max_walltime=259_200, priority=-100),
}
MODULES = ("conda", "apptainer", "spack-pe-base", "PrgEnv-gnu", "cray-hdf5-parallel", "cudatoolkit-standalone")
LANES = {"normal": {"queue": "prod", "min_nodes": 1, "min_walltime": "1s", "walltimes": []}}
"""The machine's own, but for the least size of a job in `prod`: no rehearsal has ten nodes."""


def put_up(ground: Ground) -> tuple[LiveFacility, Entry]:
    from sandbox.faces.activity import ActivityFace  # noqa: PLC0415 - each facility brings its own
    from sandbox.faces.iri import ALCF, IriFace  # noqa: PLC0415

    shape = FacilityShape(
        name="alcf", dialect="pbs", queues=QUEUES, path=ground.path, cores_per_node=ground.cores
    ).slots(ground.slots)
    facility = ground.facility(shape, runtimes=("apptainer",), modules=MODULES)
    token = secrets.token_urlsafe(32)
    face = IriFace(facility, ALCF, tokens={token: shape.user}, accounts=["projA"])
    address = ground.serve(facility, face, "iri")
    feed = ground.serve(facility, ActivityFace(facility), "activity")
    return facility, ground.entry(
        facility,
        "alcf/polaris",
        account="projA",
        lanes=LANES,
        credentials={"token": ground.credential("alcf.token", token)},
        options={
            "url": f"{address}{face.base}",
            "activity": f"{feed}/polaris/activity.json",
            # as at ALCF today: its file routes serve few users
            "files": "mounted",
            "mount": f"{facility.files.root}/crossfade",
        },
    )
