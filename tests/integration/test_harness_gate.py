"""The start gate, raced by real processes, and the wrapper killed at every command."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import pytest
from harness_kit import Site, alive, argv, in_every_shell, kill, plan, present_shells, until

from connectors.harness import GATED, SUPERSEDED, CheckpointRecord, ExitRecord, HarnessCheckpoint, StartRecord


def claim_as_stranger(site: Site, *, seconds_ago: float, native: str = "other") -> None:
    when = int(time.time() - seconds_ago)
    (site.cwd / ".crossfade/claim").symlink_to(f"{native}.0.elsewhere.boot.{when}-abc")


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_of_many_starters_at_once_exactly_one_runs_the_payload(tmp_path, rounds):
    for number in range(rounds):
        site = Site(tmp_path / str(number)).put(plan("echo ran >>ran; sleep 0.2"))
        starters = _start_many(site, 12)
        codes = sorted(process.wait() for process in starters)
        assert codes == [0] + [GATED] * 11
        assert (site.cwd / "ran").read_text() == "ran\n"
        assert site.exit().kind == "done"
        assert len(site.of(StartRecord)) == 1


def _start_many(site: Site, count: int) -> list[subprocess.Popen[bytes]]:
    shells = islice(cycle(present_shells()), count)
    return [
        subprocess.Popen([*argv(shell), ".crossfade/stage.sh"], cwd=site.cwd, stderr=subprocess.DEVNULL)
        for shell in shells
    ]


def test_of_many_successors_at_once_exactly_one_opens_the_next_generation(tmp_path):
    site = Site(tmp_path).put(plan("echo ran >>ran"))
    claim_as_stranger(site, seconds_ago=60)
    codes = sorted(process.wait() for process in _start_many(site, 9))
    assert codes == [0] + [GATED] * 8
    assert (site.cwd / "ran").read_text() == "ran\n"
    assert site.exit().generation == 2


def test_an_attempt_that_has_ended_is_never_started_again(tmp_path):
    def story(site: Site) -> None:
        assert site.run(plan("echo ran >>ran; exit 5")) == 5
        before = sorted(path.name for path in site.cwd.rglob("*"))
        assert site.run() == GATED
        assert "already ended" in site.said
        assert sorted(path.name for path in site.cwd.rglob("*")) == before
        assert site.exit().exit_code == 5

    in_every_shell(tmp_path, story)


def test_a_stranger_is_sent_away_at_once_while_the_owner_shows_life(tmp_path):
    def story(site: Site) -> None:
        site.put(plan("sleep 2.5"))
        owner = site.start()
        until(lambda: site.of(StartRecord))
        began = time.monotonic()
        assert site.run() == GATED
        assert time.monotonic() - began < 2
        assert owner.wait() == 0
        owner.communicate()
        assert len(site.of(StartRecord)) == 1

    in_every_shell(tmp_path, story)


def test_a_requeue_of_the_same_job_waits_until_its_predecessor_is_surely_gone(tmp_path):
    def story(site: Site) -> None:
        site.put(plan("echo $CROSSFADE_GENERATION; sleep 0.2", native_id_var="JOB", restart_var="AGAIN"))
        owner = site.start(JOB="4711[3].pbs", AGAIN="0")
        until(lambda: site.of(StartRecord))
        kill(owner)
        assert site.run(JOB="4711[3].pbs", AGAIN="1") == 0
        assert site.log(generation=2) == "2\n"
        assert [record.generation for record in site.of(ExitRecord)] == [2]
        first, second = site.of(StartRecord)
        assert (first.generation, second.generation) == (1, 2)
        assert second.started_at - first.started_at > 2e6
        assert second.native_id == "4711_3__pbs"

    in_every_shell(tmp_path, story)


def test_a_scheduler_that_runs_one_job_twice_gets_one_execution(tmp_path):
    def story(site: Site) -> None:
        site.put(plan("echo ran >>ran; sleep 3", native_id_var="JOB"))
        owner = site.start(JOB="77")
        until(lambda: site.of(StartRecord))
        assert site.run(JOB="77") == GATED
        assert owner.wait() == 0
        owner.communicate()
        assert (site.cwd / "ran").read_text() == "ran\n"

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize("duplicates", ["never", "ask"])
def test_where_copies_may_not_overlap_only_a_person_starts_a_second_generation(tmp_path, duplicates):
    def story(site: Site) -> None:
        site.put(plan("touch ran", duplicates=duplicates))
        claim_as_stranger(site, seconds_ago=9999)
        assert site.run() == GATED
        assert not (site.cwd / "ran").exists()

    in_every_shell(tmp_path, story)


def test_a_claim_that_cannot_be_dated_shuts_nobody_out_for_ever(tmp_path):
    def story(site: Site) -> None:
        waiting = []
        for target in ("other.0.h.b.", "nonsense", "other.0.h.b.99999999999-abc"):
            one = Site(site.root / target, site.shell).put(plan("true"))
            (one.cwd / ".crossfade/claim").symlink_to(target)
            (one.cwd / ".crossfade/g1").mkdir()
            (one.cwd / ".crossfade/g1/heartbeat").touch()
            waiting.append((one, one.start()))
        for one, process in waiting:
            process.communicate()
            assert process.returncode == 0
            assert one.exit().generation == 2

    in_every_shell(tmp_path, story)


def test_an_older_generation_gives_way_and_commits_nothing_more(tmp_path):
    def story(site: Site) -> None:
        command = """trap '' TERM; echo f >f; echo ready; until [ -L .crossfade/claim.2 ]; do sleep 0.02; done
            crossfade-checkpoint f || echo $?; sleep 30"""
        site.put(plan(command))
        process = site.start()
        until(lambda: site.of(StartRecord) and "ready" in site.log())
        (site.cwd / ".crossfade/claim.2").symlink_to("newer.0.h.b.n")
        assert process.wait() == SUPERSEDED
        process.communicate()
        assert site.log() == "ready\n74\n"
        assert (site.of(ExitRecord), site.of(CheckpointRecord)) == ([], [])
        assert not alive(int((site.cwd / ".crossfade/g1/payload").read_text().split()[0]))

    in_every_shell(tmp_path, story)


def test_a_killed_wrapper_takes_its_payload_with_it_before_the_fence_time(tmp_path):
    def story(site: Site) -> None:
        site.put(plan("sleep 60 & echo $!; wait"))
        process = site.start()
        until(lambda: (site.cwd / ".crossfade/g1/stdout").exists() and site.log().strip())
        kill(process)
        pid = int((site.cwd / ".crossfade/g1/payload").read_text().split()[0])
        until(lambda: not alive(pid) and not alive(int(site.log())), seconds=2)

    in_every_shell(tmp_path, story)


def test_a_payload_left_behind_by_everybody_is_ended_by_the_next_generation(tmp_path):
    def story(site: Site) -> None:
        site.put(plan('[ "$CROSSFADE_GENERATION" = 2 ] || exec sleep 60'))
        process = site.start()
        until(lambda: site.of(StartRecord) and (site.cwd / ".crossfade/g1/payload").exists())
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pid = int((site.cwd / ".crossfade/g1/payload").read_text().split()[0])
        assert alive(pid)
        time.sleep(3.1)
        assert site.run() == 0
        assert not alive(pid)

    in_every_shell(tmp_path, story)


def test_a_requeued_generation_goes_on_from_the_newest_checkpoint_that_verifies(tmp_path):
    def story(site: Site) -> None:
        first = "for i in 0 1 2; do echo $i >state; crossfade-checkpoint --seq $i state; done; sleep 60"
        task = plan(first, restart='cat state; echo "$CROSSFADE_RESTORE_SEQ"; crossfade-checkpoint state',
                    checkpoint=HarnessCheckpoint(restore_style="in_place", keep=3))  # fmt: skip
        process = site.put(task).start()
        until(lambda: len(site.checkpoints()) == 3)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        (site.cwd / ".crossfade/g1/ckpt/000002/files/state").write_text("harmed")
        (site.cwd / "state").write_text("half-writ")
        time.sleep(3.1)
        assert site.run() == 0
        assert site.log(generation=2) == "1\n1\n"
        assert [record.restore_seq for record in site.of(StartRecord)] == [None, 1]
        again = site.checkpoints()[2:]
        assert sorted((record.generation, record.seq) for record in again) == [(1, 2), (2, 2)]
        (second,) = [record for record in again if record.generation == 2]
        assert site.manifest(second).parent == 1

    in_every_shell(tmp_path, story)


# -- killed at every command --------------------------------------------------------------------------------

KILLER = """
case $0 in *"$KILL_IN")
    set -T
    commands=0
    trap '[ "$BASH_SUBSHELL" -gt 0 ] || { : $((commands += 1)); [ "$commands" -ne "$KILL_AT" ] || kill -9 $$; }' DEBUG
