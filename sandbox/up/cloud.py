"""A cloud: a Kubernetes cluster and, for its files, an S3-compatible bucket."""

from __future__ import annotations

import secrets

from sandbox.facilities import FacilityShape, LiveFacility, Queue
from sandbox.up.ground import Entry, Ground

BUCKET = "crossfade"
SECRET = "crossfade-bucket"  # noqa: S105 - its name


def put_up(ground: Ground) -> tuple[LiveFacility, Entry]:
    from sandbox.faces.kubernetes import KubernetesFace  # noqa: PLC0415 - each facility brings its own
    from sandbox.faces.s3 import S3Face  # noqa: PLC0415
    from sandbox.faces.s3_objects import Objects  # noqa: PLC0415

    # a cluster knows no longest job, and a deadline is a little more than what the stage asked for
    queues = {"default": Queue(max_walltime=None)}
    facility = ground.facility(
        FacilityShape(name="cloud", queues=queues, path=ground.path, cores_per_node=ground.cores).slots(ground.slots)
    )
    token, access, secret = secrets.token_urlsafe(32), f"sandbox{secrets.token_hex(8)}", secrets.token_urlsafe(32)
    keys = {"access_key": access, "secret_key": secret}
    cluster = KubernetesFace(facility, tokens=[token], secrets={"default": {SECRET: keys}})
    objects = Objects([BUCKET], folder=ground.state / "cloud-bucket")
    store = S3Face(objects, keys={access: secret}, clock=ground.clock, up=lambda: facility.up("files"))
    address = ground.serve(facility, cluster, "kubernetes")
    endpoint = ground.serve(facility, store, "s3")
    return facility, ground.entry(
        facility,
        "kubernetes",
        root=f"s3://{BUCKET}/site",
        credentials={
            "token": ground.credential("cloud.token", token),
            "access_key": ground.credential("cloud.access", access),
            "secret_key": ground.credential("cloud.secret", secret),
        },
        options={
            "server": address,
            "endpoint": endpoint,
            "secret": SECRET,
            "image": "sandbox",
            "grace": 5,
            "margin": 60,
        },
    )
