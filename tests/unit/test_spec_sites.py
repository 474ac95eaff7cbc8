"""The site document: found, merged with profiles, and written without harm."""

import os
from pathlib import Path

import pytest

from broker.sitefile import add_site
from broker.sites import load_sites, sites_of
from broker.spec import DocumentError, parse_document, read_document, sites_schema
from broker.spec.profiles import profile, profile_names
from connectors.model import LaneLimits, Tariff
from connectors.registry import SiteConfig

EXAMPLES = Path(__file__).parents[3] / "shared" / "design" / "examples"


def sites(text: str, base: Path = Path("/doc")):
    return sites_of(parse_document("crossfade: 1\n" + text, name="sites.yaml"), base=base, where="").configs


def refusal(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        sites(text)
    return str(caught.value)


def test_without_a_document_this_machine_is_the_only_site_with_a_slot_per_core(tmp_path):
    found = load_sites(None, home=tmp_path / "home", cwd=tmp_path, env={"HOME": str(tmp_path)})
    (config,) = found.configs.values()
    assert (config.name, config.connector, config.profile) == ("local", "local", "local")
    assert config.slots == config.cores == len(os.sched_getaffinity(0))
    assert config.root == str(tmp_path / "home" / "sites" / "local")
    assert found.path is None
    assert "this machine is the only site" in found.where


def test_the_document_is_searched_in_a_told_order(tmp_path):
    def write(path: Path, name: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"crossfade: 1\nsites: {{{name}: {{profile: local, root: r}}}}\n")
        return path

    env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    user = write(tmp_path / "config" / "crossfade" / "sites.yaml", "user")
    here = tmp_path / "here"

    def found(path: Path | None = None):
        return load_sites(path, home=tmp_path, cwd=here, env=env)

    assert list(found().configs) == ["user"]
    assert found().where == str(user)
    write(here / "sites.yaml", "cwd")
    assert list(found().configs) == ["cwd"]
    env["CROSSFADE_SITES"] = str(write(tmp_path / "env.yaml", "env"))
    assert list(found().configs) == ["env"]
    assert "CROSSFADE_SITES" in found().where
    assert list(found(write(tmp_path / "x" / "given.yaml", "given")).configs) == ["given"]
    env["CROSSFADE_SITES"] = str(tmp_path / "gone.yaml")
    with pytest.raises(DocumentError, match="cannot be read"):
        found()


def test_an_entry_overrides_its_profile_and_leaves_the_rest():
    config = sites(
        "sites:\n  big:\n    profile: simulated\n    facility: lab\n    root: sub/r\n    slots: 9\n    memory: 64GB\n"
        "    unreachable: {probes: 2}\n    limits: {queued: 4, submits_per_minute: 20}\n    vars: {env: /opt/e}\n"
        "    launcher: srun\n    options: {seed: 3}\n    poll: 250ms\n    losses: {every: 7d}\n"
    )["big"]
    assert (config.connector, config.facility, config.root) == ("simulated", "lab", "/doc/sub/r")
    assert (config.slots, config.cores, config.memory) == (4, 64, 64_000_000_000)
    assert (config.unreachable_probes, config.unreachable_seconds) == (2, 60)
    assert (config.losses_every, SiteConfig(name="x", connector="local").losses_every) == (7 * 86_400, 30 * 86_400)
    assert (config.submits_per_minute, config.poll, config.launcher) == (20, 0.25, "srun")
    assert (config.vars, config.options) == ({"env": "/opt/e"}, {"seed": 3})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sites: {x: {profile: zebra, root: /r}}\n", "profiles there are: alcf/aurora, alcf/crux, alcf/polaris"),
        ("sites: {x: {profile: nersc/perlmuter, root: /r}}\n", "did you mean `nersc/perlmutter`?"),
        ("sites: {x: {profile: nersc-perlmutter, root: /r}}\n", "did you mean `nersc/perlmutter`?"),
        ("sites: {x: {profile: slurm/ssh, root: scratch}}\n", "'scratch' is no folder of that machine"),
        ("sites: {x: {profile: slurm/ssh, root: ~/scratch}}\n", "'~/scratch' is no folder of that machine"),
        ("sites: {x: {profile: locl, root: /r}}\n", "did you mean `local`?"),
        ("sites: {x: {profile: ../../etc, root: /r}}\n", "2:13 sites.x.profile: '../../etc' cannot be"),
        ("sites: {x: {profile: local}}\n", "sites.x.root: is missing"),
        ("sites: {x: {root: /r}}\n", "sites.x.profile: is missing"),
        ("sites: {x: {profile: local, root: /r, slts: 3}}\n", "did you mean `slots`?"),
        ("sites: {'x y': {profile: local, root: /r}}\n", "'x y' cannot be a name"),
        ("sites: {x: {profile: local, root: /r, heartbeat: 30s}}\n", "must be at least twice the heartbeat"),
        ("sites: {}\n", "sites"),
    ],
)
def test_a_wrong_entry_is_told_with_its_place_and_a_cure(text, words):
    assert words in refusal(text)


