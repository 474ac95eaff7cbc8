"""Where the files are that stages take from other stages, and how large: asked once for all stages of a round."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from broker.states import StageState
from broker.store.base import DecisionTx, ProductRow, Snapshot
from policies.history import Load

LONGEST_MANIFEST = 1 << 20
"""Characters: a decision reads no longer ones. What has more files than that is then left out of the sum."""

_STARTING = (StageState.WAITING, StageState.READY)


def inputs_of(tx: DecisionTx, snapshot: Snapshot) -> Mapping[int, Sequence[Load]]:
    """Of each stage that may be placed now and takes files of others: their products, whole."""
    hungry = [row.n for row in snapshot.stages if row.state in _STARTING and not row.unmet and '"stage":' in row.body]
    if not hungry:
        return {}
    parents = {n: [dep.parent for dep in deps if dep.inputs] for n, deps in tx.parents(hungry).items()}
    wanted = {parent for of in parents.values() for parent in of}
    loads = {n: load for n, row in tx.products(sorted(wanted)).items() if (load := _load(row)) is not None}
    return {n: [loads[parent] for parent in of if parent in loads] for n, of in parents.items()}


def _load(row: ProductRow) -> Load | None:
    if len(row.manifest) > LONGEST_MANIFEST:
        return None
    files = json.loads(row.manifest)["files"] if row.manifest else ()
    return Load(row.site, len(files), sum(size for _, size, *_ in files))
