"""Runbooks, executed: a simulated installation is put into an incident's state under a virtual clock, and what a page
says to type is typed there, in the page's order, and held against what the page says one sees.

How a page is marked up is told in docs/runbooks/README.md.
"""

from __future__ import annotations

import os
import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import yaml
from click.testing import CliRunner

from broker.cli.app import app
from broker.clock import VirtualClock, micros, wall_clock
from broker.config import Settings, read_settings
from broker.drill.casting import twins
from broker.drill.document import Carrying
from broker.drill.ground import START, Ground
from broker.serve_lock import only_server
from broker.service import Service, open_service
from broker.serving import Connected
from broker.sites import Sites, load_sites
from broker.spec import compile_workflow, load_workflow, parse_document
from sandbox.connector import SimulatedSite
from sandbox.faults import Window, parse_fault
from sandbox.job import Execution

PAGES = Path(__file__).parents[1] / "docs" / "runbooks"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$|^<!-- (later|happens|incident): (.*?) -->$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"#.*\bexit code (\d+)")
SERVES = 30.0
"""Seconds for which whoever serves goes on after each command."""

SITES = """
crossfade: 1
sites:
  nersc: {profile: simulated, root: /nersc, poll: 15s, slots: 4, unreachable: {probes: 3, seconds: 30s}}
  alcf: {profile: simulated, root: /alcf, poll: 15s, slots: 4, unreachable: {probes: 3, seconds: 30s}}
"""
RECON = """
crossfade: 1
name: tomo-832
policy: {sites: {prefer: [nersc]}, failover: {after: 10m}}
stages:
  recon:
    run: ': sim seconds=7200 checkpoint_every=300 checkpoint_bytes=2000000 outputs=volume:10'
    outputs: [{path: volume}]
    checkpoint: {path: ., ship: always}
    resources: {walltime: 4h}
  picture:
    run: ': sim seconds=600 outputs=png:10'
    outputs: [{path: png}]
    inputs: [{name: volume, from: recon}]
"""


@dataclass(frozen=True)
class Step:
    """One thing that a page does, in its order."""

    kind: str
    """command, later, happens, incident, fence (one that nobody executes)."""
    text: str
    shown: tuple[str, ...] = ()
    """What is to be seen below a command."""
    code: int = 0


def steps(page: str) -> Iterator[Step]:
    """All steps of a page."""
    for found in FENCE.finditer(page):
        language, body, kind, text = found.groups()
        if kind:
            yield Step(kind, text.strip())
        elif language != "console":
            yield Step("fence", f"```{language}")
        else:
            yield from _commands(body)


def _commands(body: str) -> Iterator[Step]:
    blocks = re.split(r"^\$ ", textwrap.dedent(body), flags=re.MULTILINE)
    if blocks[0].strip():
        yield Step("fence", f"a console without a command: {blocks[0].strip()[:60]}")
    for block in blocks[1:]:
        command, *shown = block.rstrip("\n").split("\n")
        code = CODE.search(command)
        yield Step("command", command, tuple(line for line in shown if line.strip()), int(code[1]) if code else 0)


