"""NERSC: a Slurm behind the Superfacility API and its token endpoint."""

from __future__ import annotations

from sandbox.facilities import FacilityShape, LiveFacility, Queue
from sandbox.up.ground import Entry, Ground

QUEUES = {"regular": Queue(max_walltime=172_800), "debug": Queue(max_walltime=1_800), "preempt": Queue(priority=-100)}
QOS = {"regular": 0, "debug": 0, "preempt": -100, "realtime": 100, "urgent": 100}
_LIFE = 48 * 3_600
"""Seconds that a client lives, as the facility's most powerful ones do."""


def put_up(ground: Ground) -> tuple[LiveFacility, Entry]:
    from sandbox.faces.superfacility import BASE, TOKEN, SuperfacilityFace, new_client  # noqa: PLC0415 - brings JWT

    # its Slurm counts hardware threads, two to a core
    shape = FacilityShape(name="nersc", queues=QUEUES, qos=QOS, path=ground.path, cores_per_node=2 * ground.cores)
    facility = ground.facility(shape.slots(ground.slots), runtimes=("podman-hpc", "shifter"))
    client, key = new_client(expires_at=ground.clock() + _LIFE * 1_000_000)
    # commands are done within the call that begins them: a rehearsal has no time for polling tasks
    face = SuperfacilityFace(facility, [client])
    ground.stack.callback(face.close)
    address = ground.serve(facility, face, "superfacility")
    options = {"base": f"{address}{BASE}", "token_url": f"{address}{TOKEN}"}
    return facility, ground.entry(
        facility,
        "nersc/perlmutter",
        account="m1234",
        credentials={"key": ground.credential("nersc.key", key)},
        options=options,
    )
