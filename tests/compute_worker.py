"""An endpoint's worker, as far as tests need one: the SDK's own unpacking, the function called, its result packed.

One process imports the SDK; each task is a fork of it, in a session of its own. Reads lines of JSON from stdin.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

from globus_compute_sdk.serialize import ComputeSerializer, JSONData


def perform(task: dict[str, str], folder: Path) -> None:
    """Run one task to its end; what came of it appears whole."""
    os.setsid()
    home = folder / "tasks" / task["id"]
    home.mkdir(parents=True)
    os.chdir(home)
    os.environ["GC_TASK_SANDBOX_DIR"] = str(home)
    os.environ["GC_TASK_UUID"] = task["id"]
    serializer = ComputeSerializer()
    try:
        function, args, kwargs = serializer.unpack_and_deserialize(task["function"] + task["payload"])
        result = {"result": ComputeSerializer(strategy_data=JSONData()).serialize(function(*args, **kwargs))}
    except Exception:
        result = {"exception": traceback.format_exc()}
    draft = folder / "results" / f".{task['id']}"
    draft.write_text(json.dumps(result))
    draft.rename(folder / "results" / task["id"])


def main() -> None:
    folder = Path(sys.argv[1])
    (folder / "results").mkdir()
    (folder / "ready").touch()
    for line in sys.stdin:
        task = json.loads(line)
        if os.fork() == 0:
            sys.stdin.close()
            if os.fork() == 0:  # nobody waits for it: its parent is gone
                perform(task, folder)
            os._exit(0)
        os.wait()


if __name__ == "__main__":
    main()
