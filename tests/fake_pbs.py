"""qsub, qstat, qselect and qdel of a PBS that is not there: a program with a state, which really runs its jobs.

Shapes, exit codes and words are those of PBS Pro and OpenPBS. Started as `fake_pbs.py FOLDER VERB ...`;
files in the folder make it misbehave: `down`, `invalid-json`, `vanish` (a routing queue), `no-history`, `held` (jobs
stay in the queue, with its text as their comment).
"""
# ruff: noqa: T201 - a program: what it prints is its answer

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

SERVER = "pbs-01"
FOLDER = Path(sys.argv[1])


class State:
    """The jobs, under a lock, written back when the `with` ends."""

    def __enter__(self) -> dict:
        self._lock = (FOLDER / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        path = FOLDER / "jobs.json"
        self._jobs = json.loads(path.read_text()) if path.exists() else {"next": 1}
        return self._jobs

    def __exit__(self, *exc: object) -> None:
        (FOLDER / "jobs.new").write_text(json.dumps(self._jobs))
        (FOLDER / "jobs.new").rename(FOLDER / "jobs.json")
        self._lock.close()


def flag(name: str) -> bool:
    return (FOLDER / name).exists()


def fail(words: str, code: int) -> None:
    print(words, file=sys.stderr)
    sys.exit(code)


def clock(seconds: float) -> str:
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(seconds))


def jobs_of(state: dict) -> dict:
    return {key: job for key, job in state.items() if key != "next"}


def qsub(words: list[str]) -> None:
    script = sys.stdin.read()
    options = dict(re.findall(r"^#PBS (-[A-Za-z]) (\S+)$", script, re.MULTILINE))
    resources = dict(re.findall(r"^#PBS -l (\w+)=(\S+)$", script, re.MULTILINE))
    if options.get("-q") == "nowhere":
        fail("qsub: Unknown queue", 170)
    if options.get("-A") == "spent":
        fail("qsub: No active allocation found for project spent and resource here", 1)
    if flag("wants-filesystems") and "filesystems" not in resources:
        fail("qsub: Resource: filesystems is required to be set.", 1)
    variables = dict(one.split("=", 1) for one in options.get("-v", "").split(",") if "=" in one)
    held = (FOLDER / "held").read_text() if flag("held") else ""
    with State() as state:
        number, state["next"] = state["next"], state["next"] + 1
        native_id = f"{number}.{SERVER}"
        if not flag("vanish"):
            state[native_id] = {
                "Job_Name": options["-N"],
                "Job_Owner": "root@login",
                "job_state": "H" if "held" in held else "Q",
                "queue": options.get("-q", "workq"),
                "Output_Path": f"login:{options['-o']}",
                "Rerunable": str(options.get("-r") == "y"),
                "Resource_List": {"walltime": "01:00:00", **resources},
                # what looks like a number is printed as one
                "Variable_List": {"PBS_O_HOME": "/root", "N": 6, **variables},
                "qtime": time.time(),
                "mtime": time.time(),
                **({"comment": held} if held else {}),
            }
    print(native_id)
    if held or flag("vanish"):
        return
    (FOLDER / f"{number}.sh").write_text(script)
    subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(FOLDER), "run", native_id],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def run(words: list[str]) -> None:
    native_id = words[0]
    with State() as state:
        job = state[native_id]
        if job["job_state"] != "Q":
            return
        env = {**os.environ, "PBS_JOBID": native_id, "PBS_JOBNAME": job["Job_Name"]}
        process = subprocess.Popen(
            ["/bin/sh", FOLDER / f"{native_id.split('.')[0]}.sh"], env=env, start_new_session=True
        )
        job |= {"job_state": "R", "stime": time.time(), "pid": process.pid, "comment": "Job run at now on (n1:ncpus=1)"}
        job["run_count"] = job.get("run_count", 0) + 1
    code = process.wait()
    with State() as state:
        state[native_id] |= {"Exit_status": code if code >= 0 else 256 - code, "obittime": time.time()}
        state[native_id] |= {"job_state": "F"}


def qdel(words: list[str]) -> None:
    with State() as state:
        for native_id in words:
            job = state.get(native_id)
            if job is None:
                fail(f"qdel: Unknown Job Id {native_id}", 153)
            if job["job_state"] == "F":
                fail(f"qdel: Job has finished {native_id}", 35)
            if job["job_state"] == "R":
                os.killpg(job["pid"], signal.SIGKILL)
            else:
                job |= {"job_state": "F", "obittime": time.time()}


def qselect(words: list[str]) -> None:
    past = "-x" in words
    if past and flag("no-history"):
        fail("qselect: Illegal option: -x", 2)
    name = words[words.index("-N") + 1] if "-N" in words else None
    with State() as state:
        for native_id, job in jobs_of(state).items():
            if (past or job["job_state"] != "F") and name in {None, job["Job_Name"]}:
                print(native_id)


def qstat(words: list[str]) -> None:
    if "-B" in words:
        print(
            f"Server: {SERVER}\n    server_state = {'Terminating' if flag('ending') else 'Active'}\n    total_jobs = 1"
        )
        return
    if "-Q" in words:
        print("Queue              Max   Tot Ena Str   Que   Run   Hld   Wat   Trn   Ext Type")
        print("---------------- ----- ----- --- --- ----- ----- ----- ----- ----- ----- ----")
        up = "no " if flag("stopped") else "yes"
        print(f"workq                0     0 {up} yes     0     0     0     0     0     0 Exec")
        return
    form = "json" if "json" in words else "text"
    ids = [word for word in words if re.fullmatch(r"\d+(\..*)?", word)]
    code, shown = 0, {}
    with State() as state:
        for native_id in ids:
            if native_id not in state:
                print(f"qstat: Unknown Job Id {native_id}", file=sys.stderr)
                code = 153
            elif state[native_id]["job_state"] == "F" and "-x" not in words:
                print(
                    f"qstat: {native_id} Job has finished, use -x or -H to obtain historical job information",
                    file=sys.stderr,
                )
                code = 35
            else:
                times = {k: clock(v) for k, v in state[native_id].items() if k.endswith("time") and k != "walltime"}
                shown[native_id] = {k: v for k, v in {**state[native_id], **times}.items() if k != "pid"}
    if form == "json":
        head = {"timestamp": int(time.time()), "pbs_version": "23.06.06", "pbs_server": SERVER, "Jobs": shown}
        told = json.dumps(head, indent=4)
        print(told.replace('"PBS_O_HOME": "/root"', r'"PBS_O_HOME": "/ro\ot"') if flag("invalid-json") else told)
    else:
        for native_id, job in shown.items():
            print(f"Job Id: {native_id}")
            for name, value in job.items():
                if name == "Variable_List":
                    print(f"    {name} = " + ",".join(f"{k}={v}" for k, v in value.items()))
                elif isinstance(value, dict):
                    for inner, text in value.items():
                        print(f"    {name}.{inner} = {text}")
                else:
                    print(f"    {name} = {value}")
            print()
    sys.exit(code)


if __name__ == "__main__":
    verb = sys.argv[2]
    if flag("down") and verb != "run":
        fail(f"Connection refused\n{verb}: cannot connect to server {SERVER} (errno=111)", 111)
    {"qsub": qsub, "run": run, "qdel": qdel, "qselect": qselect, "qstat": qstat}[verb](sys.argv[3:])
