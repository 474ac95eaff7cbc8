"""Checkpoints in both styles, asking for them, and beginning from them."""

import signal
import subprocess
from dataclasses import replace

import pytest
from harness_kit import Site, argv, in_every_shell, plan, present_shells, until

from connectors.harness import RESTORE_FAILED, HarnessCheckpoint, HarnessRestore, Output, StartRecord

SLABS = HarnessCheckpoint(path="ckpt/", match=r"slab_(\d+)\.h5")


# -- crossfade-checkpoint ----------------------------------------------------------------------------------


def test_the_command_commits_copies_under_rising_numbers_and_keeps_the_newest(tmp_path):
    def story(site: Site) -> None:
        command = """mkdir -p 'a b'
            for i in 1 2 3; do
                echo $i >state; echo $i >"a b/x y"
                crossfade-checkpoint --app '1.2 (beta)' state "$PWD/a b"
            done
            cd 'a b'; echo 9 >'x y'; crossfade-checkpoint --seq 0010 'x y'
            echo overwritten >'x y'"""
        assert site.run(plan(command)) == 0, site.log("stderr")
        records = site.checkpoints()
        assert [record.seq for record in records] == [1, 2, 3, 10]
        kept = sorted(path.name for path in (site.cwd / ".crossfade/g1/ckpt").iterdir())
        assert kept == ["000003", "000010"]
        third, tenth = (site.manifest(record) for record in records[2:])
        assert (third.seq, third.parent, third.app) == (3, 2, "1.2 (beta)")
        assert [path for path, _, _ in third.files] == ["a b/x y", "state"]
        assert records[2].bytes == 4
        assert (tenth.parent, [path for path, _, _ in tenth.files]) == (3, ["a b/x y"])
        assert (site.cwd / records[3].path / "files/a b/x y").read_text() == "9\n"

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize(
    "arguments",
    [
        "/etc/passwd",
        "../../../../outside",
        "link",
        ".crossfade/job.conf",
        "missing",
        '"new\nline"',
        "'back\\slash'",
        "",
        "--seq 1x f",
        "--seq 9999999999999 f",
        "--seq",
        "--what f",
        '--app "two\nlines" f',
    ],
)
def test_the_command_refuses_what_is_not_the_jobs_own_and_says_so(tmp_path, arguments):
    def story(site: Site) -> None:
        (site.root / "outside").write_text("x")
        command = f"""echo f >f; ln -s /etc/passwd link; echo x >"new\nline"; echo x >'back\\slash'
            crossfade-checkpoint {arguments} || echo "refused $?" """
        assert site.run(plan(command)) == 0
        assert site.log() == "refused 1\n"
        assert site.log("stderr").startswith("crossfade-checkpoint: ")
        assert site.checkpoints() == []
        assert list((site.cwd / ".crossfade/g1/ckpt").iterdir()) == []

    in_every_shell(tmp_path, story)


@pytest.mark.fault("F39")
def test_a_number_is_committed_once_but_a_torn_one_may_be_done_again(tmp_path):
    def story(site: Site) -> None:
        command = """echo f >f; cd "$CROSSFADE_CHECKPOINT_DIR"; mkdir -p 000005/files
            echo torn >000005/files/f; cd - >&2
            crossfade-checkpoint --seq 5 f; crossfade-checkpoint --seq 5 f || echo again"""
        assert site.run(plan(command)) == 0
        assert site.log() == "again\n"
        (record,) = site.checkpoints()
        assert site.manifest(record).seq == 5

    in_every_shell(tmp_path, story)


def test_two_commands_at_once_take_two_numbers(tmp_path):
    def story(site: Site) -> None:
        task = plan("echo f >f; for i in 1 2 3 4; do crossfade-checkpoint f & done; wait",
                    checkpoint=HarnessCheckpoint(keep=9))  # fmt: skip
        assert site.run(task) == 0
        assert [record.seq for record in site.checkpoints()] == [1, 2, 3, 4]
        for record in site.checkpoints():
            site.manifest(record)

    in_every_shell(tmp_path, story)


