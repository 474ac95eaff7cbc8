"""The harness's two commonest records, written without a round trip through the parser.

A simulated job writes them by the ten thousand. The bytes are those of `connectors.harness.records`, which a
property test holds against each other.
"""

from __future__ import annotations

FOLDER = "spool"


def started_bytes(
    *, key: str, generation: int, owner: str, host: str, started_at: int, native_id: str, restore_seq: int | None
) -> bytes:
    """As `format_record(StartRecord(...))`."""
    restore = "" if restore_seq is None else f"restore_seq {restore_seq}\n"
    return (
        f"crossfade-started 1\nkey {key}\ngeneration {generation}\nowner {owner}\nhost {host}\n"
        f"started_at {started_at}\nnative_id {native_id}\n{restore}end\n"
    ).encode()


def exit_bytes(
    *,
    key: str,
    generation: int,
    kind: str,
    exit_code: int,
    signal: int | None,
    started_at: int,
    ended_at: int,
    outputs_count: int,
    outputs_digest: str,
    asked: str,
    missing: tuple[str, ...],
    wrong_size: tuple[tuple[str, int], ...] = (),
) -> bytes:
    """As `format_record(ExitRecord(...))`."""
    signaled = "" if signal is None else f"signal {signal}\n"
    digest = f"outputs_digest {outputs_digest}\n" if outputs_digest else ""
    why = f"asked {asked}\n" if asked else ""
    absent = "".join(f"missing {path}\n" for path in missing)
    absent += "".join(f"wrong_size {size} {path}\n" for path, size in wrong_size)
    return (
        f"crossfade-exit 1\nkey {key}\ngeneration {generation}\nkind {kind}\nexit_code {exit_code}\n{signaled}"
        f"started_at {started_at}\nended_at {ended_at}\noutputs_count {outputs_count}\n{digest}{why}{absent}end\n"
    ).encode()
