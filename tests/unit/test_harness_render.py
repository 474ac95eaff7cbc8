"""Rendering: nothing but quoted assignments, constant scripts, and refusals with a reason."""

import shutil
import subprocess
import timeit
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import harness
from connectors.harness import ENTRY, HarnessCheckpoint, HarnessPlan, HarnessRestore, Output, UnsafePlan, render

PLAN = HarnessPlan(key="cfabcdefghijklm", digest="d" * 64, directory_depth=4, command="true")


def files(plan: HarnessPlan) -> dict[str, bytes]:
    return {file.path: file.content for file in render(plan)}


def conf(plan: HarnessPlan) -> dict[str, str]:
    """What a shell reads from job.conf; `set` would show anything that had been run or split."""
    script = files(plan)[".crossfade/job.conf"] + b'\nfor n in %s; do eval "printf \'%%s\\\\0\' \\"\\$$n\\""; done'
    names = [
        line.split("=")[0]
        for line in files(plan)[".crossfade/job.conf"].decode().splitlines()
        if line.startswith("cf_")
    ]
    done = subprocess.run(["sh", "-eu", "-c", script % " ".join(names).encode()], capture_output=True, check=True)
    return dict(zip(names, done.stdout.decode().split("\0"), strict=False))


def test_the_scripts_are_the_same_object_for_every_job_and_private():
    first, second = render(PLAN), render(replace(PLAN, key="cfother"))
    assert first[0] is second[0]
    assert first[0].path == ENTRY
    assert {file.mode & 0o077 for file in first} == {0}


def test_the_conf_says_what_the_plan_says():
    plan = replace(
        PLAN,
        start_before=1_999_999,
        stop_before=5_000_001,
        walltime=90,
        native_id_var="SLURM_JOB_ID",
        restore=HarnessRestore(seq=12),
        checkpoint=HarnessCheckpoint(path="ckpt/", match=r"slab_(\d+)\.h5", ask_kind="signal", ask_value="SIGUSR1"),
    )
    told = conf(plan)
    assert (told["cf_start_before"], told["cf_stop_before"], told["cf_walltime"]) == ("1", "5", "90")
    assert (told["cf_spool"], told["cf_native_var"], told["cf_restart_var"]) == (
        "../../../../spool",
        "SLURM_JOB_ID",
        "",
    )
    assert (told["cf_match"], told["cf_match_group"]) == (r"ckpt/(slab_([0-9]+)\.h5)", "6")
    assert (told["cf_path"], told["cf_ask_value"], told["cf_restore"]) == ("ckpt", "USR1", "12")


def test_every_name_is_always_set_so_that_none_comes_from_the_sites_environment():
    full = HarnessCheckpoint(match=r"(\d+)", complete=r"(\d+)D", ask_kind="file", ask_value="STOP", every=3)
    assert conf(PLAN).keys() == conf(replace(PLAN, checkpoint=full)).keys()


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["A", "B_2", "_c"]), st.text(st.characters(exclude_characters="\0", codec="utf-8")))
)
def test_any_value_of_the_environment_reaches_the_payload_unchanged(env):
    names = sorted(env)
    command = "\n".join(f"printf '%s\\0' \"${name}\"" for name in names)
    payload = files(replace(PLAN, env=env, command=command))[".crossfade/payload.sh"].decode()
    script = payload[payload.index("unset cf_stat") :]
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        capture_output=True,
        check=True,
        env={"PATH": "/bin", "CROSSFADE_CHECKPOINT_DIR": "/a/b/c"},
    )
    assert done.stdout.decode().split("\0")[:-1] == [env[name] for name in names]


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../b", ".crossfade/claim", "a\nb", "a\0b", "", "a\\b", "."])
def test_a_path_that_would_leave_the_directory_is_refused(path):
    for plan in (
        replace(PLAN, outputs=(Output(path=path),)),
        replace(PLAN, checkpoint=HarnessCheckpoint(ask_kind="file", ask_value=path)),
    ):
        with pytest.raises(UnsafePlan):
            render(plan)
    if path != ".":
        with pytest.raises(UnsafePlan):
            render(replace(PLAN, checkpoint=HarnessCheckpoint(path=path)))


@pytest.mark.parametrize(
    "change",
    [
        {"key": "cf'; id"},
        {"digest": "two\nlines"},
        {"env": {"A;id": "x"}},
        {"env": {"A\n": "x"}},
        {"env": {"": "x"}},
        {"env": {"CROSSFADE_KEY": "x"}},
        {"env": {"PPID": "1"}},
        {"env": {"A": "nul\0"}},
        {"env": {"A": "\ud800"}},
        {"native_id_var": "X}; id; {"},
        {"command": "nul\0"},
        {"fence_seconds": 20, "heartbeat_seconds": 15},
        {"heartbeat_seconds": 0},
        {"walltime": -1},
        {"duplicates": "perhaps"},
        {"directory_depth": 65},
        {"checkpoint": HarnessCheckpoint(keep=0)},
        {"checkpoint": HarnessCheckpoint(restore_style="magic")},
        {"checkpoint": HarnessCheckpoint(ask_kind="mail", ask_value="x")},
        {"checkpoint": HarnessCheckpoint(ask_kind="signal", ask_value="KILL")},
        {"checkpoint": HarnessCheckpoint(ask_kind="signal", ask_value="USR1; id")},
    ],
)
def test_a_plan_that_cannot_be_told_to_a_shell_is_refused(change):
    with pytest.raises(UnsafePlan):
        render(replace(PLAN, **change))


def test_rendering_costs_next_to_nothing():
    plan = replace(
        PLAN, env={"A": "it's", "B": "2"}, outputs=(Output(path="rec/"),), checkpoint=HarnessCheckpoint(match=r"(\d+)")
    )
    best = min(timeit.repeat(lambda: render(plan), number=200, repeat=10)) / 200
    assert best < 60e-6  # 30 on a quiet machine, and half of the CI machines are not


def test_the_facade_lists_its_names_in_order_and_has_them_all():
    assert all(hasattr(harness, name) for name in harness.__all__)
    constants = [name for name in harness.__all__ if name.isupper()]
    classes = [name for name in harness.__all__ if name[0].isupper() and not name.isupper()]
    functions = [name for name in harness.__all__ if name[0].islower()]
    assert harness.__all__ == sorted(constants) + sorted(classes) + sorted(functions)


def test_the_scripts_are_clean_to_shellcheck():
    shellcheck = shutil.which("shellcheck") or ".venv/bin/shellcheck"
    folder = harness.render.__globals__["_HERE"]
    scripts = [str(folder / name) for name in ("stage.sh", "begin.sh", "crossfade-checkpoint")]
    done = subprocess.run([shellcheck, "-s", "sh", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