def test_every_shipped_profile_is_sound():
    assert {"local", "simulated"} <= set(profile_names())
    for name in profile_names():
        assert profile(name).connector


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the users' documents are not beside this repository")
def test_the_users_site_document_loads_as_it_was_written_and_all_of_it_is_used():
    found = load_sites(EXAMPLES / "sites.yaml", home=Path(), cwd=Path(), env={})
    assert found.unused == []
    nersc = found.configs["nersc"]
    assert (nersc.clearance, nersc.keep_attempts, nersc.keep_failed) == ({"export_control"}, 3 * 86400, 14 * 86400)
    assert [name for name, place in found.places.items() if place.prune] == ["spot832", "data832"]
    assert (nersc.account, nersc.umask, nersc.slots, nersc.submits_per_minute) == ("als", "002", 50, 20)
    assert nersc.collection == "df82346e-0000-4000-8000-000000000003"
    assert nersc.credentials["client_id"] == "env:NERSC_CLIENT_ID"
    assert nersc.credentials["key"] == f"file:{Path('~/.superfacility/key.pem').expanduser()}"
    assert nersc.tariff == Tariff()
    assert found.configs["cloud"].tariff == Tariff(unit="usd", factor=2.4)
    assert nersc.lanes["preemptible"] == {"qos": "preempt"}
    assert nersc.lane_limits["preemptible"] == LaneLimits(charge=0.5, min_walltime=7200)
    assert found.configs["cloud"].root == "s3://gyro-bucket/crossfade"


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the users' documents are not beside this repository")
def test_the_users_site_document_fits_the_published_schema():
    from jsonschema import Draft202012Validator

    schema = sites_schema()
    Draft202012Validator.check_schema(schema)
    raw = read_document(EXAMPLES / "sites.yaml")
    assert [error.message for error in Draft202012Validator(schema).iter_errors(dict(raw.data))] == []


# -- what machines are told ----------------------------------------------------------------------------------


def entry(lines: str, profile: str = "alcf/polaris"):
    indented = "".join(f"    {line}\n" for line in lines.splitlines())
    return sites(f"sites:\n  x:\n    profile: {profile}\n    root: /r\n{indented}")["x"]


def test_a_credential_is_a_reference_and_one_that_is_none_is_not_shown():
    words = refusal("sites: {x: {profile: local, root: /r, credentials: {token: hunter2-and-more}}}\n")
    assert "sites.x.credentials.token: a credential is given by reference, never as itself" in words
    assert "write file:PATH" in words
    assert "hunter2" not in words
    assert entry("credentials: {token: 'file:key', id: 'env:ID'}").credentials == {
        "token": "file:/doc/key",
        "id": "env:ID",
    }


