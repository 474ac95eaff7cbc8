"""The site document, found and merged with the profiles: what the connectors are made from."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from broker.alerts.allowed import NotifyConfig, config_of
from broker.facts import LOCAL
from broker.spec import RawDocument, document_from, read_document
from broker.spec.check import validated
from broker.spec.errors import KeyPath, Wrong, nearest, quoted
from broker.spec.profiles import profile
from broker.spec.site import Globus, Machine, Place, Profile, Site, SiteDocument
from broker.spec.unbuilt import UNBUILT_AT_SITES, find_unused
from broker.tariffs import caps_of, tariff_of
from connectors.model import LaneLimits
from connectors.registry import GlobusConfig, PlaceConfig, SiteConfig
from policies.model import Cap

VARIABLE = "CROSSFADE_SITES"
"""Names the site document, unless a command line does."""
FILE = "sites.yaml"

Fault = tuple[KeyPath, Wrong]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """All sites, by name, in the order of the document."""

    configs: Mapping[str, SiteConfig]
    where: str
    """How they were found, in words, for `doctor`."""
    path: Path | None
    """The document; None: there is none, and this machine is the only site."""
    document: SiteDocument
    places: Mapping[str, PlaceConfig] = field(default_factory=dict)
    globus: GlobusConfig = field(default_factory=GlobusConfig)
    caps: Mapping[tuple[str, str], Cap] = field(default_factory=dict)
    """What projects and people may spend, by kind and name."""
    unused: Sequence[str] = ()
    """Keys of the document that are kept, and that nothing goes by yet."""
    notify: NotifyConfig = field(default_factory=NotifyConfig)
    """How people are told, and who is told of all runs."""


def load_sites(path: Path | None, *, home: Path, cwd: Path, env: Mapping[str, str]) -> Sites:
    """The sites of `path`; None: of the first document found (see `search`), or this machine alone.

    `home` is CROSSFADE_HOME. Reads only; raises DocumentError.
    """
    found, where = (path, f"given: {path}") if path is not None else search(cwd=cwd, env=env)
    if found is None:
        raw = document_from({"crossfade": 1, "sites": {"local": _only_site(home)}}, name="the only site")
        return sites_of(raw, base=home, where=where, path=None, home=home)
    return sites_of(read_document(found), base=found.parent, where=where, path=found, home=home)


def search(*, cwd: Path, env: Mapping[str, str]) -> tuple[Path | None, str]:
    """Where the site document is, and in words how it was found.

    A path in the environment counts even if nothing is there: going on without it would look like lost sites.
    """
    named = env.get(VARIABLE)
    if named:
        return Path(cwd, named), f"{VARIABLE}: {named}"
    tried = [Path(cwd, FILE), user_document(env)]
    for candidate in tried:
        if candidate.is_file():
            return candidate, str(candidate)
    return (
        None,
        f"none found ({VARIABLE} is not set; looked for {tried[0]} and {tried[1]}): this machine is the only site",
    )


def user_document(env: Mapping[str, str]) -> Path:
    """The user's own site document, there or not."""
    folder = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME") or os.path.expanduser("~"), ".config")
    return Path(folder, "crossfade", FILE)


def sites_of(raw: RawDocument, *, base: Path, where: str, path: Path | None = None, home: Path | None = None) -> Sites:
    """The sites in a document already read; relative roots lie below `base`, tokens of logins below `home`
    (CROSSFADE_HOME). Raises DocumentError."""
    document = validated(SiteDocument, raw, unbuilt=UNBUILT_AT_SITES).read_from(raw)
    globus = _globus(document.globus, base, home)
    configs: dict[str, SiteConfig] = {}
    faults: list[Fault] = []
    for name, entry in document.sites.items():
        try:
            configs[name] = replace(_config(name, entry, base), globus=globus)
        except _At as at:
            faults.append((("sites", name, at.key), at.wrong))
    places: dict[str, PlaceConfig] = {}
    for name, place in document.places.items():
        try:
            places[name] = _place(name, place, base, known=document.sites)
        except _At as at:
            faults.append((("places", name, at.key), at.wrong))
    notify, wrongs = config_of(document.notify, base)
    faults += [(("notify", *path), wrong) for path, wrong in wrongs]
    if faults:
        raise raw.refuse(faults)
    return Sites(
        configs=configs,
        where=where,
        path=path,
        document=document,
        places=places,
        globus=globus,
        caps=caps_of(document.budgets),
        unused=find_unused(raw.data),
        notify=notify,
    )


