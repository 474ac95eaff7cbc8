"""The life of `stage.sh` in small: start gate, generations, checkpoints, spool and exit record, in memory."""

from __future__ import annotations

import hashlib

from connectors.harness import (
    CheckpointRecord,
    Manifest,
    RecordError,
    format_manifest,
    format_record,
    parse_manifest,
)
from sandbox import spool
from sandbox.blob import Blob
from sandbox.disk import Disk
from sandbox.job import Execution
from sandbox.papers import Papers

SAVED = "progress.sim"
"""The one file of a simulated checkpoint."""


class Wrapper:
    """Writes what the harness would write. `writable` False: the disks are gone, and writes are lost."""

    def __init__(self, disk: Disk, *, gate: bool) -> None:
        self._disk = disk
        self._gate = gate
        self._owners: dict[str, Execution] = {}
        self.writable = True

    def gate(self, execution: Execution, papers: Papers, now: int) -> int | None:
        """0: passed, the generation is open. More: microseconds to wait before the next try. None: refused.

        A stranger may follow a generation that is surely silent; a requeue, known by its id, waits until it is.
        """
        last = self._owners.get(execution.key)
        if last is not None and self._gate:
            if last.left_record:
                self._announce(last, now)
            if last.alive or last.left_record or papers.one_generation:
                return None
            silence = now - last.last_beat(papers.beat, now)
            if silence <= papers.fence * 1_000_000:
                return papers.fence * 1_000_000 - silence + 1 if last.native_id == execution.native_id else None
        execution.generation = 1 if last is None else last.generation + 1
        self._owners[execution.key] = execution
        claim = "claim" if execution.generation == 1 else f"claim.{execution.generation}"
        self._disk.add(execution.job.spec.directory, f".crossfade/{claim}", execution.owner.encode(), now)
        self._beat(execution, now)
        return 0

    def restore(self, execution: Execution, papers: Papers) -> bool:
        """Put back the newest checkpoint of this attempt, or else the one that the broker has brought.

        False: one was promised, and it does not verify.
        """
        crossfade = f"{execution.job.spec.directory}/.crossfade"
        for generation in range(execution.generation - 1, 0, -1):
            for info in reversed(self._disk.listing(f"{crossfade}/g{generation}/ckpt")):
                if self._take(execution, papers, info.path):
                    return True
        if not papers.restores or (papers.restore_seq is None and not self._is_there(f"{crossfade}/restore")):
            return True
        return self._take(execution, papers, f"{crossfade}/restore", want=papers.restore_seq)

    def begin(self, execution: Execution, now: int) -> None:
        """Say that the payload is about to start."""
        content = spool.started_bytes(
            key=execution.key,
            generation=execution.generation,
            owner=execution.owner,
            host=execution.host,
            started_at=now,
            native_id=execution.native_id,
            restore_seq=execution.restore_seq,
        )
        self._spool(execution, "started", content, now)

    def checkpoint(self, execution: Execution, saved: Blob, now: int, *, keep: int) -> None:
        """Commit one: the files, then the manifest, then the record."""
        parent = execution.seq or None
        execution.seq += 1
        if not self.writable:
            return
        relative = f".crossfade/g{execution.generation}/ckpt/{execution.seq:06d}"
        directory = execution.job.spec.directory
        manifest = format_manifest(
            Manifest(files=((SAVED, saved.size, saved.sha256),), seq=execution.seq, parent=parent)
        )
        self._disk.add(directory, f"{relative}/files/{SAVED}", saved.head, now, size=saved.size)
        self._disk.add(directory, f"{relative}/manifest", manifest, now)
        record = CheckpointRecord(
            key=execution.key,
            generation=execution.generation,
            seq=execution.seq,
            path=relative,
            bytes=saved.size,
            manifest_digest=hashlib.sha256(manifest).hexdigest(),
            at=now,
        )
        content = format_record(record)
        self._spool(execution, "checkpoint", content, now)
        self._disk.add(directory, f"{relative}/{execution.records}.checkpoint", content, now)
        self._beat(execution, now)
        old = execution.seq - keep
        self._disk.remove_folder(f"{_generation_folder(execution)}/ckpt/{old:06d}")

    def end(self, execution: Execution, papers: Papers, now: int, *, code: int, signal: int | None, lie: str) -> None:
        """Leave outputs and exit record. Called only where the wrapper lives long enough to do so."""
        if not self.writable:
            return
        digest, count = "", 0
        missing: tuple[str, ...] = ()
        if execution.how == "done":
            digest, count, missing = self._leave_outputs(execution, papers, now, lie=lie)
        if lie == "no exit record":
            return
        content = spool.exit_bytes(
            key=execution.key,
            generation=execution.generation,
            kind=execution.how,
            exit_code=code,
            signal=signal,
            started_at=execution.started_at,
            ended_at=now,
            outputs_count=count,
            outputs_digest=digest,
            asked=execution.asked,
            missing=missing,
        )
        execution.left_record = True
        self._spool(execution, "exit", content, now)

    def _leave_outputs(
        self, execution: Execution, papers: Papers, now: int, *, lie: str
    ) -> tuple[str, int, tuple[str, ...]]:
        """Write the payload's files and their manifest: its digest, its count, and what is missing.

        A lie spoils the files after they were listed: the manifest is as it should be, and the disk is not.
        """
        directory = execution.job.spec.directory
        for path, blob in papers.made:
            if lie != "outputs missing":
                kept = blob.cut(blob.size // 2) if lie == "outputs truncated" else blob
                self._disk.add(directory, path, kept.head, now, size=kept.size)
        content, digest, count = papers.manifest
        if count:
            self._disk.add(directory, f".crossfade/g{execution.generation}/outputs.manifest", content, now)
        return digest, count, papers.missing

    def forget(self, execution: Execution) -> None:
        """Nobody will ask about this job any more: its control files go, its outputs stay."""
        self._owners.pop(execution.key, None)
        self._disk.remove_folder(f"{execution.job.spec.directory}/.crossfade")
        for generation in range(1, execution.generation + 1):
            for n in range(1, execution.records + 1):
                for kind in ("started", "checkpoint", "exit"):
                    self._disk.remove(f"{spool.FOLDER}/{execution.key}.{generation}.{n}.{kind}")

    def show_beat(self, directory: str, now: int) -> None:
        """Write the last beat of whoever holds the attempt in that folder."""
        for execution in self._owners.values():
            if execution.job.spec.directory == directory:
                self._beat(execution, execution.last_beat(execution.job.papers.beat, now))

    def wiped(self) -> None:
        """The disks came back empty, claims included."""
        self._owners.clear()

    def _is_there(self, folder: str) -> bool:
        return self._disk.get(f"{folder}/manifest") is not None

    def _take(self, execution: Execution, papers: Papers, folder: str, *, want: int | None = None) -> bool:
        manifest = self._verified(folder)
        saved = self._disk.get(f"{folder}/files/{SAVED}")
        if manifest is None or saved is None or want not in (None, manifest.seq):
            return False
        try:
            execution.progress = papers.payload.restored(saved.head)
        except ValueError:
            return False
        execution.seq = manifest.seq
        execution.restore_seq = manifest.seq
        return True

    def _verified(self, folder: str) -> Manifest | None:
        content = self._disk.get(f"{folder}/manifest")
        if content is None:
            return None
        try:
            manifest = parse_manifest(content.whole())
        except RecordError:
            return None
        for path, size, sha256 in manifest.files:
            blob = self._disk.get(f"{folder}/files/{path}")
            if blob is None or blob.size != size or blob.sha256 != sha256:
                return None
        return manifest

    def _beat(self, execution: Execution, now: int) -> None:
        if self.writable:
            path = f".crossfade/g{execution.generation}/heartbeat"
            self._disk.add(execution.job.spec.directory, path, b"%d\n" % (now // 1_000_000), now)

    def _spool(self, execution: Execution, kind: str, content: bytes, now: int) -> None:
        execution.records += 1
        if not self.writable:
            return
        name = f"{execution.key}.{execution.generation}.{execution.records}.{kind}"
        self._disk.put_in(spool.FOLDER, name, content, now)
        if kind == "exit":  # first written in the generation's own folder; the broker takes those of the spool away
            path = f".crossfade/g{execution.generation}/{execution.records}.exit"
            self._disk.add(execution.job.spec.directory, path, content, now)

    def _announce(self, ended: Execution, now: int) -> None:
        """Whoever is turned away because the attempt has ended says so again."""
        blob = self._disk.get(f"{_generation_folder(ended)}/{ended.records}.exit")
        if blob is not None and self.writable:
            name = f"{ended.key}.{ended.generation}.{ended.records}.exit"
            self._disk.put_in(spool.FOLDER, name, blob.whole(), now)


def _generation_folder(execution: Execution) -> str:
    return f"{execution.job.spec.directory}/.crossfade/g{execution.generation}"