def test_a_commit_that_was_begun_outlives_being_asked_again_and_being_told_to_end(tmp_path):
    def story(site: Site) -> None:
        command = """head -c 30000000 /dev/zero >big; crossfade-checkpoint big & commit=$!
            until [ -e "$CROSSFADE_CHECKPOINT_DIR/000001" ]; do sleep 0.01; done
            kill -USR1 $commit; kill -TERM $commit; kill -WINCH $commit; wait $commit"""
        task = plan(command, checkpoint=HarnessCheckpoint(ask_kind="signal", ask_value="WINCH"))
        assert site.run(task) == 0, site.log("stderr")
        assert site.manifest(site.checkpoints()[0]).files[0][1] == 30_000_000

    in_every_shell(tmp_path, story)


# -- found by pattern --------------------------------------------------------------------------------------


def test_without_a_marker_a_checkpoint_counts_once_its_size_has_settled(tmp_path):
    def story(site: Site) -> None:
        command = """mkdir ckpt; echo one >ckpt/slab_0001.h5; echo no >ckpt/slab_x.h5; echo no >ckpt/slab_2.h5.tmp
            for i in 1 2 3 4 5 6; do echo grows >>ckpt/slab_0002.h5; sleep 0.5; done
            test "$(cat .crossfade/g1/.last)" = 1"""
        site.put(plan(command, checkpoint=SLABS))
        process = site.start()
        until(site.checkpoints)
        (first,) = site.checkpoints()
        assert process.poll() is None
        assert (first.seq, [path for path, _, _ in site.manifest(first).files]) == (1, ["ckpt/slab_0001.h5"])
        assert process.wait() == 0, site.log("stderr")
        process.communicate()
        assert [record.seq for record in site.checkpoints()] == [1, 2]
        assert site.manifest(site.checkpoints()[1]).files[0][1] == len("grows\n" * 6)

    in_every_shell(tmp_path, story)


def test_with_a_marker_a_checkpoint_counts_when_its_marker_is_there_and_never_before(tmp_path):
    def story(site: Site) -> None:
        command = """for i in 7 8; do mkdir restart_$i; for r in 0 1 2; do echo $i.$r >restart_$i/rank_$r.bp; done; done
            touch restart_7/DONE; sleep 2.5"""
        checkpoint = HarnessCheckpoint(match=r"restart_(\d+)/rank_\d+\.bp", complete=r"restart_(\d+)/DONE")
        assert site.run(plan(command, checkpoint=checkpoint)) == 0
        (record,) = site.checkpoints()
        names = ["restart_7/DONE", "restart_7/rank_0.bp", "restart_7/rank_1.bp", "restart_7/rank_2.bp"]
        assert [path for path, _, _ in site.manifest(record).files] == names
        assert record.at < site.exit().ended_at - 0.4e6

    in_every_shell(tmp_path, story)


def test_names_with_shell_and_pattern_syntax_are_only_names(tmp_path):
    def story(site: Site) -> None:
        folder = "o'dd [x] (y).* $(id)"
        checkpoint = HarnessCheckpoint(path=folder, match=r"s ?'\$\(a\)_(\d+)[.,]h5")
        command = 'mkdir "$D"; echo 1 >"$D/s \'\\$(a)_3.h5"; echo 1 >"$D/s \'\\$(a)_4,h5"; echo 1 >"$D/s \'\\$(a)_5xh5"'
        assert site.run(plan(command, env={"D": folder}, checkpoint=checkpoint)) == 0, site.log("stderr")
        assert [record.seq for record in site.checkpoints()] == [3, 4]
        assert site.manifest(site.checkpoints()[0]).files[0][0] == f"{folder}/s '$(a)_3.h5"

    in_every_shell(tmp_path, story)


# -- asking ------------------------------------------------------------------------------------------------