def _only_site(home: Path) -> dict[str, Any]:
    return {"profile": "local", "root": str(Path(os.path.abspath(home), "sites", "local"))}


# -- one site ----------------------------------------------------------------------------------------------


class _At(Exception):
    """A fault with the key that it belongs to."""

    def __init__(self, key: str, wrong: Wrong) -> None:
        super().__init__(key)
        self.key = key
        self.wrong = wrong


def _config(name: str, entry: Site, base: Path) -> SiteConfig:
    try:
        machine = profile(entry.profile)
    except Wrong as wrong:
        raise _At("profile", wrong) from wrong
    given = _figures(machine) | _figures(entry)
    if entry.container is not None:  # another runtime, whose options the profile does not know
        for key in ("container_bind", "container_env"):
            given[key] = getattr(entry, key) or ""
    queued = entry.limits.queued or machine.limits.queued
    if queued is not None:
        given["slots"] = min(given.get("slots", queued), queued)
    connector = given.pop("connector", None)
    if connector is None:
        raise _At("connector", Wrong(f"the profile {entry.profile} names no connector", "name one", kind="missing"))
    config = SiteConfig(
        name=name,
        connector=connector,
        profile=entry.profile,
        facility=entry.facility or name,
        provider=entry.provider,
        root=_root(entry, base, elsewhere=machine.elsewhere),
        account=entry.account or "",
        collection=entry.collection or "",
        credentials={key: _credential(reference, base) for key, reference in entry.credentials.items()},
        secrets={key: _credential(reference, base) for key, reference in entry.secrets.items()},
        umask=entry.umask or "",
        clearance=frozenset(entry.clearance),
        keep_attempts=entry.keep.attempts,
        keep_failed=entry.keep.failed,
        vars={**machine.vars, **entry.vars},
        submit={**machine.submit, **entry.submit},
        submit_gpu={**machine.submit_gpu, **entry.submit_gpu},
        capabilities=frozenset(entry.capabilities or machine.capabilities),
        options={**machine.options, **entry.options},
        **_lanes(machine, entry),
        **given,
    )
    config = replace(config, tariff=tariff_of(machine.charge, entry.charge, whole_nodes=config.exclusive))
    if config.secrets and config.connector != LOCAL:
        cure = "keep what a job there needs at that site itself, in a file that its own owner looks after"
        raise _At("secrets", Wrong("secrets are told to jobs of this machine only", cure))
    if config.fence < 2 * config.heartbeat:
        raise _At("fence", Wrong("must be at least twice the heartbeat", f"write {2 * config.heartbeat}s or more"))
    return config


def _figures(machine: Machine) -> dict[str, Any]:
    """What this profile or entry says, by the names of SiteConfig; what it does not say is left out."""
    figures: dict[str, Any] = {
        "connector": machine.connector,
        "slots": _counted(machine.slots),
        "cores": _counted(machine.cores),
        "gpus": machine.gpus,
        "memory": machine.memory,
        "nodes": machine.nodes,
        "poll": machine.poll,
        "max_walltime": machine.max_walltime,
        "speed": machine.speed,
        "settle": machine.settle,
        "heartbeat": _whole_seconds(machine.heartbeat),
        "fence": _whole_seconds(machine.fence),
        "launcher": machine.launcher,
        "launcher_ranks": machine.launcher_ranks,
        "launcher_gpu": machine.launcher_gpu,
        "container": machine.container,
        "container_bind": machine.container_bind,
        "container_env": machine.container_env,
        "threads_per_core": machine.threads_per_core,
        "exclusive": machine.exclusive,
        "claim": machine.claim,
        "collection_base": machine.collection_base,
        "purge": machine.purge,
        "job_id_variable": machine.variables.job_id,
        "restarts_variable": machine.variables.restarts,
    }
    if machine.losses.every is not None:
        figures["losses_every"] = float(machine.losses.every)
    if "probes" in machine.unreachable.model_fields_set:
        figures["unreachable_probes"] = machine.unreachable.probes
    if "seconds" in machine.unreachable.model_fields_set:
        figures["unreachable_seconds"] = machine.unreachable.seconds
    if "submits_per_minute" in machine.limits.model_fields_set:
        figures["submits_per_minute"] = machine.limits.submits_per_minute
    figures["failovers_per_minute"] = machine.limits.failovers_per_minute
    figures |= {"relay_file": machine.limits.relay_file, "relay_transfer": machine.limits.relay_transfer}
    return {key: value for key, value in figures.items() if value is not None}


