"""The shipped profiles: machines as data, `connectors/profiles/*.yaml`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from broker.spec.check import validated
from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.raw import parse_document
from broker.spec.site import Profile


@cache
def profile_names() -> tuple[str, ...]:
    """Every profile there is, in order. `nersc/perlmutter-gpu` is kept in `nersc-perlmutter-gpu.yaml`."""
    folder = files("connectors") / "profiles"
    stems = (entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))
    return tuple(sorted(stem.replace("-", "/", 1) for stem in stems))


@cache
def profile(name: str) -> Profile:
    """The profile of that name. Raises Wrong with the names there are, DocumentError for a damaged installation."""
    if name not in profile_names():
        known = ", ".join(profile_names())
        close = nearest(name, profile_names())
        cure = close if close.startswith("did you") else f"profiles there are: {known}"
        raise Wrong(f"there is no profile {quoted(name)}", cure)
    path = files("connectors") / "profiles" / f"{name.replace('/', '-')}.yaml"
    raw = parse_document(path.read_text(encoding="utf-8"), name=f"profile {name}")
    return validated(Profile, raw, unbuilt={})


def is_elsewhere(name: str) -> bool:
    """Is it a profile of another machine, whose folders are not this one's? An unknown name is not."""
    return name in profile_names() and profile(name).elsewhere
