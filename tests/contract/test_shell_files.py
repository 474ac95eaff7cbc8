"""Files through a site's shell: the contract's part about files, and traps, with each shell that a site may have."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tool_kit

from connectors.contract import FilesContract
from connectors.errors import BadReply, NotThere, QuotaError, RequestRefused, SiteUnreachable, UnsafePath
from connectors.files import shell_scripts
from connectors.files.shell import ShellFiles, refusal
from connectors.model import SmallFile


class Shell:
    """Runs scripts as a site would, and can be made to answer wrongly."""

    def __init__(self, name: str, folder: Path) -> None:
        program = tool_kit.require_tool(name)
        self._argv, self._path = [program], os.environ["PATH"]
        if name == "busybox":  # with all of its own programs, not those of the machine
            applets = folder / "applets"
            applets.mkdir()
            subprocess.run([program, "--install", "-s", str(applets)], check=True)
            self._argv, self._path = [str(applets / "sh")], str(applets)
        self.spoil = lambda told: told
        self.calls = 0

    def __call__(self, script: str, stdin: bytes) -> bytes:
        self.calls += 1
        ended = subprocess.run(
            [*self._argv, "-c", script],
            input=stdin,
            stdout=subprocess.PIPE,
            env={"PATH": self._path, "HOME": "/nowhere"},
            timeout=60,
            check=False,
        )
        return self.spoil(b"Welcome to the machine!\n" + ended.stdout)


class Rig:
    def __init__(self, shell: Shell, root: Path) -> None:
        self.shell, self.root = shell, root
        self.connect().prepare()

    def connect(self) -> ShellFiles:
        return ShellFiles(self.shell, site="there", root=str(self.root))


@pytest.fixture(params=["dash", "bash", "busybox"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Shell:
    return Shell(request.param, tmp_path)


@pytest.fixture
def rig(shell: Shell, tmp_path: Path) -> Rig:
    return Rig(shell, tmp_path / "a root")


@pytest.fixture
def site(rig: Rig) -> ShellFiles:
    site = rig.connect()
    site.write("runs/inside", b"inside")
    return site


@pytest.fixture
def runs(rig: Rig, site: ShellFiles) -> Path:
    return rig.root / "runs"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["secret"]
    assert (folder / "secret").read_bytes() == b"secret"


class TestShellFiles(FilesContract):
    """Bounds, paths and contents as everywhere."""


@pytest.mark.parametrize("absolute", [True, False])
def test_no_verb_follows_a_folder_link_out(site, runs, outside, absolute):
    os.symlink(outside if absolute else "../../outside", runs / "trap")
    assert [info.path for info in site.list("runs", recursive=True)] == ["runs/inside"]
    for ask in (
        lambda: site.read("runs/trap/secret"),
        lambda: site.read_many(["runs/trap/secret"]),
        lambda: site.digests(["runs/trap/secret"]),
        lambda: site.list("runs/trap"),
        lambda: site.write("runs/trap/new", b"x"),
        lambda: site.write("runs/trap/new/deeper", b"x"),
        lambda: site.remove(["runs/trap/secret"]),
    ):
        with pytest.raises(UnsafePath):
            ask()


def test_a_file_link_out_is_not_read_and_writing_replaces_the_link_itself(site, runs, outside):
    os.symlink(outside / "secret", runs / "trap")
    for ask in (lambda: site.read("runs/trap"), lambda: site.digests(["runs/trap"])):
        with pytest.raises(UnsafePath):
            ask()
    site.write("runs/trap", b"mine")
    assert site.read("runs/trap") == b"mine"


def test_writing_over_a_link_to_a_folder_does_not_move_into_it(site, runs, outside):
    os.symlink(outside, runs / "trap")
    site.write("runs/trap", b"mine")
    assert site.read("runs/trap") == b"mine"


def test_removing_a_link_leaves_what_it_points_to(site, runs, outside):
    os.symlink(outside / "secret", runs / "trap")
    site.remove(["runs/trap"])
    assert not (runs / "trap").is_symlink()


def test_a_link_that_stays_inside_is_read_and_listed(site, runs):
    site.write("runs/deep/result-3", b"three")
    os.symlink("result-3", runs / "deep" / "latest")
    os.symlink("deep", runs / "short")
    assert site.read("runs/deep/latest") == b"three"
    assert site.read("runs/short/latest") == b"three"
    assert {info.path: info.size for info in site.list("runs/deep")} == {"runs/deep/latest": 5, "runs/deep/result-3": 5}


def test_links_in_a_circle_and_pipes_are_not_there(site, runs):
    os.symlink("round", runs / "round")
    os.symlink("nowhere", runs / "lost")
    os.mkfifo(runs / "pipe")
    assert [info.path for info in site.list("runs", recursive=True)] == ["runs/inside"]
    assert site.digests(["runs/pipe"]) == {}
    for path in ("runs/round", "runs/lost", "runs/pipe"):
        with pytest.raises(NotThere):
            site.read(path)


def test_names_that_nobody_could_ask_for_are_left_out_of_listings(site, runs):
    for name in ("new\nline", "\n/9/9/./runs/false", "back\\slash", b"\xff\xfe", ".cf-scrap.tmp"):
        if "/" not in str(name):
            (Path(os.fsdecode(os.path.join(os.fsencode(runs), os.fsencode(name))))).touch()
    (runs / "x\nregular file").mkdir()
    assert [info.path for info in site.list("runs", recursive=True)] == ["runs/inside"]


def test_names_that_a_shell_would_read_as_more_than_text_are_names(site):
    for name in (
        "$(touch owned)",
        "`touch owned`",
        "a b  c ",
        " lead",
        "'quote\"",
        "-rf",
        "*",
        "?",
        "~",
        "#x",
        ";",
        "&",
    ):
        path = f"odd/{name}"
        site.write(path, name.encode())
        assert site.read(path) == name.encode()
        assert site.digests([path])[path][0] == len(name)
        assert [info.path for info in site.list("odd")] == [path]
        site.remove([path])
        assert not site.list("odd")


def test_modes_are_kept_and_folders_are_private(site, runs):
    site.write("runs/new/script", b"x", mode=0o750)
    assert (runs / "new" / "script").stat().st_mode & 0o777 == 0o750
    assert (runs / "new").stat().st_mode & 0o777 == 0o700


def test_the_sites_own_records_are_not_written_to(site):
    for path in ("jobs/cfkey", ".crossfade-site", "./jobs//x", "incoming/x/y"):
        with pytest.raises(UnsafePath):
            site.write(path, b"x")
        with pytest.raises(UnsafePath):
            site.remove([path])


def test_a_failed_write_leaves_no_scrap_and_a_folder_is_not_removed(site, rig, runs):
    (runs / "folder").mkdir()
    with pytest.raises(RequestRefused):
        site.write("runs/folder", b"x")
    with pytest.raises(RequestRefused):
        site.write("runs/inside/below", b"x")
    with pytest.raises(RequestRefused):
        site.remove(["runs/folder"])
    assert sorted(path.name for path in runs.iterdir()) == ["folder", "inside"]
    assert sorted(path.name for path in rig.root.iterdir()) == [".crossfade-site", "runs", "spool"]


def test_many_files_take_one_call(site, rig):
    before = rig.shell.calls
    site.write_many([SmallFile(path=f"many/{i}", content=os.urandom(500)) for i in range(40)])
    assert len(site.read_many([f"many/{i}" for i in range(40)])) == 40
    assert rig.shell.calls == before + 2


def test_a_root_that_is_away_or_another_is_unreachable_not_empty(site, rig):
    away = rig.root.with_name("away")
    rig.root.rename(away)
    rig.root.mkdir()  # an empty mount point
    for ask in (lambda: site.list("spool"), lambda: site.read_many(["runs/inside"]), lambda: site.write("runs/x", b"")):
        with pytest.raises(SiteUnreachable):
            ask()
    rig.connect().prepare()
    with pytest.raises(SiteUnreachable, match="another"):
        site.list("spool")


def test_preparing_again_answers_the_same_identity(rig):
    assert rig.connect().prepare() == rig.connect().prepare() != ""


def test_a_root_that_cannot_be_made_is_refused(shell, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RequestRefused, match="file"):
        ShellFiles(shell, site="there", root=str(tmp_path / "file" / "root")).prepare()


def test_a_reply_without_its_end_is_no_reply(site, rig):
    for keep in (0, 40, 90):
        rig.shell.spoil = lambda told, keep=keep: told[:keep]
        with pytest.raises(SiteUnreachable):
            site.read("runs/inside")


@pytest.mark.parametrize("spoil", [lambda told: told.replace(b"f 1 0 6", b"f 9 0 6"),
                                   lambda told: told.replace(b"f 1 0 6", b"f x y"),
                                   lambda told: told.replace(b"aW5z", b"<ht>"),
                                   lambda told: told.replace(b"\n.\n", b"\n")])  # fmt: skip
def test_a_reply_that_makes_no_sense_is_a_bad_one(site, rig, spoil):
    rig.shell.spoil = spoil
    with pytest.raises((BadReply, SiteUnreachable)):
        site.read("runs/inside")


def test_what_a_failed_step_says_becomes_the_error_that_it_is():
    assert isinstance(refusal("s", "p", "mv: cannot move: No space left on device"), QuotaError)
    assert isinstance(refusal("s", "p", "mkdir: Disk quota exceeded"), QuotaError)
    assert isinstance(refusal("s", "p", "cat: Stale file handle"), SiteUnreachable)
    assert isinstance(refusal("s", "p", "Permission denied"), RequestRefused)


@pytest.mark.parametrize("root", ["relative", "/", "", "//", "/a/../b", "/a\nb"])
def test_a_root_that_is_none_is_refused(root):
    with pytest.raises((RequestRefused, UnsafePath)):
        ShellFiles(lambda script, stdin: b"", site="there", root=root)


@pytest.mark.parametrize("verb", ["READ", "WRITE", "LIST", "DIGESTS", "REMOVE", "PREPARE"])
def test_the_scripts_are_clean(verb):
    text = shell_scripts.HEAD + getattr(shell_scripts, verb) + shell_scripts.TAIL
    checked = subprocess.run(
        [tool_kit.require_tool("shellcheck"), "--shell=sh", "--exclude=SC2034,SC2317,SC2329", "-"],
        input=text, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


MOMENTS = {
    "before its size is taken": ('size_of "$p" ||', 'rm -f -- "$p"; size_of "$p" ||'),
    "before it is read": ('tail -c "+$((offset + 1))"', 'rm -f -- "$p"; tail -c "+$((offset + 1))"'),
    "before it is hashed": ("digest=$($sum", 'rm -f -- "$p"; digest=$($sum'),
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_file_that_is_taken_away_meanwhile_is_not_there_and_no_failure(
    tmp_path: Path, shell: str, moment: str
) -> None:
    """Whoever looked before removes what was read; a second look must not take that for a site in trouble."""
    root, program = tmp_path / "root", tool_kit.require_tool(shell)
    before, after = MOMENTS[moment]

    def run(script: str, stdin: bytes) -> bytes:
        spoiled = script.replace(before, after)
        return subprocess.run([program, "-c", spoiled], input=stdin, capture_output=True, check=True).stdout

    files = ShellFiles(run, site="there", root=str(root))
    files.prepare()
    names = ["spool/a", "spool/b"]
    files.write_many([SmallFile(path=name, content=name.encode()) for name in names])
    look = files.digests if "hashed" in moment else files.read_many
    assert look(names) == {}
    assert not any((root / name).exists() for name in names)