def _lanes(machine: Profile, entry: Site) -> dict[str, Any]:
    """The lanes of the profile with the entry's over them, key by key. A lane that goes by other words than in the
    profile is another queue, of which the profile's limits say nothing."""
    words: dict[str, Mapping[str, str]] = {}
    limits: dict[str, LaneLimits] = {}
    for name in dict.fromkeys((*machine.lanes, *entry.lanes)):
        known, said = machine.lanes.get(name), entry.lanes.get(name)
        words[name] = (known.words if known else {}) | (said.words if said else {})
        parts = [known, said] if known and words[name] == known.words else [said]
        keys = {key: getattr(part, key) for part in parts if part for key in part.model_fields_set if key in _LIMITS}
        if "walltimes" in keys:
            steps = sorted((step.nodes, step.max) for step in keys["walltimes"])
            keys["walltimes"] = tuple(steps)
            keys.setdefault("max_nodes", steps[-1][0] if steps else None)
        limits[name] = LaneLimits(**{key: value for key, value in keys.items() if value is not None})
    return {"lanes": words, "lane_limits": limits}


_NO_PLACES = frozenset({"attempt", "if_verified_at"})
"""Keys of `keep` that are no places."""
_LIMITS = frozenset({"charge", "min_walltime", "max_walltime", "min_nodes", "max_nodes", "walltimes"})


def _credential(reference: str, base: Path) -> str:
    """A file's path is meant from the document's folder."""
    kind, _, path = reference.partition(":")
    return f"file:{Path(base, os.path.expanduser(path))}" if kind == "file" else reference


def _counted(figure: int | str | None) -> int | None:
    """`auto` is what this machine lets us use."""
    if isinstance(figure, str):
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return figure


def _whole_seconds(figure: float | None) -> int | None:
    """The wrapper counts in whole seconds; never less than one."""
    return None if figure is None else max(1, round(figure))


def _place(name: str, entry: Place, base: Path, *, known: Collection[str]) -> PlaceConfig:
    """On a collection paths are that collection's own; without one they are this machine's, from the document on."""
    if name in _NO_PLACES:
        raise _At("path", Wrong(f"a place may not be called {name}", "`keep` means something else by it: rename it"))
    if entry.collection and entry.url:
        raise _At("url", Wrong("a place with a collection has no url", "leave one of them out"))
    strangers = [site for site in entry.mounted if site not in known]
    if strangers:
        cure = partial(nearest, strangers[0], known, what="sites")
        raise _At("mounted", Wrong(f"there is no site {quoted(strangers[0])}", cure))
    if entry.collection:
        path = entry.path or "/"
        if not path.startswith("/"):
            raise _At("path", Wrong("a path on a collection begins with /", f"write /{path}"))
    elif entry.url:
        path = entry.path or ""
    elif entry.path is None:
        raise _At("path", Wrong("a place needs a collection, a url or a path", "say where it is", kind="missing"))
    else:
        path = os.path.abspath(Path(base, os.path.expanduser(entry.path)))
    return PlaceConfig(
        name=name,
        collection=entry.collection or "",
        url=(entry.url or "").rstrip("/"),
        path=path,
        mounted=entry.mounted,
        prune=entry.prune,
        clearance=frozenset(entry.clearance),
    )


def _globus(entry: Globus, base: Path, home: Path | None) -> GlobusConfig:
    def reference(text: str | None) -> str:
        return _credential(text, base) if text else ""

    return GlobusConfig(
        client_id=reference(entry.client_id),
        client_secret=reference(entry.client_secret),
        transfer_url=entry.transfer_url or "",
        auth_url=entry.auth_url or "",
        active=entry.active,
        poll=entry.poll,
        patience=entry.patience,
        deadline=entry.deadline,
        encrypt=entry.encrypt,
        tokens=home / "globus" if home is not None else None,
    )


def _root(entry: Site, base: Path, *, elsewhere: bool) -> str:
    """Absolute. A site elsewhere has roots of its own kind, such as s3://bucket/folder."""
    root = entry.root
    if root is None:
        raise _At("root", Wrong("is missing", "name the folder at the site that is ours", kind="missing"))
    if "://" in root:
        return root
    if elsewhere and not root.startswith("/"):
        raise _At("root", Wrong(f"{root!r} is no folder of that machine", "write it from / on, as it is there"))
    if elsewhere:
        return os.path.normpath(root)
    return os.path.abspath(Path(base, os.path.expanduser(root)))
