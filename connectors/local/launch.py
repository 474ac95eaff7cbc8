"""Starting a job's process so that it is known before it does anything.

The launcher (a small shell) is started with a gate: it waits for the word `go` on its standard input. In the
meantime the broker claims the job's key for that very process, by one symbolic link, and opens the gate only when
it got it. Killed before the claim, the broker leaves nothing behind: the launcher reads an end of file, finds no link
of its own, and leaves. Killed after the claim, the launcher finds its link and goes on: the job lives, and whoever
looks under the key finds it. (Letting the launcher make the link itself costs one more process per job, `ln`, and
leaves the broker waiting to see it.)

The launcher then stays, outlives a polite signal, and writes down the exit code: it is known after a restart too.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from connectors.local.process import Process, look
from connectors.tree import Tree

SHELL = "/bin/sh"

# Descriptor 3 is the job's folder, $1 its script, $2 the key's link, $3 where the exit code goes. The latter two are
# relative to the folder: whatever the root is renamed to at any time, they are found again.
_LAUNCHER = """\
cd -P /proc/self/fd/3 || exit 126
exec 3<&-
read -r word || case "$(readlink "$2")" in "$$".*) word=go ;; esac
[ "$word" = go ] || exit 125
exec </dev/null
trap : HUP INT TERM
/bin/sh "$1"
code=$?
echo "$code" >"$3"
exit "$code"
"""

# what a broker ignores or handles must not be ignored by the payload
_DEFAULTS = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGPIPE,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
    signal.SIGXFSZ,
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A launcher waiting at its gate."""

    process: Process
    gate: int

    def go(self) -> None:
        self._say(b"go\n")

    def leave(self) -> None:
        """Somebody else has the key: end without doing anything."""
        self._say(b"no\n")

    def _say(self, word: bytes) -> None:
        with suppress(BrokenPipeError):  # killed meanwhile: its state will tell
            try:
                os.write(self.gate, word)
            finally:
                os.close(self.gate)


def launch(*, folder: Tree, entry: str, link: str, trace: str, log: str, env: Mapping[str, str]) -> Launched:
    """Start a launcher in a session of its own. An OSError means that nothing was started."""
    inner, gate = os.pipe()
    try:
        pid = os.posix_spawn(
            SHELL,
            [SHELL, "-c", _LAUNCHER, "crossfade-launcher", entry, link, trace],
            env,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, inner, 0),
                (os.POSIX_SPAWN_DUP2, folder.fd, 3),
                (os.POSIX_SPAWN_OPEN, 1, str(folder.path / log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=_DEFAULTS,
        )
    except OSError:
        os.close(gate)
        raise
    finally:
        os.close(inner)
    process = look(pid)
    assert process is not None  # noqa: S101 - our own child, not waited for yet: it has its entry in /proc
    return Launched(process=process, gate=gate)
