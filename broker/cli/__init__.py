"""The command line, `crossfade` or short `xf`.

`verbs` lists every verb; `app` finds and runs them, and turns errors into one line and an exit code. Modules of
verbs are imported when they are typed, so that help and completion stay quick.
"""

from __future__ import annotations

import gc


def main() -> None:
    """The entry point of both commands."""
    # a quarter of the time to the first line goes into collecting what imports make, and nothing of that is garbage
    gc.set_threshold(50_000, 20, 50)
    from broker.cli.app import app  # noqa: PLC0415 - `import broker.cli` costs nothing that way

    app()
