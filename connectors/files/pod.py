"""How a job gets at its files where it starts in an empty container: two scripts that go with it, and their variables.

`begin.sh` is what the container is started with: it fetches `pod.sh` from the bucket and becomes it. That claims the
attempt, fetches its folder, runs the harness, and brings back what it leaves. The bucket's key pair is none of these
variables: the container gets it as CROSSFADE_ACCESS_KEY, CROSSFADE_SECRET_KEY and, perhaps, CROSSFADE_SESSION_TOKEN.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from connectors.errors import RequestRefused
from connectors.files.bucket import Place
from connectors.files.signing import EMPTY, encoded
from connectors.model import JobSpec, SmallFile
from connectors.paths import clean, file_path, join

POD_SCRIPT = ".crossfade/pod.sh"
NO_BUCKET = 77
"""Exit code of a pod: the bucket could not be reached."""
UNFIT_IMAGE = 78
"""Exit code of a pod: its image lacks a program."""
LARGEST_FILE = 1 << 20
NEEDS = "sh, curl 7.87 or newer, sha256sum, awk, sed and find"
"""What an image must have."""

_HERE = Path(__file__).parent


@cache
def begin_script() -> str:
    """What the container is started with."""
    return (_HERE / "begin.sh").read_text()


@cache
def pod_script() -> bytes:
    """What that fetches and becomes; it travels with the job's files."""
    return (_HERE / "pod.sh").read_bytes()


def files_of(spec: JobSpec) -> list[SmallFile]:
    """All that is written for a job, relative to the site's root, the pod's script first. Raises UnsafePath,
    RequestRefused."""
    folder = clean(spec.directory)
    if not folder or folder.split("/", 1)[0] in {"spool", ".crossfade"}:
        raise RequestRefused("a job needs a folder of its own below the site's root")
    entry, files = file_path(spec.entry), [SmallFile(path=POD_SCRIPT, content=pod_script(), mode=0o700), *spec.files]
    if entry.startswith("-"):
        raise RequestRefused(f"entry {entry!r} would be taken for an option of the shell")
    for file in files:
        if len(file.content) > LARGEST_FILE:
            what = f"file {file.path} has {len(file.content)} bytes; at most {LARGEST_FILE} go with a job"
            raise RequestRefused(what)
    return [SmallFile(path=join(folder, file_path(it.path)), content=it.content, mode=it.mode) for it in files]


def environment(spec: JobSpec, *, place: Place, endpoint: str = "", heartbeat: int = 15) -> Mapping[str, str]:
    """The scripts' variables. `endpoint`: of the bucket, as pods see it; empty: as the broker does."""
    address = f"{(endpoint or place.endpoint).rstrip('/')}/{encoded(place.bucket)}"
    folder = clean(spec.directory)
    return {
        "CROSSFADE_BUCKET_URL": address,
        "CROSSFADE_POD_SCRIPT": f"{address}/{encoded(f'{place.prefix}{folder}/{POD_SCRIPT}')}",
        "CROSSFADE_PREFIX": place.prefix,
        "CROSSFADE_REGION": place.region,
        "CROSSFADE_NOTHING": EMPTY,
        "CROSSFADE_DIRECTORY": folder,
        "CROSSFADE_ENTRY": file_path(spec.entry),
        "CROSSFADE_BEAT": str(heartbeat),
    }
