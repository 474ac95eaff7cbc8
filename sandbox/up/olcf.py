"""OLCF: a Slurm behind S3M's Slurm REST API, with a project's token."""

from __future__ import annotations

import secrets

from sandbox.facilities import FacilityShape, LiveFacility, Queue
from sandbox.up.ground import Entry, Ground

QUEUES = {"batch": Queue(max_walltime=86_400), "preempt": Queue(max_walltime=86_400, priority=-100)}
LANES = {"urgent": {"qos": "urgent"}, "normal": {"queue": "batch"}, "preemptible": {"queue": "preempt"}}
_LIFE = 30 * 86_400
"""Seconds until the token ends, as whoever makes one chooses."""


def put_up(ground: Ground) -> tuple[LiveFacility, Entry]:
    import jwt  # noqa: PLC0415 - each facility brings its own

    from sandbox.faces.slurmrest import S3mFace, Token, TokenBook, machine_of  # noqa: PLC0415

    shape = FacilityShape(name="olcf", queues=QUEUES, path=ground.path, cores_per_node=ground.cores).slots(ground.slots)
    facility = ground.facility(shape, runtimes=("apptainer",))
    until = ground.clock() + _LIFE * 1_000_000
    claims = {"type": "opat", "aud": ["api.olcf.ornl.gov"], "exp": until // 1_000_000}
    value = jwt.encode(claims, secrets.token_hex(32), algorithm="HS256")
    tokens = TokenBook(Token(value=value, user="user_auser", project="gen123", until=until))
    face = S3mFace(facility, tokens, machine=machine_of(shape, "defiant"))
    address = ground.serve(facility, face, "s3m")
    return facility, ground.entry(
        facility,
        "olcf/defiant",
        account="gen123",
        lanes=LANES,
        credentials={"token": ground.credential("olcf.token", value)},
        options={
            "url": address,
            "resource": face.machine.name,
            # a job has what its request says, and nothing of a login
            "environment": {"PATH": facility.shape.path},
            # S3M has no files
            "files": "mounted",
            "mount": f"{facility.files.root}/crossfade",
        },
    )