;; esac
"""
JOURNALED = """
if [ "$CROSSFADE_GENERATION" = 2 ] && read -r pid since <.crossfade/g1/payload && kill -0 "$pid" 2>/dev/null; then
    echo overlap >>journal
fi
echo begin >>journal; echo out >out
crossfade-checkpoint out
sleep 0.1
# with its wrapper dead it would go on for long
[ "$PPID" = "$(cut -d ' ' -f 4 /proc/$$/stat)" ] || sleep 30
echo end >>journal
"""


def _killed_at(tmp_path, command_number: int) -> bool:
    """One life of an attempt whose first wrapper is killed before its n-th command; False: it ended before."""
    site = Site(tmp_path / f"kill{command_number}", "bash").put(plan(JOURNALED))
    killer = site.root / "killer.sh"
    killer.write_text(KILLER)
    code = site.run(BASH_ENV=str(killer), KILL_IN="stage.sh", KILL_AT=str(command_number))
    claimed = (site.cwd / ".crossfade/claim").is_symlink()
    site.records()
    time.sleep(3.1 if claimed and not list(site.cwd.glob(".crossfade/g*/*.exit")) else 0)
    for _ in range(3):  # whatever was torn: somebody gets in, and only until there is an end
        if site.run() == GATED:
            break
        time.sleep(0)
    ends = site.of(ExitRecord)
    assert len(ends) == 1, (command_number, ends)
    assert ends[0].kind == "done"
    journal = (site.cwd / "journal").read_text().split()
    _no_overlap(journal)
    starts = [record.generation for record in site.of(StartRecord)]
    assert ends[0].generation in starts
    assert len(starts) == len(set(starts)) <= 2
    for record in site.checkpoints():
        site.manifest(record)
    return code == -signal.SIGKILL


def _no_overlap(journal: list[str]) -> None:
    """A killed payload leaves its `end` out; the one after it finds it gone, and is the last to write."""
    assert " ".join(journal) in {"begin end", "begin begin end", "begin end begin end"}


def _kill_at_all(tmp_path, numbers: range) -> None:
    with ThreadPoolExecutor(12) as pool:
        killed = list(pool.map(lambda number: _killed_at(tmp_path, number), numbers))
    assert killed[0]
    assert not killed[-1], "the range ends before the wrapper does"
    assert sum(killed) > 0.6 * len(killed)


def test_killed_at_any_command_the_attempt_ends_once_and_is_never_shut_out(tmp_path):
    if "bash" not in present_shells():
        pytest.skip("bash is not installed")
    _kill_at_all(tmp_path, range(1, 260, 12))


@pytest.mark.slow
def test_killed_at_every_single_command_the_attempt_ends_once_and_is_never_shut_out(tmp_path):
    _kill_at_all(tmp_path, range(1, 260))


def test_a_checkpoint_killed_at_any_command_leaves_none_or_a_whole_one(tmp_path):
    if "bash" not in present_shells():
        pytest.skip("bash is not installed")

    def once(number: int) -> int:
        site = Site(tmp_path / str(number), "bash")
        site.put(plan("echo f >f; crossfade-checkpoint f || :; unset BASH_ENV; crossfade-checkpoint f"))
        killer = site.root / "killer.sh"
        killer.write_text(KILLER)
        assert site.run(BASH_ENV=str(killer), KILL_IN="crossfade-checkpoint", KILL_AT=str(number)) == 0
        for record in site.checkpoints():
            site.manifest(record)
        return len(site.checkpoints())

    with ThreadPoolExecutor(4) as pool:
        committed = list(pool.map(once, range(1, 190, 9)))
    assert committed[0] == 1
    assert committed[-1] == 2
