"""The wrapper from start to exit record: codes, environment, outputs, bounds."""

import hashlib
import os
import time

import pytest
from harness_kit import Site, alive, in_every_shell, plan, until

from connectors.harness import TOO_LATE, Output, StartRecord, parse_manifest

HOSTILE = {
    "QUOTES": """it's "quoted" `id` $(id) ${HOME} \\n; rm -rf / #""",
    "LINES": "one\n#SBATCH --account=evil\n' ; id ; '",
    "EMPTY": "",
    "DASH": "-n -e",
    "GLOB": "* ? [a-z] ~ !! %s %d",
    "UNICODE": "Größe λ 数",
    "ODD_END": "ends with a backslash \\",
}


def test_a_payload_that_leaves_with_zero_is_done(tmp_path):
    def story(site: Site) -> None:
        before = time.time() * 1e6
        assert site.run(plan("echo hello; echo oops >&2; pwd")) == 0
        record = site.exit()
        assert (record.kind, record.exit_code, record.signal) == ("done", 0, None)
        assert before - 1e6 <= record.started_at <= record.ended_at <= time.time() * 1e6 + 1e6
        assert site.log().splitlines() == ["hello", str(site.cwd.resolve())]
        assert site.log("stderr") == "oops\n"
        (started,) = site.of(StartRecord)
        assert started.generation == 1
        assert started.owner == os.readlink(site.cwd / ".crossfade/claim")

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize(("command", "code", "number"), [("exit 17", 17, None), ("kill -9 $$", 137, 9)])
def test_a_payloads_failure_is_kept_with_its_code_and_signal(tmp_path, command, code, number):
    def story(site: Site) -> None:
        assert site.run(plan(command)) == code
        record = site.exit()
        assert (record.kind, record.exit_code, record.signal) == ("failed", code, number)

    in_every_shell(tmp_path, story)


def test_the_first_failing_command_and_an_unset_variable_end_the_payload(tmp_path):
    def story(site: Site) -> None:
        assert site.run(plan("false\necho not reached")) == 1
        assert site.log() == ""

    in_every_shell(tmp_path / "a", story)

    def unset(site: Site) -> None:
        assert site.run(plan('echo "$NEVER_SET_ANYWHERE"')) != 0

    in_every_shell(tmp_path / "b", unset)


def test_hostile_values_arrive_as_they_are_and_nothing_of_them_is_run(tmp_path):
    def story(site: Site) -> None:
        command = "\n".join(f"printf '%s\\0' \"${name}\"" for name in HOSTILE)
        assert site.run(plan(command, env=HOSTILE)) == 0
        assert site.log().split("\0")[:-1] == list(HOSTILE.values())
        assert site.log("stderr") == ""

    in_every_shell(tmp_path, story)


def test_setup_runs_before_the_payload_and_may_use_unset_variables(tmp_path):
    def story(site: Site) -> None:
        assert site.run(plan('echo "$A"', setup='A=$NOT_SET"from setup"; export A', env={"A": "env"})) == 0
        assert site.log() == "from setup\n"

    in_every_shell(tmp_path, story)


def test_the_payload_is_told_who_it_is(tmp_path):
    def story(site: Site) -> None:
        command = 'echo "$CROSSFADE_KEY $CROSSFADE_GENERATION ${CROSSFADE_RESTORE_DIR-unset} $CROSSFADE_SECONDS_LEFT"'
        task = plan(command + "; command -v crossfade-checkpoint", walltime=100, env={"PATH": os.environ["PATH"]})
        assert site.run(task, CROSSFADE_RESTORE_DIR="/from/outside", cf_restore="9") == 0
        first, second = site.log().splitlines()
        key, generation, restored, left = first.split()
        assert (key, generation, restored) == ("cfabcdefghijklm", "1", "unset")
        assert 95 <= int(left) <= 98
        assert second == str(site.cwd.resolve() / ".crossfade/bin/crossfade-checkpoint")

    in_every_shell(tmp_path, story)


def test_the_payload_leads_a_session_of_its_own_and_leaves_nothing_running(tmp_path):
    def story(site: Site) -> None:
        assert site.run(plan("sleep 60 & echo $!; cut -d' ' -f5 /proc/$$/stat; echo $$")) == 0
        child, group, own = map(int, site.log().split())
        assert group == own
        until(lambda: not alive(child))

    in_every_shell(tmp_path, story)


def test_outputs_are_listed_with_size_and_digest_folders_with_all_below(tmp_path):
    def story(site: Site) -> None:
        command = (
            "mkdir -p 'rec/a b'; printf one >'rec/a b/x y.h5'; printf two >rec/λ; ln -s λ rec/link; : >empty; umask"
        )
        outputs = (Output(path="rec/"), Output(path="empty"), Output(path="rec/λ"), Output(path="more", required=False))
        assert site.run(plan(command, outputs=outputs)) == 0
        data = (site.cwd / ".crossfade/g1/outputs.manifest").read_bytes()
        record = site.exit()
        assert record.outputs_digest == hashlib.sha256(data).hexdigest()
        assert record.missing == ()
        files = parse_manifest(data).files
        assert record.outputs_count == len(files) == 4
        content = {"empty": b"", "rec/a b/x y.h5": b"one", "rec/link": b"two", "rec/λ": b"two"}
        assert files == tuple((p, len(c), hashlib.sha256(c).hexdigest()) for p, c in sorted(content.items()))
        assert int(site.log(), 8) == _umask()

    in_every_shell(tmp_path, story)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_a_missing_required_output_is_named_and_the_payload_is_still_done(tmp_path):
    def story(site: Site) -> None:
        outputs = (Output(path="it's here; no"), Output(path="b", required=False), Output(path="c/"))
        assert site.run(plan("true", outputs=outputs)) == 0
        record = site.exit()
        assert (record.kind, record.missing, record.outputs_count) == ("done", ("it's here; no", "c"), 0)

    in_every_shell(tmp_path, story)