WORKS = """
import os, signal, subprocess, sys, time
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
print("ready", flush=True)
for step in range(200):
    time.sleep(0.05)
    if asked or os.path.exists("STOP"):
        asked.clear()
        if os.path.exists("STOP"): os.remove("STOP")
        open("state", "w").write(str(step))
        subprocess.run(["crossfade-checkpoint", "state"], check=True)
        if sys.argv[1] == "leaves": sys.exit(0)
"""


def worker(manner: str, **checkpoint: object):
    command = f"exec </dev/null; python3 -c '{WORKS}' {manner}; echo left"
    return plan(command, checkpoint=HarnessCheckpoint(**checkpoint))


def test_asked_by_file_before_its_end_the_payload_writes_and_leaves_by_itself(tmp_path):
    def story(site: Site) -> None:
        task = worker("leaves", ask_kind="file", ask_value="STOP", before_end=3)
        assert site.run(replace(task, walltime=6)) == 0
        record = site.exit()
        assert (record.kind, record.asked) == ("done", "before_end")
        assert [checkpoint.seq for checkpoint in site.checkpoints()] == [1]
        assert 2e6 < record.ended_at - record.started_at < 5.9e6

    in_every_shell(tmp_path, story)


def test_a_scheduler_signal_asks_by_signal_and_the_payload_goes_on(tmp_path):
    def story(site: Site) -> None:
        site.put(worker("stays", ask_kind="signal", ask_value="SIGUSR1"))
        process = site.start()
        until(lambda: "ready" in site.log())
        process.send_signal(signal.SIGUSR1)
        until(site.checkpoints)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.wait()
        process.communicate()
        assert (site.exit().kind, site.exit().asked) == ("stopped", "stop")
        assert [checkpoint.seq for checkpoint in site.checkpoints()] == [1, 2]

    in_every_shell(tmp_path, story)


def test_a_request_from_the_broker_is_consumed_once_and_asks_by_command(tmp_path):
    def story(site: Site) -> None:
        site.put(worker("stays", ask_kind="command", ask_value="echo asked; touch STOP"))
        process = site.start()
        until(lambda: "ready" in site.log())
        (site.cwd / ".crossfade/request").write_text("checkpoint\n")
        until(site.checkpoints)
        assert not (site.cwd / ".crossfade/request").exists()
        assert process.poll() is None
        (site.cwd / ".crossfade/request").write_text("stop\n")
        process.wait()
        process.communicate()
        assert site.log().split() == ["ready", "asked", "asked"]
        assert (site.exit().kind, len(site.checkpoints())) == ("stopped", 2)

    in_every_shell(tmp_path, story)


def test_a_payload_is_asked_again_and_again_at_its_interval(tmp_path):
    def story(site: Site) -> None:
        task = worker("stays", ask_kind="file", ask_value="STOP", every=1)
        process = site.put(task).start()
        until(lambda: len(site.checkpoints()) == 2)
        process.terminate()
        process.communicate()
        first, second = (record.at for record in site.checkpoints()[:2])
        assert second - first > 0.5e6

    in_every_shell(tmp_path, story)


# -- beginning from one ------------------------------------------------------------------------------------


def test_a_checkpoint_is_offered_as_a_folder_and_numbers_go_on_from_it(tmp_path):
    def story(site: Site) -> None:
        site.bring_checkpoint(41, {"ckpt/slab 41.h5": b"state", "b": b""})
        command = """cat "$CROSSFADE_RESTORE_DIR/ckpt/slab 41.h5"; echo " $CROSSFADE_RESTORE_SEQ"; ls
            echo x >x; crossfade-checkpoint x"""
        assert site.run(plan(command, restore=HarnessRestore(seq=41))) == 0
        assert site.log() == "state 41\n"
        (started,) = site.of(StartRecord)
        assert started.restore_seq == 41
        (record,) = site.checkpoints()
        assert (record.seq, site.manifest(record).parent) == (42, 41)

    in_every_shell(tmp_path, story)


