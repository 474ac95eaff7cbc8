"""Stand-ins for container runtimes: what they take, what they refuse as the real ones do, and what is inside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from broker.spec import container_line, launcher_line, repeated
from broker.spec.profiles import profile
from sandbox.containers import apptainer, podman, shifter
from sandbox.containers.inside import Container
from sandbox.containers.main import READERS
from sandbox.containers.placing import put_up, started
from sandbox.containers.reading import RefusedLine, is_reference

IMAGE = "ghcr.io/example/microct@sha256:cc098a2cfb6b1632ea872a202c66cb7566908da066fd8f8c123b92fa95c2a43c"
ENV = {"PATH": "/usr/bin:/bin", "HOME": "/nowhere", "CROSSFADE_KEY": "k", "OMP_NUM_THREADS": "8", "OTHER": "x"}


def read(runtime: str, *words: str, cwd: str = "/w", env: dict[str, str] = ENV) -> Container:
    return READERS[runtime](list(words), cwd=cwd, env=env)


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        (IMAGE, True),
        ("alpine", True),
        ("localhost:5000/a/b_c:1.2", True),
        ("registry.example.org/a:tag@sha256:" + "0" * 64, True),
        ("Upper/case", False),
        ("a@sha256:1234", False),
        ("a b", False),
        ("-rm", False),
        ("a:", False),
    ],
)
def test_what_registries_call_an_image(text: str, sound: bool) -> None:
    assert is_reference(text) is sound


# -- what is refused -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runtime", "words", "told", "code"),
    [
        ("podman-hpc", ["exec", "a", "b"], "unrecognized command `podman exec`", 125),
        ("podman-hpc", ["run", "--mpii", "a", "b"], "unknown flag: --mpii", 125),
        ("podman-hpc", ["run", "--volume"], "flag needs an argument: --volume", 125),
        ("podman-hpc", ["run", "--rm"], "requires at least 1 arg", 125),
        ("podman-hpc", ["run", "a@sha256:12", "b"], "invalid reference format", 125),
        ("podman-hpc", ["run", "--volume=/nowhere:/nowhere", IMAGE, "b"], "statfs /nowhere: no such file", 125),
        ("podman-hpc", ["run", "--volume=/:relative", IMAGE, "b"], "must be an absolute path", 125),
        ("podman-hpc", ["run", "--volume=/:/x:rx", IMAGE, "b"], "invalid mount option 'rx'", 125),
        ("podman-hpc", ["run", "--workdir=w", IMAGE, "b"], "needs to be an absolute path", 125),
        ("apptainer", ["run", "a"], 'unknown command "run"', 1),
        ("apptainer", ["exec", "--gpu", "docker://a", "b"], "unknown flag: --gpu", 1),
        ("apptainer", ["exec", "docker://a"], "requires at least 2 arg(s), only received 1", 1),
        ("apptainer", ["exec", "docker://A", "b"], "could not parse reference", 255),
        ("apptainer", ["exec", "ftp://a", "b"], "Unsupported image type", 255),
        ("apptainer", ["exec", IMAGE, "b"], "could not open image /w/ghcr.io", 255),
        ("apptainer", ["exec", "--bind", "/nowhere", "docker://a", "b"], "mount source /nowhere doesn't exist", 255),
        ("apptainer", ["exec", "--bind", "/:/x:rx", "docker://a", "b"], "is not a bind option", 255),
        ("shifter", ["ls"], "no image was specified", 1),
        ("shifter", ["--image=docker:A", "ls"], "invalid image name", 1),
        ("shifter", ["--image=docker:a", "--rm", "ls"], "unrecognized option '--rm'", 1),
        ("shifter", ["--image=docker:a", "--volume=/tmp:/etc/x", "ls"], "not allowed to mount over /etc/x", 1),
    ],
)
def test_what_the_real_one_refuses_is_refused(runtime: str, words: Sequence[str], told: str, code: int) -> None:
    with pytest.raises(RefusedLine) as caught:
        read(runtime, *words)
    assert told in caught.value.told
    assert caught.value.code == code


# -- what is inside ------------------------------------------------------------------------------------------


def test_podman_brings_the_variables_that_are_named_and_apptainer_all_of_them() -> None:
    found = read("podman-hpc", "run", "--env=CROSSFADE_*", "--env=OMP_NUM_THREADS", "-e", "A=b", IMAGE, "x").env
    assert {name: found.get(name) for name in ("CROSSFADE_KEY", "OMP_NUM_THREADS", "A", "OTHER")} == {
        "CROSSFADE_KEY": "k",
        "OMP_NUM_THREADS": "8",
        "A": "b",
        "OTHER": None,
    }
    assert read("apptainer", "exec", "docker://a", "x").env["OTHER"] == "x"
    assert "OTHER" not in read("apptainer", "exec", "--cleanenv", "docker://a", "x").env


def test_a_link_out_of_what_is_bound_leads_nowhere_in_there(tmp_path: Path) -> None:
    work, data = tmp_path / "work", tmp_path / "data"
    for folder in (work, data):
        folder.mkdir()
    (data / "x.h5").touch()
    (work / "raw.h5").symlink_to(data / "x.h5")
    (work / "same").symlink_to("raw.h5")
    here = (f"--volume={work}:{work}", f"--workdir={work}")
    lacks = read("podman-hpc", "run", *here, IMAGE, "x", cwd=str(work)).lacks()
    assert lacks == f"raw.h5 leads to {data}/x.h5, which is not in the container"
    assert read("podman-hpc", "run", *here, f"--volume={data}:{data}:ro", IMAGE, "x").lacks() == ""
    assert "leads to" in read("apptainer", "exec", "docker://a", "x", cwd=str(work)).lacks()
    assert read("apptainer", "exec", f"--bind={data}:{data}:ro", "docker://a", "x", cwd=str(work)).lacks() == ""
    assert "working directory" in read("podman-hpc", "run", f"--volume={data}:{data}", IMAGE, "x").lacks()
    assert read("shifter", "--image=docker:a", "x", cwd=str(work)).lacks() == ""


@pytest.mark.parametrize("name", ["nersc/perlmutter", "nersc/perlmutter-gpu", "olcf/defiant", "alcf/polaris", "slurm"])
def test_the_profiles_lines_are_ones_that_the_runtimes_take(name: str, tmp_path: Path) -> None:
    """As the payload's shell would read them, with a folder that is read in place and a variable of the stage's."""
    machine = profile(name)
    assert machine.container is not None
    options = [
        *repeated(machine.container_bind or "", "path", [str(tmp_path)]),
        *repeated(machine.container_env or "", "name", ["OMP_NUM_THREADS"]),
    ]
    line = f"{container_line(machine.container, image=IMAGE, options=options)} python x.py"
    shown = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {line}"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = read(shown[0], *shown[1:], cwd=str(tmp_path))
    assert list(found.command) == ["python", "x.py"]
    assert found.workdir == str(tmp_path)
    assert str(tmp_path) in {mount.source for mount in found.mounts}
    assert found.env["OMP_NUM_THREADS"] == "8"
    assert found.lacks() == ""


def test_figures_of_a_launcher_do_not_reach_a_bind() -> None:
    assert launcher_line("srun -n {ranks}", {"ranks": 2}) == "srun -n 2"
    assert repeated("", "path", ["/x"]) == []


# -- as commands ---------------------------------------------------------------------------------------------


def test_a_placed_command_becomes_the_payload_and_writes_down_what_it_started(tmp_path: Path) -> None:
    commands = put_up(tmp_path / "nersc", runtimes=("podman-hpc",), modules=("conda",))
    work = tmp_path / "work"
    work.mkdir()
    env = {"PATH": f"{commands}:{os.environ['PATH']}", "SECRET_OF_THE_HOST": "1"}
    line = f'podman-hpc run --rm --volume="$PWD:$PWD" --workdir="$PWD" {IMAGE} sh -c '

    def shell(text: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["/bin/sh", "-c", text], cwd=work, env=env, capture_output=True, text=True, check=False)

    done = shell(line + "'pwd; echo ${SECRET_OF_THE_HOST-unset} $container; exit 7'")
    assert (done.returncode, done.stdout) == (7, f"{work}\nunset podman\n")
    assert shell("podman-hpc run --bad x y").returncode == 125
    assert shell(f"podman-hpc run -w /w -v /:/w {IMAGE} sh").returncode == 126
    assert shell(line.replace("sh -c ", "no-such-program")).returncode == 127
    (record,) = started(tmp_path / "nersc")
    assert (record["image"], record["workdir"], record["command"][:2]) == (IMAGE, str(work), ["sh", "-c"])
    assert shell("module use /soft/modulefiles && module load conda/2024 && conda activate /env").returncode == 0
    unknown = shell("module load cnda")
    assert (unknown.returncode, '"cnda"' in unknown.stderr) == (1, True)


def test_every_runtime_is_told_apart_by_its_name() -> None:
    assert {
        "podman-hpc": podman.container,
        "apptainer": apptainer.container,
        "shifter": shifter.container,
    } == READERS