@pytest.mark.parametrize(
    "command",
    [
        "ln -s /etc/passwd out",
        "mkdir out; ln -s /etc/passwd out/x",
        "mkdir out; ln -s ../../../.. out/up",
        "mkdir out; ln -s .. out/loop",
        "mkdir out; ln -s nowhere out/dangling",
        "ln -s .crossfade/job.conf out",
        "mkdir out; : >'out/back\\slash'",
        "mkdir out; : >\"out/$(printf 'new\\nline')\"",
    ],
)
def test_an_output_that_leads_out_or_cannot_be_named_is_as_good_as_missing(tmp_path, command):
    def story(site: Site) -> None:
        assert site.run(plan(command, outputs=(Output(path="out"),))) == 0
        record = site.exit()
        assert (record.missing, record.outputs_count, record.outputs_digest) == (("out",), 0, "")

    in_every_shell(tmp_path, story)


def test_after_start_before_nothing_is_started(tmp_path):
    def story(site: Site) -> None:
        assert site.run(plan("touch ran", start_before=int((time.time() - 5) * 1e6))) == TOO_LATE
        assert site.exit().kind == "too_late"
        assert not (site.cwd / "ran").exists()
        assert site.of(StartRecord) == []

    in_every_shell(tmp_path, story)


def test_at_its_walltime_the_payload_is_told_to_end(tmp_path):
    def story(site: Site) -> None:
        code = site.run(plan("trap 'echo told; exit 3' TERM; while :; do sleep 0.05; done", walltime=2))
        record = site.exit()
        assert (code, record.kind, record.exit_code) == (3, "timed_out", 3)
        assert 1e6 < record.ended_at - record.started_at < 5e6
        assert site.log() == "told\n"

    in_every_shell(tmp_path, story)


def test_at_stop_before_a_payload_that_will_not_hear_is_killed_with_its_children(tmp_path):
    def story(site: Site) -> None:
        deaf = "trap '' TERM; sleep 60 & echo $!; while :; do sleep 0.1; done"
        site.run(plan(deaf, stop_before=int((time.time() + 2.5) * 1e6)))
        record = site.exit()
        assert (record.kind, record.signal) == ("timed_out", 9)
        assert record.ended_at - record.started_at < 6e6
        child = int(site.log())
        until(lambda: not alive(child))

    in_every_shell(tmp_path, story)


def test_a_full_spool_costs_no_result_the_next_start_announces_it(tmp_path):
    def story(site: Site) -> None:
        (site.root / "spool").rmdir()
        (site.root / "spool").write_text("in the way")
        assert site.run(plan("true")) == 0
        (site.root / "spool").unlink()
        (site.root / "spool").mkdir()
        assert site.run() == 73
        assert site.exit().kind == "done"

    in_every_shell(tmp_path, story)


def test_an_empty_stage_costs_little(tmp_path):
    spent = []
    for n in range(20):
        process = Site(tmp_path / str(n)).put(plan("true")).start()
        _, _, usage = os.wait4(process.pid, 0)  # with all its children; the clock on the wall is shared with others
        process.returncode = 0
        process.communicate()
        spent.append(usage.ru_utime + usage.ru_stime)
    assert min(spent) < 0.05


@pytest.mark.fault("F38")
def test_a_scheduler_that_ends_payload_and_wrapper_at_once_has_stopped_the_stage_not_failed_it(tmp_path):
    def story(site: Site) -> None:
        site.put(plan("echo $$ > payload.pid; sleep 60 & wait"))
        process = site.start()
        until(lambda: (site.cwd / "payload.pid").exists() and (site.cwd / "payload.pid").read_text().strip())
        payload = int((site.cwd / "payload.pid").read_text())
        os.kill(process.pid, 15)
        os.killpg(os.getpgid(payload), 15)
        process.communicate(timeout=20)
        record = site.exit()
        assert (record.kind, record.exit_code) == ("stopped", 143)

    in_every_shell(tmp_path, story)


@pytest.mark.fault("F38")
def test_a_scheduler_that_reaches_the_payload_before_the_wrapper_has_stopped_the_stage_not_failed_it(tmp_path):
    def story(site: Site) -> None:
        site.put(plan("echo $$ > payload.pid; sleep 60 & wait"))
        process = site.start()
        until(lambda: (site.cwd / "payload.pid").exists() and (site.cwd / "payload.pid").read_text().strip())
        payload = int((site.cwd / "payload.pid").read_text())
        os.killpg(os.getpgid(payload), 15)
        until((site.cwd / ".crossfade" / "g1" / ".ended").exists)
        os.kill(process.pid, 15)
        process.communicate(timeout=20)
        record = site.exit()
        assert (record.kind, record.exit_code) == ("stopped", 143)

    in_every_shell(tmp_path, story)


def test_a_payload_that_ends_by_a_signal_of_its_own_has_failed(tmp_path):
    def story(site: Site) -> None:
        assert site.run(plan("kill -TERM $$")) == 143
        record = site.exit()
        assert (record.kind, record.exit_code, record.signal) == ("failed", 143, 15)

    in_every_shell(tmp_path, story)