def test_in_place_the_files_are_back_where_they_were_and_are_no_new_checkpoint(tmp_path):
    def story(site: Site) -> None:
        site.bring_checkpoint(41, {"ckpt/slab_41.h5": b"state"})
        checkpoint = HarnessCheckpoint(path="ckpt", match=r"slab_(\d+)\.h5", restore_style="in_place")
        task = plan(
            "cat ckpt/slab_41.h5; echo 42 >ckpt/slab_42.h5", checkpoint=checkpoint, restore=HarnessRestore(seq=41)
        )
        assert site.run(task) == 0
        assert site.log() == "state"
        assert [record.seq for record in site.checkpoints()] == [42]

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize("harm", ["bytes", "torn", "seq", "gone", "out", "link", "none"])
@pytest.mark.fault("F39")
def test_a_checkpoint_that_does_not_verify_is_never_begun_from(tmp_path, harm):
    def story(site: Site) -> None:
        site.put(
            plan("touch ran", restore=HarnessRestore(seq=4), checkpoint=HarnessCheckpoint(restore_style="in_place"))
        )
        site.bring_checkpoint(4, {"a": b"state", "b": b"more"})
        folder = site.cwd / ".crossfade/restore"
        manifest = (folder / "manifest").read_text()
        if harm == "bytes":
            (folder / "files/a").write_bytes(b"stale")
        elif harm == "torn":
            (folder / "manifest").write_text(manifest.removesuffix("end\n"))
        elif harm == "seq":
            (folder / "manifest").write_text(manifest.replace("seq 4", "seq 3"))
        elif harm == "gone":
            (folder / "files/b").unlink()
        elif harm == "out":
            (folder / "manifest").write_text(manifest.replace(" a\n", " ../files/a\n"))
        elif harm == "link":
            (folder / "files/c").symlink_to("a")
        else:
            (folder / "manifest").unlink()
        assert site.run() == RESTORE_FAILED
        assert site.exit().kind == "restore_failed"
        assert not (site.cwd / "ran").exists()

    in_every_shell(tmp_path, story)


def test_in_place_never_writes_through_a_linked_folder(tmp_path):
    def story(site: Site) -> None:
        elsewhere = site.root / "elsewhere"
        elsewhere.mkdir()
        task = plan("true", restore=HarnessRestore(seq=4), checkpoint=HarnessCheckpoint(restore_style="in_place"))
        site.put(task).bring_checkpoint(4, {"data/a": b"state"})
        (site.cwd / "data").symlink_to(elsewhere)
        assert site.run() == RESTORE_FAILED
        assert list(elsewhere.iterdir()) == []

    in_every_shell(tmp_path, story)


def test_busyboxs_tools_suffice_where_a_site_or_an_image_has_no_others(tmp_path):
    if "busybox" not in present_shells():
        pytest.skip("busybox is not installed")
    tools = tmp_path / "tools"
    tools.mkdir()
    subprocess.run([*argv("busybox")[:1], "--install", "-s", str(tools)], check=True)
    command = """cat ckpt/slab_4.h5 >ckpt/slab_5.h5; echo 6 >'a b'; crossfade-checkpoint --seq 6 'a b'
        mkdir out; ln -s '../a b' out/link"""
    checkpoint = replace(SLABS, restore_style="in_place")
    site = Site(tmp_path, "busybox").put(
        plan(command, checkpoint=checkpoint, restore=HarnessRestore(seq=4), outputs=(Output(path="out/"),))
    )
    site.bring_checkpoint(4, {"ckpt/slab_4.h5": b"state"})
    assert site.run(PATH=str(tools)) == 0, site.log("stderr")
    assert [(record.seq, len(site.manifest(record).files)) for record in site.checkpoints()] == [(5, 1), (6, 1)]
    assert (site.exit().outputs_count, site.exit().missing) == (1, ())
