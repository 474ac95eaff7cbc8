"""Comparing what a job left behind with its manifests. No one is believed on his word alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from broker.clock import Clock
from broker.effects.outcome import Result, compact, done
from broker.jobs import Job
from broker.store.base import CheckpointRow, EffectRow
from connectors.base import Site
from connectors.errors import NotThere
from connectors.harness import Manifest, RecordError, parse_manifest
from connectors.harness.records import MAX_MANIFEST_BYTES

Batch = Sequence[tuple[EffectRow, Job]]


class Mismatch(Exception):
    """Something is not as the manifest says."""


class Checker:
    """Performs `verify` (outputs) and `check` (a checkpoint)."""

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock

    def verify(self, site: Site, batch: Batch) -> Result:
        """Compare outputs with the manifest that the exit record vouches for. Digests were taken where the files
        were written; here presence and sizes are compared, and the mover compares digests when they leave."""
        result = Result()
        for effect, job in batch:
            try:
                manifest = self._outputs(site, effect, job)
                files = [list(entry) for entry in manifest.files]
                result.finish(effect, job, verified=compact({"ok": True, "files": files}))
            except (Mismatch, NotThere, RecordError) as error:
                answer = {"ok": False, "fault": "site", "reason": f"its outputs are not as it said: {error}"}
                result.finish(effect, job, verified=compact(answer))
        return result

    def _outputs(self, site: Site, effect: EffectRow, job: Job) -> Manifest:
        claimed = json.loads(effect.payload)
        directory = job.attempt.directory
        path = f"{directory}/.crossfade/g{claimed['generation']}/outputs.manifest"
        data = site.read(path, limit=MAX_MANIFEST_BYTES)
        if hashlib.sha256(data).hexdigest() != claimed["digest"]:
            raise Mismatch("the manifest is not the one that the exit record names")
        manifest = parse_manifest(data)
        there = _sizes(site, directory, manifest)
        for name, size, _ in manifest.files:
            if there.get(name) != size:
                raise Mismatch(f"{name} should have {size} bytes, it has {there.get(name, 'gone')}")
        return manifest

    def check(self, site: Site, batch: Batch) -> Result:
        """Read a checkpoint's manifest, and hash every file of it where it lies."""
        result = Result()
        for effect, job in batch:
            asked = json.loads(effect.payload)
            manifest, reason = self._checkpoint(site, str(asked["path"]))
            result.done.append(done(effect, {"ok": manifest is not None, "reason": reason}))
            result.checkpoints.append(self._row(effect, job, asked, manifest, reason))
        return result

    @staticmethod
    def _checkpoint(site: Site, folder: str) -> tuple[Manifest | None, str]:
        try:
            manifest = parse_manifest(site.read(f"{folder}/manifest", limit=MAX_MANIFEST_BYTES))
        except (NotThere, RecordError) as error:
            return None, f"its manifest cannot be read: {error}"
        paths = {f"{folder}/files/{name}": (size, digest) for name, size, digest in manifest.files}
        found = site.digests(list(paths))
        for path, expected in paths.items():
            if found.get(path) != expected:
                return None, f"{path.rsplit('/', 1)[-1]} does not match the manifest"
        return manifest, ""

    def _row(
        self, effect: EffectRow, job: Job, asked: dict[str, object], manifest: Manifest | None, reason: str
    ) -> CheckpointRow:
        a, now = job.attempt, self._clock()
        files = [list(entry) for entry in manifest.files] if manifest else []
        return CheckpointRow(
            run_id=a.run_id,
            n=a.n,
            attempt=a.number,
            generation=int(str(asked["generation"])),
            seq=int(str(asked["seq"])),
            site=effect.site,
            state="verified" if manifest else "bad",
            path=str(asked["path"]),
            manifest=compact({"files": files, "app": manifest.app, "parent": manifest.parent}) if manifest else "",
            bytes=sum(size for _, size, _ in manifest.files) if manifest else 0,
            created_at=now,
            verified_at=now if manifest else None,
            reason=reason,
        )


def _sizes(site: Site, directory: str, manifest: Manifest) -> dict[str, int]:
    """Sizes of what is there, by one listing per top folder of the outputs."""
    sizes: dict[str, int] = {}
    prefix = f"{directory}/"
    tops = {name.split("/", 1)[0] for name, _, _ in manifest.files if "/" in name}
    for top in sorted(tops):
        listed = site.list(f"{directory}/{top}", recursive=True)
        sizes.update({info.path.removeprefix(prefix): info.size for info in listed if not info.is_dir})
    if any("/" not in name for name, _, _ in manifest.files):
        listed = site.list(directory)
        sizes.update({info.path.removeprefix(prefix): info.size for info in listed if not info.is_dir})
    return sizes