def unseen(shown: tuple[str, ...], output: str) -> str:
    """The first line of the page that is not in the output, in its order; empty: all are. `...` stands for anything,
    spaces count once."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    at = 0
    for line in shown:
        wanted = " ".join(line.split())
        if wanted == "...":
            continue
        pattern = ".*?".join(re.escape(part) for part in wanted.split("..."))
        found = next((i for i in range(at, len(lines)) if re.search(pattern, lines[i])), None)
        if found is None:
            return line
        at = found + 1
    return ""


class Rehearsal:
    """An installation in an incident's state; somebody serves it."""

    def __init__(
        self,
        home: Path,
        *,
        sites: str = SITES,
        clock: VirtualClock | None = None,
        before: Rehearsal | None = None,
    ) -> None:
        """`clock`: the installation lives in files of its home, under that clock. `before`: the one whose sites these
        are; nobody serves this one yet."""
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        (home / "sites.yaml").write_text(sites)
        os.environ["CROSSFADE_HOME"], os.environ["CROSSFADE_SITES"] = str(home), str(home / "sites.yaml")
        self.settings = read_settings(os.environ)
        self.sites = self._sites()
        self.clock = clock or VirtualClock(micros(START))
        self.filed, self.served = clock is not None, before is None
        self.ground = before.ground if before is not None else self._ground()
        self.words: dict[str, Callable[[], None]] = {}
        """What a page may let happen."""
        self.programs: dict[str, Callable[[list[str]], tuple[int, str]]] = {}
        """Stand-ins for programs that are not ours."""

    def _ground(self, standing: Mapping[str, SimulatedSite] | None = None) -> Ground:
        url = f"sqlite:///{self.settings.database}" if self.filed else "sqlite://"
        return Ground(twins(self.sites), Carrying(), seed=1, clock=self.clock, url=url, standing=standing)

    def serve(self) -> None:
        """Somebody serves from now on what is in the files of the home."""
        self.ground, self.served = self._ground(self.ground.sites), True

    def _sites(self) -> Sites:
        return load_sites(None, home=self.settings.home, cwd=self.home, env=os.environ)

    def submit(self, document: str = RECON, run_id: str = "260101-000000-t0m08320") -> str:
        workflow = load_workflow(parse_document(document, name="workflow"), base=None)
        made = compile_workflow(workflow, params={}, base=None, places=self.sites.places)
        return self.ground.submit(made, run_id=run_id)

    # -- what happens ----------------------------------------------------------------------------------------------

    def later(self, seconds: float) -> None:
        """Time goes on, and whoever serves with it."""
        end = self.clock() + micros(seconds)
        if not self.served:
            self.clock.advance_to(end)
            for site in self.ground.sites.values():
                site.model.advance(end)
            return
        self.ground.turn()
        while self.clock() < end:
            self.clock.advance_to(min(end, self.ground.next_moment()))
            self.ground.turn()

    def fault(self, site: str, kind: str, *, lasts: float | None = None, **words: Any) -> None:
        now = self.seconds()
        told = {"kind": kind, "start": now, **({"end": now + lasts} if lasts else {}), **words}
        self.ground.sites[site].model.inject(parse_fault(told, self.ground.start))

    def seconds(self) -> float:
        return (self.clock() - self.ground.start) / 1e6

    def silence_globus(self, lasts: float) -> None:
        now = self.clock()
        self.ground.carrier.silences.append(Window(start=now, end=now + micros(lasts)))

    def works(self) -> list[tuple[str, Execution]]:
        """(site, execution) of what really runs now."""
        return [
            (name, run)
            for name, site in self.ground.sites.items()
            for run in site.model.journal.executions
            if run.alive and run.began
        ]

    # -- what is typed ---------------------------------------------------------------------------------------------

    def type(self, line: str) -> tuple[int, str]:
        """Run a command as a person would; its exit code, and what it printed."""
        words = [os.path.expandvars(word) for word in shlex.split(line, comments=True)]
        if words[0] in self.programs:
            code, output = self.programs[words[0]](words[1:])
        elif words[0] in ("crossfade", "xf"):
            with self._ours():
                result = CliRunner().invoke(app, words[1:])
            code, output = result.exit_code, result.output
        else:
            raise AssertionError(f"nothing here stands for {words[0]!r}")
        self.later(SERVES)
        return code, output

    @contextmanager
    def _ours(self) -> Iterator[None]:
        """The command line over this installation: its store, its sites, and its time."""
        waiting = SimpleNamespace(monotonic=lambda: self.clock() / 1e6, sleep=self.later)
        with ExitStack() as stack:
            if self.served:
                stack.enter_context(only_server(self.settings))
            for name, stands in {
                "broker.service.open_service": self._opened,
                "broker.clock.wall_clock": self.clock,
                "broker.serving.connect": partial(_connected, self.ground),
                "broker.cli.change.time": waiting,
            }.items():
                stack.enter_context(patch(name, stands))
            yield

    def _opened(self, settings: Settings) -> Service:
        if self.filed:
            return open_service(settings, clock=self.clock)
        return Service(settings=settings, store=_Kept(self.ground.store), sites=self._sites(), clock=self.clock)


