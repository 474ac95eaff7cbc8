"""One simulated world behind a socket: several processes see it, none hangs on it, strangers do not get in."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_kit import START, job, key_of

from broker.clock import VirtualClock
from connectors.errors import BadReply, RequestRefused, SiteBusy, SiteUnreachable
from connectors.model import Accepted, LaneLimits
from connectors.notes import MemoryNotes
from connectors.registry import MoverSetup, SiteConfig, make_movers, make_site
from sandbox import shared, wire
from sandbox.host import Events, Refusal, WorldHost, main
from sandbox.shared import SharedMover, SharedSite


@pytest.fixture
def door() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cf-") as short:  # as a socket's path must be
        yield Path(short) / "door" / "world"


@pytest.fixture
def host(door: Path) -> Iterator[WorldHost]:
    with WorldHost(door, clock=VirtualClock()) as host:
        yield host


@pytest.fixture
def site(door: Path) -> Iterator[SharedSite]:
    site = SharedSite(config(door), VirtualClock())
    yield site
    site.close()


def config(door: Path, name: str = "sim", slots: int = 4, **options: object) -> SiteConfig:
    return SiteConfig(name=name, connector="simulated", slots=slots, options={"world": str(door), **options})


def test_the_site_document_makes_shared_sites_and_a_mover_between_them(door: Path, tmp_path: Path) -> None:
    clock = VirtualClock()
    configs = {name: config(door, name) for name in ("east", "west")}
    sites = {name: make_site(one, clock) for name, one in configs.items()}
    setup = MoverSetup(sites=sites, configs=configs, blobs=tmp_path / "blobs", clock=clock, notes=MemoryNotes())
    (mover,) = make_movers(setup).values()
    assert isinstance(sites["east"], SharedSite)
    assert isinstance(mover, SharedMover)


def test_a_job_that_one_client_submits_is_found_by_another(host: WorldHost, door: Path, site: SharedSite) -> None:
    other = SharedSite(config(door), VirtualClock())
    answer = site.submit([job(1, "seconds=600")])[key_of(1)]
    assert isinstance(answer, Accepted)
    assert [item.native_id for item in other.find([key_of(1)]).items] == [answer.native_id]
    other.close()


def test_many_threads_at_once_get_each_their_own_answer(host: WorldHost, site: SharedSite) -> None:
    site.submit([job(number, "seconds=600") for number in range(40)])
    wrong: list[str] = []

    def ask(number: int) -> None:
        for _ in range(30):
            wrong.extend(item.key for item in site.find([key_of(number)]).items if item.key != key_of(number))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_errors_arrive_as_they_were_raised(door: Path) -> None:
    busy = {"kind": "busy", "start": 0, "retry_after": 7.0}
    with WorldHost(door, clock=VirtualClock()):
        site = SharedSite(config(door, faults=[busy]), VirtualClock())
        with pytest.raises(SiteBusy) as caught:
            site.submit([job(1)])
        site.close()
    assert caught.value.retry_after == 7.0
    assert caught.value.site == "sim"


def test_without_a_host_the_site_is_unreachable_and_its_probe_says_so(site: SharedSite) -> None:
    with pytest.raises(SiteUnreachable):
        site.status([])
    assert [item.ok for item in site.probe()] == [False] * 4


def test_a_host_that_was_started_again_is_found_again_and_has_lost_everything(door: Path, site: SharedSite) -> None:
    with WorldHost(door, clock=VirtualClock()):
        site.submit([job(1, "seconds=600")])
    with pytest.raises(SiteUnreachable):
        site.status([key_of(1)])
    with WorldHost(door, clock=VirtualClock()):
        listing = site.status([key_of(1)])
    assert listing.complete
    assert not listing.items


def test_a_host_that_does_not_answer_is_given_up(door: Path, site: SharedSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "CONNECT_TIMEOUT", 0.05)
    door.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(door))
        silent.listen()
        with pytest.raises(SiteUnreachable, match="TimeoutError"):
            site.status([])


def test_a_site_of_another_shape_is_refused(host: WorldHost, door: Path, site: SharedSite) -> None:
    site.status([])
    other = SharedSite(config(door, slots=5), VirtualClock())
    with pytest.raises(RequestRefused, match="another site sim"):
        other.status([])


def test_one_world_serves_one_installation(host: WorldHost, door: Path, site: SharedSite, tmp_path: Path) -> None:
    movers = [SharedMover([site], tmp_path / name) for name in ("a", "b")]
    movers[0].status([])
    with pytest.raises(RequestRefused, match="another installation"):
        movers[1].status([])
    movers[0].close()


def test_sites_of_two_worlds_share_no_files(door: Path, tmp_path: Path) -> None:
    sites = [SharedSite(config(door / name, name), VirtualClock()) for name in ("a", "b")]
    with pytest.raises(ValueError, match="the same `world:`"):
        SharedMover(sites, tmp_path)


@pytest.mark.parametrize("world", ["relative/path", "/" + "x" * 100, 7])
def test_a_world_that_cannot_be_is_told(world: object) -> None:
    with pytest.raises(ValueError, match="world must be an absolute path"):
        make_site(SiteConfig(name="sim", connector="simulated", options={"world": world}), VirtualClock())


def test_only_its_user_may_open_the_door(host: WorldHost, door: Path) -> None:
    assert door.stat().st_mode & 0o777 == 0o600
    assert door.parent.stat().st_mode & 0o777 == 0o700


def test_a_host_refuses_a_folder_that_others_may_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(Refusal, match="yours alone"):
        WorldHost(tmp_path / "world", clock=VirtualClock())


def test_a_second_host_is_refused(host: WorldHost, door: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Refusal, match="has a host already"):
        WorldHost(door, clock=VirtualClock())


def test_a_process_of_another_user_is_hung_up_on(
    host: WorldHost, site: SharedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(BadReply, match="not 12345"):
        site.status([])


def test_a_frame_calls_nothing_but_the_nouns_of_a_site() -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.getpid, ()

    with pytest.raises(wire.Foreign, match="getpid"):
        wire.unpacked(pickle.dumps(Evil()))


@pytest.mark.parametrize("body", [b"", b"\x80", b"not a pickle", pickle.dumps([1])[:-1]])
def test_a_frame_that_is_none_is_foreign(body: bytes) -> None:
    with pytest.raises(wire.Foreign):
        wire.unpacked(body)


def test_the_host_goes_on_after_strange_frames(host: WorldHost, door: Path, site: SharedSite) -> None:
    for frame in (b"\xff" * 8, wire.packed(("site", 1)), wire.packed(7), b"\0\0\0\x02hm", b"\0"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(door))
            stranger.sendall(frame)
            stranger.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while stranger.recv(1024):
                    pass
    assert site.status([]).complete


def test_what_is_too_large_for_one_call_is_refused(
    host: WorldHost, site: SharedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME", 1000)
    with pytest.raises(RequestRefused, match="too many for one call"):
        site.write("big", bytes(2000))


def test_a_host_of_its_own_process_notes_each_execution(door: Path, tmp_path: Path, site: SharedSite) -> None:
    events = tmp_path / "events"
    command = [sys.executable, "-m", "sandbox.host", str(door), "--events", str(events)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().decode().strip() == str(door)
        site.submit([job(1), job(2)])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()
    assert len(events.read_text().splitlines()) == 2


def test_an_event_names_stage_attempt_site_time_and_run(tmp_path: Path) -> None:
    events = Events(tmp_path / "events")
    for comment in ("crossfade cfk r7/s12@3 me@here", "crossfade cfk r7/prepare@1"):
        spec = job(1)
        object.__setattr__(spec, "comment", comment)
        events("east", spec, START)
    events.close()
    at = f"{START / 1e6:.6f}"
    assert (tmp_path / "events").read_text() == f"12 3 east {at} r7\nprepare 1 east {at} r7\n"


def test_the_program_says_why_it_cannot_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o755)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        assert main([str(tmp_path / "world")]) == 1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert "yours alone" in capsys.readouterr().err


def test_a_site_with_all_that_a_profile_can_say_reaches_its_host_whole() -> None:
    """What `SiteConfig` holds goes to the world's host; at a noun that it does not know it hangs up on every worker."""
    lanes = {"normal": {"qos": "regular"}}
    config = SiteConfig(
        name="east",
        connector="simulated",
        lanes=lanes,
        lane_limits={"normal": LaneLimits(max_walltime=60.0)},
        capabilities=frozenset({"signal"}),
        credentials={"token": "env:X"},
    )
    assert wire.unpacked(wire.packed(config)[4:]) == config