def test_a_lane_keeps_its_limits_unless_it_goes_by_other_words():
    normal = entry("").lane_limits["normal"]
    assert (normal.min_nodes, normal.max_nodes, normal.longest(10), normal.longest(100)) == (10, 496, 10_800, 86_400)
    assert entry("lanes: {normal: {queue: prod}}").lane_limits["normal"] == normal
    assert entry("lanes: {normal: {queue: prod, min_nodes: 12}}").lane_limits["normal"].min_nodes == 12
    own = entry("lanes: {normal: {queue: capacity, max_walltime: 7d}}")
    assert own.lanes["normal"] == {"queue": "capacity"}
    assert own.lane_limits["normal"] == LaneLimits(max_walltime=604_800)
    assert own.lanes["urgent"] == {"queue": "demand"}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("lanes: {fast: {}}", "'fast' is none of urgent, normal, preemptible"),
        ("lanes: {urgent: {qos: 'a; b'}}", "cannot be told to a scheduler"),
        ('lanes: {urgent: {"a b": x}}', "'a b' cannot be a variable's name"),
        ("lanes: {urgent: {min_waltime: 2h}}", "did you mean `min_walltime`?"),
        ("umask: '9'", "write three or four octal digits"),
        ("account: 'a; b'", "cannot be told to a scheduler"),
        ("launcher: srun -n {rank}", "{rank} stands for nothing here; did you mean `ranks`?"),
        ("container: run {img}", "{img} stands for nothing here"),
        ("submit: {select: '{node}'}", "{node} stands for nothing here; did you mean `nodes`?"),
        ("submit: {select: '{nodes};id'}", "cannot be told to a scheduler"),
        ("claim: hope", "'hope' is none of atomic_fs"),
    ],
)
def test_what_a_scheduler_would_misread_is_refused(lines, words):
    assert words in refusal(f"sites:\n  x:\n    profile: local\n    root: /r\n    {lines}\n")


def test_the_published_schema_tells_which_keys_are_not_used_yet():
    assert sites_schema()["x-not-used"] == []


def test_an_entry_of_known_keys_is_written_out_as_it_was_read():
    lane = "{qos: rt, charge: 2, walltimes: [{nodes: 4, max: 2h}]}"
    text = f"sites: {{x: {{profile: local, root: /r, lanes: {{urgent: {lane}}}}}}}"
    document = sites_of(parse_document("crossfade: 1\n" + text, name="s"), base=Path("/doc"), where="").document
    assert document.written()["sites"]["x"]["lanes"] == {
        "urgent": {"qos": "rt", "charge": 2, "walltimes": [{"nodes": 4, "max": 7200}]}
    }


# -- writing -----------------------------------------------------------------------------------------------


def test_a_site_is_added_and_nothing_else_is_touched(tmp_path):
    path = tmp_path / "sites.yaml"
    path.write_text(
        "# mine\ncrossfade: 1\nsites:\n    a:   # the first\n        profile: local\n        root: ./a\n\n# the end\n"
    )
    path.chmod(0o640)
    add_site(path, "b-2", {"profile": "simulated", "root": "x y", "slots": 3, "vars": {"v": "no"}})
    assert path.read_text() == (
        "# mine\ncrossfade: 1\nsites:\n    a:   # the first\n        profile: local\n        root: ./a\n"
        '    b-2:\n      profile: simulated\n      root: "x y"\n      slots: 3\n      vars: {"v": "no"}\n\n# the end\n'
    )
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(load_sites(path, home=tmp_path, cwd=tmp_path, env={}).configs) == ["a", "b-2"]


def test_the_first_site_makes_the_document(tmp_path):
    path = tmp_path / "new" / "sites.yaml"
    add_site(path, "a", {"profile": "local", "root": "/r"})
    add_site(path, "on", {"profile": "local", "root": "/r"})
    assert list(load_sites(path, home=tmp_path, cwd=tmp_path, env={}).configs) == ["a", "on"]


@pytest.mark.parametrize(
    ("before", "name", "entry"),
    [
        ("crossfade: 1\nsites:\n  a: {profile: local, root: /r}\n", "a", {"profile": "local", "root": "/r"}),
        ("crossfade: 1\nsites:\n  a: {profile: local, root: /r}\n", "b", {"profile": "none", "root": "/r"}),
        ("crossfade: 1\nsites:\n  a: {profile: local, root: /r}\n", "b c", {"profile": "local", "root": "/r"}),
        ("crossfade: 1\nsites: {a: {profile: local, root: /r}}\n", "b", {"profile": "local", "root": "/r"}),
        (
            '{"crossfade": 1, "sites": {"a": {"profile": "local", "root": "/r"}}}\n',
            "b",
            {"profile": "local", "root": "/r"},
        ),
        ("crossfade: 1\n", "b", {"profile": "local", "root": "/r"}),
        ("not yaml: [\n", "b", {"profile": "local", "root": "/r"}),
    ],
)
def test_what_cannot_be_added_leaves_the_document_as_it_was(tmp_path, before, name, entry):
    path = tmp_path / "sites.yaml"
    path.write_text(before)
    with pytest.raises(DocumentError):
        add_site(path, name, entry)
    assert path.read_text() == before
    assert os.listdir(tmp_path) == ["sites.yaml"]