class _Kept:
    """The ground's store, which outlives the commands."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def close(self) -> None:
        pass


def _connected(ground: Ground, settings: Any, sites: Sites, store: Any, **_: Any) -> Connected:
    names = list(sites.configs)
    return Connected(
        configs={name: ground.configs[name] for name in names},
        sites={name: ground.sites[name] for name in names},
        mover=ground.desk,
        places=ground.places,
        place_files={},
    )


# -- the incidents -------------------------------------------------------------------------------------------------

Incident = Callable[[Path], Rehearsal]
INCIDENTS: dict[str, Incident] = {}


def incident(make: Incident) -> Incident:
    INCIDENTS[make.__name__.replace("_", "-")] = make
    return make


def _at_work(home: Path, *, document: str = RECON, sites: str = SITES, hours: float = 1.0) -> Rehearsal:
    """The reconstruction has worked at nersc for a while."""
    made = Rehearsal(home, sites=sites)
    made.submit(document)
    made.later(hours * 3600)
    assert [site for site, _ in made.works()] == ["nersc"]
    return made


@incident
def all_is_well(home: Path) -> Rehearsal:
    return _at_work(home)


@incident
def site_is_down(home: Path) -> Rehearsal:
    made = _at_work(home)
    made.fault("nersc", "partition", lasts=7200)
    made.later(120)
    return made


@incident
def site_is_back(home: Path) -> Rehearsal:
    made = _at_work(home)
    made.fault("nersc", "partition", lasts=1500)
    made.later(1200)
    made.words["the site answers"] = lambda: made.later(420)
    return made


@incident
def globus_is_down(home: Path) -> Rehearsal:
    document = yaml.safe_load(RECON)
    document["stages"]["picture"]["policy"] = {"sites": {"allow": ["alcf"]}}
    made = _at_work(home, document=yaml.dump(document).replace("outputs=volume:10", "outputs=volume:50000000"))
    made.later(3300)
    made.silence_globus(3600)
    made.later(900)
    made.words["globus answers"] = lambda: made.later(3600)
    return made


@incident
def credentials_expired(home: Path) -> Rehearsal:
    made = _at_work(home)
    made.fault("nersc", "credential_expired", lasts=1800)
    made.later(300)
    made.words["the credential is renewed"] = lambda: made.later(1700)
    return made


@incident
def all_sites_dark(home: Path) -> Rehearsal:
    made = _at_work(home)
    for site in ("nersc", "alcf"):
        made.fault(site, "partition", lasts=3600)
    made.later(900)
    made.words["the network is back"] = lambda: made.later(2800)
    return made


@incident
def site_is_full(home: Path) -> Rehearsal:
    made = Rehearsal(
        home,
        sites=SITES.replace(
            "slots: 4, unreachable", "slots: 4, nodes: 1, cores: 1, options: {count_cores: true}, unreachable", 1
        ),
    )
    made.submit(RECON.replace("tomo-832", "big-sweep"), run_id="260101-000000-b1g5weep")
    made.later(600)
    made.submit(run_id="260101-001000-t0m08320")
    made.later(1800)
    return made


@incident
def run_is_late(home: Path) -> Rehearsal:
    """It has waited too long in a queue for what is left of its four hours."""
    one_core = "slots: 4, nodes: 1, cores: 1, options: {count_cores: true}, unreachable"
    made = Rehearsal(home, sites=SITES.replace("slots: 4, unreachable", one_core, 1))
    made.submit(RECON.replace("tomo-832", "big-sweep"), run_id="260101-000000-b1g5weep")
    made.later(60)
    late = RECON.replace("policy: {", "policy: {deadline: 4h, ").replace("walltime: 4h", "walltime: 150m")
    made.submit(late, run_id="260101-000100-t0m08320")
    made.later(6000)
    return made


@incident
def host_is_lost(home: Path) -> Rehearsal:
    """A backup was made, twenty minutes later the machine was gone, and a new one is there. A restore goes by the
    machine's own time, so the story ends now."""
    old = Rehearsal(home / "old", clock=VirtualClock(wall_clock() - micros(4800)))
    old.submit()
    old.later(3600)
    code, told = old.type(f"crossfade db backup {home / 'backup.db'}")
    assert code == 0, told
    old.later(1200)
    os.environ["BACKUP"] = str(home / "backup.db")
    old.ground.close()
    new = Rehearsal(home / "new", clock=old.clock, before=old)
    new.words["somebody serves"] = new.serve
    return new


@incident
def database_is_damaged(home: Path) -> Rehearsal:
    """Bytes in the middle of the database's file are not what was written; who served has ended of it."""
    made = Rehearsal(home, clock=VirtualClock(wall_clock() - micros(4800)))
    made.submit()
    made.later(3600)
    code, told = made.type(f"crossfade db backup {home / 'backup.db'}")
    assert code == 0, told
    made.later(1200)
    os.environ["BACKUP"] = str(home / "backup.db")
    made.ground.close()
    made.served = False
    for beside in home.glob("crossfade.db-*"):
        beside.unlink()
    with made.settings.database.open("r+b") as file:
        file.write(b"\0" * 8192)
    made.words["somebody serves"] = made.serve
    return made


def fill(page: str, home: Path) -> str:
    """The page with what is really seen below each command: for who writes one."""
    (name,) = [step.text for step in steps(page) if step.kind == "incident"]
    made = INCIDENTS[name](home)

    def filled(found: re.Match[str]) -> str:
        language, body, kind, text = found.groups()
        if kind == "later":
            made.later(_duration(text))
        elif kind == "happens":
            made.words[text]()
        elif language == "console":
            out = []
            for step in _commands(body):
                code, output = made.type(step.text)
                note = f"   # exit code {code}" if code and not step.code else ""
                out.append(f"$ {step.text}{note}\n{output.rstrip()}")
            return "```console\n" + "\n".join(out) + "\n```"
        return found[0]

    return FENCE.sub(filled, page)


def _duration(text: str) -> float:
    from broker.spec.quantities import duration

    return float(duration(text))


def execute(page: str, made: Rehearsal) -> list[str]:
    """Do what the page says; everything that is not as it says."""
    found = []
    for step in steps(page):
        if step.kind == "later":
            made.later(_duration(step.text))
        elif step.kind == "happens":
            made.words[step.text]()
        elif step.kind == "fence":
            found.append(f"nobody executes {step.text}")
        elif step.kind == "command":
            code, output = made.type(step.text)
            if code != step.code:
                found.append(f"$ {step.text}: exit code {code}\n{output}")
            elif missing := unseen(step.shown, output):
                found.append(f"$ {step.text}: does not show {missing!r}, but\n{output}")
    return found


def page_of(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")
