"""The tables. Times are int64 microseconds UTC; states are their words; JSON is text, written compactly.

Who writes what, and under which guard:

* `run`, `stage`, `stage_dep`, `product`, the *decided* columns of `attempt` and `checkpoint`: only inside a
  decision transaction, under the run's lease (fencing token), rows guarded by `ver`.
* the *seen* columns of `attempt` and `checkpoint`: by whoever looked (a watcher, an effect), any time. They
  only gain: a look older than the newest one (`seen_at`) fills what is empty and replaces nothing.
* `due_at` of `stage` and `run`: a hint, moved by anybody, never part of a guard.
* `effect`: written by the decision that wants it, performed and finished under its own claim.
* `retention`: added by the decision that publishes a copy, or for an attempt whose run is over; changed by whoever
  removes, compare-and-set on `state` and `due_at`.
* `notice`: added by an operator; who ends it before its time is written once, by the statement that looks whether
  that may be.
* `waiver`: added by who asks; who confirms and who withdraws it is written once, by the statement that looks whether
  it may be.
* `charge`: added by the decision that begins an attempt, settled once by the one that ends it; what the site's own
  accounting says of it (`told`) is added later, by whoever asks the site.
* `cap`: set by people; `allocation`: replaced by whoever reads a site's balances.
* `alert`: added by the decision, or the watch, that it tells of; sent under its own claim; acknowledged and over once.
* `deadline`: added with the run, or by the decision that makes its stage ready; moved by decisions.
* `event`: appended in the transaction that it tells of; one hash chain per stream (a run id, `site:NAME`,
  `place:NAME` or `operators`), the chain's tip in `stream`.

SQLite: only tables with short rows go without a rowid. A key's tree holds whole rows then, and rows of 1 KB
and more (a stage's body) make it deep: measured at 5 000 stages of 1.5 KB, 3 times the CPU for each stage.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _word(name: str) -> Column[str]:
    """A text that older code does not write."""
    return Column(name, Text, nullable=False, default="", server_default=text("''"))


def _time(name: str, *, null: bool = True) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _size(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, default=0, server_default="0")


def _int(name: str, default: int = 0) -> Column[int]:
    return Column(name, Integer, nullable=False, default=default, server_default=str(default))


installation = Table(
    "installation",
    metadata,
    Column("id", Text, primary_key=True),
    _int("incarnation"),  # bumped when a backup is restored
    _time("created_at", null=False),
)

stream = Table(
    "stream",
    metadata,
    Column("stream", Text, primary_key=True),
    _int("seq"),  # of the newest event
    _text("tip"),  # its hash; empty: no event yet
)

event = Table(
    "event",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),  # from 1, without gaps
    _time("at", null=False),
    _text("actor"),
    _text("kind"),
    _text("stage"),  # its path, or empty
    _int("attempt"),  # its number, or 0
    _text("data"),  # JSON object
    _text("hash"),  # sha256 of the former event's hash and this row
    sqlite_with_rowid=False,
)

run = Table(
    "run",
    metadata,
    Column("run_id", Text, primary_key=True),
    _text("name"),
    _text("client_key", null=True),  # same key while alive or done = the same run
    _text("request_digest"),  # digest of what was asked for, to tell another body under one key
    _text("state"),
    _text("reason"),
    _int("ver"),
    _text("document_digest"),
    _text("source"),  # the folder that relative paths meant
    _text("created_by"),
    _time("created_at", null=False),
    _time("ended_at"),
    _time("due_at"),  # look at this run no later than then; null: nothing to do until something is seen
    _time("wake_sent_at"),  # when a wake-up was last published for it
    _int("stages"),
    _int("unsettled"),  # stages not final
    _int("failed"),  # required stages failed, skipped or canceled
    _int("open_attempts"),  # attempts not final, orphans too
    _int("held"),
    _int("commands"),  # not yet carried out
    _int("wants"),  # 1: has READY stages for which there was no room
    _time("cancel_requested_at"),
    _text("lease_owner", null=True),
    _int("lease_token"),  # grows with every acquisition, never falls
    _time("lease_until"),
    _word("notify"),  # JSON [[address, [kind, ...]], ...]: who is told of what; empty: nobody
    _int("deadlines", 0),  # keys `deadline` in its document: the run's own, and those of stages
    _time("deadline_at"),  # of the run as a whole
    _time("event_at"),  # when what the run is about happened, if that was told
    _int("at_once"),  # so many runs of this name may go on at a time; 0: any number
    _int("in_line"),  # 1: waits until its turn among them has come
    UniqueConstraint("client_key", name="run_client_key"),
)
Index("run_due", run.c.due_at)
Index("run_wants", run.c.wants)
Index("run_created", run.c.created_at)
Index("run_ended", run.c.ended_at)
Index("run_in_line", run.c.in_line)

document = Table(  # apart from its run, whose row is rewritten by every decision and may not cost O(stages)
    "document",
    metadata,
    Column("run_id", Text, primary_key=True),
    _text("text"),  # JSON: the normalised document, parameters filled in
    ForeignKeyConstraint(["run_id"], ["run.run_id"]),
)

stage = Table(
    "stage",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),  # from 0, in document order
    _text("path"),
    _text("state"),
    _text("reason"),
    _int("ver"),
    _int("epoch"),  # fencing number of its attempts
    _int("unmet"),  # needs that have not succeeded
    _int("doomed"),  # needs that never will
    _time("due_at"),  # look at it then; null: nothing to do until something is seen
    _text("rules"),  # JSON: what the policies see (often shared by many stages)
    _text("body"),  # JSON: what the site sees
    _text("digest"),  # of rules and body
    _int("attempt"),  # number of the current attempt, 0: none yet
    _int("site_retries"),
    _int("app_retries"),
    _int("failovers"),
    _int("continuations"),
    _int("memory_raises"),
    _int("stalled"),  # continuations in a row that brought no newer checkpoint
    _time("not_before"),  # back-off of a retry
    _text("avoid"),  # JSON list of sites where it failed
    _text("want"),  # site an operator asked for, or empty
    _time("ready_at"),
    _time("ended_at"),
    _int("begun"),  # the highest number of its attempts, where that is not the current one's
    UniqueConstraint("run_id", "path", name="stage_path"),
    ForeignKeyConstraint(["run_id"], ["run.run_id"]),
)
Index("stage_due", stage.c.run_id, stage.c.due_at, stage.c.n)
Index("stage_state", stage.c.run_id, stage.c.state, stage.c.n)

stage_dep = Table(
    "stage_dep",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("parent", Integer, primary_key=True, autoincrement=False),
    Column("child", Integer, primary_key=True, autoincrement=False),
    _int("inputs"),  # 1: the child takes files of the parent, not just its turn
    sqlite_with_rowid=False,
)
Index("stage_dep_child", stage_dep.c.run_id, stage_dep.c.child)

attempt = Table(
    "attempt",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1
    # decided
    _int("epoch"),
    _text("site"),
    _text("state"),
    _int("ver"),
    _text("why"),  # first, retry, failover, continuation, move
    _text("reason"),  # why it ended, in words
    _text("failure"),  # a value of connectors.errors.Fault, or empty
    _text("submit_key"),
    _text("digest"),  # of what runs
    _text("directory"),  # relative to the site's root
    _text("restore"),  # JSON {attempt, generation, seq, path}: the checkpoint it starts from, or empty
    _int("orphan"),  # 1: its stage went on without it; still watched
    _int("open"),  # 1: not final. The index of what is watched
    _time("created_at", null=False),
    _time("submitted_at"),
    _time("started_at"),
    _time("ended_at"),
    _time("stop_before"),  # surely dead after this (plus the margin for clocks)
    _time("unreachable_since"),
    _time("cancel_requested_at"),
    # seen
    _text("native_id"),
    _text("staged"),  # JSON {ok, reason, fault, site}: the answer to bringing files in; empty: none yet
    _text("answer"),  # JSON {accepted|refused: ..., fault}: the answer to the submission
    _text("job"),  # JSON of the newest JobStatus
    _text("started"),  # JSON of the newest generation's start record
    _text("exit"),  # JSON of the exit record
    _text("verified"),  # JSON {ok, reason, manifest}: the outputs compared with their manifest
    _text("dead"),  # JSON {how}: surely ended (canceled and confirmed, gone from a complete listing)
    _time("seen_at"),  # when the site last answered about it
    _time("asked_at"),  # decided: when its payload was asked for a checkpoint, since its site is to be left
    UniqueConstraint("submit_key", name="attempt_submit_key"),
)
Index("attempt_open", attempt.c.open, attempt.c.site, attempt.c.run_id, attempt.c.n)
Index("attempt_native", attempt.c.native_id)
_CARRIED = text("why = 'failover'")
Index("attempt_carried", attempt.c.created_at, sqlite_where=_CARRIED, postgresql_where=_CARRIED)
Index("attempt_carried_run", attempt.c.run_id, attempt.c.created_at, sqlite_where=_CARRIED, postgresql_where=_CARRIED)
_ENDED = text("ended_at IS NOT NULL")  # in part: an attempt is written into it once, when it ends
Index("attempt_past", attempt.c.site, attempt.c.ended_at, sqlite_where=_ENDED, postgresql_where=_ENDED)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),  # grows over all attempts of the stage
    Column("site", Text, primary_key=True),  # where this copy is
    _text("state"),  # seen, checking, verified, shipped (a copy was ordered), gone, suspect, bad
    _text("path"),  # its folder, relative to the site's root
    _text("manifest"),  # JSON {files: [[path, size, sha256]], app, parent}; empty until read
    _size("bytes"),
    _time("created_at", null=False),
    _time("verified_at"),
    _text("reason"),
)

effect = Table(
    "effect",
    metadata,
    Column("key", Text, primary_key=True),
    _text("run_id"),
    _int("n"),
    _int("attempt"),
    _text("kind"),  # stage_in, submit, cancel, verify, copy, check, ship, prune, ahead, recall, ask
    _text("site"),  # whose connector performs it
    _text("payload"),  # JSON
    _text("state"),  # pending, done, dropped
    _time("created_at", null=False),
    _time("due_at"),  # perform no earlier; while claimed: when the claim lapses; null when done or dropped
    _int("tries"),
    _text("note"),  # JSON kept between tries (since when in doubt, looks so far)
    _text("claim"),  # who performs it now, or empty
    _time("claim_until"),
    _time("done_at"),
    _text("outcome"),  # JSON
)
Index("effect_due", effect.c.due_at)
Index("effect_run", effect.c.run_id, effect.c.due_at)

decision = Table(
    "decision",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),  # of the event that tells of it
    _int("n"),
    _int("attempt"),  # the attempt it led to or spoke of
    _time("at", null=False),
    _text("kind"),  # placement, failover, retry, checkpoint, ...
    _text("outcome"),
    _text("detail"),  # JSON: policies.model.Decision whole
)
Index("decision_stage", decision.c.run_id, decision.c.n)

product = Table(
    "product",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    _int("attempt"),
    _int("epoch"),
    _text("site"),
    _text("path"),  # folder of the outputs, relative to the site's root
    _text("manifest"),  # JSON {files: [[path, size, sha256]]}
    _text("manifest_digest"),
    _int("adopted"),  # 1: an orphan won
    _time("published_at", null=False),
)

command = Table(
    "command",
    metadata,
    Column("id", Text, primary_key=True),
    _text("run_id"),
    _text("stage"),  # path, or empty for the run
    _text("kind"),  # cancel, hold, release, retry, move
    _text("args"),  # JSON
    _text("actor"),
    _text("reason"),
    _time("at", null=False),
    _time("done_at"),
    _text("outcome"),
)
Index("command_open", command.c.run_id, command.c.done_at)

site = Table(
    "site",
    metadata,
    Column("site", Text, primary_key=True),
    _text("mode"),  # up, drained, evacuating (and what runs there moves), closed (all that is ours there is ended)
    _text("mode_by"),
    _text("mode_reason"),
    _time("mode_at"),
    _time("next_poll_at"),
    _time("last_ok_at"),
    _time("cannot_ask_since"),  # first failed look since the last good one; null: it answers
    _int("probes"),  # failed looks since then
    _text("detail"),  # the newest failure in words
    _int("ver"),
    _int("quarantined"),  # 1: a backup was restored; nothing is submitted until its jobs were listed and reconciled
    _word("override"),  # the state that an operator says it has, against all evidence; empty: none
    _word("override_by"),
    _word("override_reason"),
    _time("override_until"),
    _word("mode_to"),  # of an evacuation: where to, if somebody said so
    _word("mode_then"),  # of a closed site, what becomes of its stages: wait (for a person), elsewhere
    _time("clear_at"),  # of a closed site: when a complete listing showed nothing of ours alive any more
)

evidence = Table(
    "evidence",
    metadata,
    Column("site", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("capability", Text, primary_key=True),
    _int("ok"),
    _int("latency_us"),
    _text("detail"),
    _word("source"),  # look, probe, call, job, transfer, canary: measured; feed: what the site publishes of itself
    _word("word"),  # what a feed calls it: degraded, maintenance; whose fault a job's end was
    _word("subject"),  # of a job's end: whom it was for
    _time("until"),  # when it ends by itself, or (well, maintenance) begins
    sqlite_with_rowid=False,
)

log_tail = Table(
    "log_tail",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),  # stdout, stderr
    Column("tail", LargeBinary, nullable=False),  # the last 64 KiB
    _size("size"),  # of the whole log when last read
    _time("read_at", null=False),
)

worker = Table(  # a heartbeat of each process: who is there, and does work get through to it?
    "worker",
    metadata,
    Column("name", Text, primary_key=True),  # as leases carry it
    _text("kind"),  # serve, worker, beat
    _text("host"),
    _text("queues"),  # JSON list
    _time("started_at", null=False),
    _time("seen_at", null=False),  # when the heartbeat was last written
    _time("progress_at"),  # when a message that had gone through the queue last came back; null: never yet
    _text("detail"),  # JSON object
)

stray = Table(  # jobs found at a site after a backup was restored, under keys that no attempt had: of the lost hours
    "stray",
    metadata,
    Column("key", Text, primary_key=True),
    _text("site"),
    _text("native_id"),
    _text("state"),  # a value of connectors.model.JobState, as last listed
    _text("run_id"),  # whose attempt it would be, as its key tells; empty: of no stage that is known
    _int("n"),
    _int("number"),  # of the attempt in the lost hours; 0: not known
    _int("incarnation"),  # under which its key was made
    _text("fate"),  # adopt: by its stage, when that starts again; cancel; keep: left to a person
    _time("found_at", null=False),
    _time("done_at"),  # adopted, surely dead, or left alone; null: still to be dealt with
    _text("outcome"),
)
Index("stray_run", stray.c.run_id, stray.c.n)
Index("stray_site", stray.c.site, stray.c.done_at)

note = Table(  # what a mover must know again after a crash, in words of its own
    "note",
    metadata,
    Column("key", Text, primary_key=True),
    _text("text"),
    _time("at", null=False),
)

movement = Table(  # files that somebody wants brought from one side to another; at most one transfer at a time has it
    "movement",
    metadata,
    Column("key", Text, primary_key=True),
    _text("run_id"),
    _int("n"),
    _int("attempt"),
    _text("source"),  # the side that it was asked from: a site, `NAME:` for a place, empty for the broker's own store
    _text("destination"),
    _text("items"),  # JSON [[source, destination, size, sha256, mode], ...]
    _text("others"),  # JSON [[side, items], ...]: where else they may be taken from
    _text("label"),
    _text("about"),  # key of the effect that wants it, or empty
    _int("private"),
    _int("urgent"),
    _time("deadline"),
    _int("files"),  # items, as far as they are known: a folder counts as one
    _size("bytes"),  # 0: not known
    _text("state"),  # wanted, active, held, succeeded, failed, canceled
    _text("mover"),  # that has it, or had it last; empty: none is chosen yet
    _text("taken_from"),  # the side that it is taken from, which may be one of the others
    _text("transfer"),  # key of the transfer that has it, or had it last
    _text("refused"),  # JSON [[mover, side, why, until], ...]: ways that failed; until: µs, or null for good
    _int("tries"),  # how often it failed in company, and nobody could tell by whose fault
    _time("due_at"),  # not to be begun before; null: over
    _time("created_at", null=False),
    _time("began_at"),
    _time("ended_at"),
    _size("moved"),
    _text("reason"),
    _text("fault"),  # a value of connectors.errors.Fault
    _text("side"),  # at fault
    _text("help"),  # the command that a person types, while it is held
)
Index("movement_due", movement.c.due_at)
Index("movement_transfer", movement.c.transfer)
Index("movement_run", movement.c.run_id, movement.c.n)

transfer = Table(  # one job of a mover, with one or more movements of one link
    "transfer",
    metadata,
    Column("key", Text, primary_key=True),
    _text("mover"),
    _text("source"),
    _text("destination"),
    _text("label"),
    _int("urgent"),
    _text("state"),  # begun (meant, not yet sure to be there), active, held, canceling, succeeded, failed, canceled
    _text("native_id"),  # what the service calls it; of a direct one, the process that carries it
    _int("movements"),
    _int("files"),
    _size("bytes"),
    _size("moved"),
    _int("files_moved"),
    _int("faults"),
    _text("detail"),  # what it does or waits for, in the service's words
    _text("reason"),
    _text("fault"),
    _text("side"),
    _text("help"),
    _time("created_at", null=False),
    _time("began_at"),  # when it was first seen to be worked at: queueing is over
    _time("progress_at"),  # when anything about it last moved
    _time("ended_at"),
    _int("open"),  # 1: not over. The index of what is watched
)
Index("transfer_open", transfer.c.open, transfer.c.mover)
Index("transfer_created", transfer.c.created_at)

mover = Table(  # how a mover stands whose transfers live in a service of its own
    "mover",
    metadata,
    Column("name", Text, primary_key=True),
    _time("next_at"),  # nobody asks it before
    _time("last_ok_at"),
    _time("cannot_ask_since"),  # null: it answers
    _int("probes"),  # failed since then
    _text("detail"),  # the newest failure in words
    _text("help"),  # the command that a person types, where only a person helps
)

link = Table(  # what past transfers tell of a way between two sides
    "link",
    metadata,
    Column("source", Text, primary_key=True),
    Column("destination", Text, primary_key=True),
    Column("mover", Text, primary_key=True),
    _text("learned"),  # JSON: the sums that policies.links goes by
    _int("samples"),
    _time("updated_at", null=False),
    sqlite_with_rowid=False,
)

replica = Table(  # where the content with this digest lies
    "replica",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("side", Text, primary_key=True),
    Column("path", Text, primary_key=True),  # relative to the side's root
    _size("size"),
    _text("state"),  # available, suspect, bad, lost
    _int("failures"),  # of checksums, since it was last seen to be right
    _time("verified_at"),
    _text("reason"),
    _text("run_id"),  # that brought it, or empty
    sqlite_with_rowid=False,
)
Index("replica_path", replica.c.side, replica.c.path)

waiver = Table(  # one rule of where data may be does not hold at one side for one run, as two persons have agreed
    "waiver",
    metadata,
    Column("id", Text, primary_key=True),
    _text("run_id"),
    _text("side"),  # a site, or `NAME:` for a place
    _text("rule"),  # data.stay, data.export_control
    _text("reason"),
    _text("asked_by"),
    _time("asked_at", null=False),
    _time("ends_at", null=False),  # from then on it does not hold, confirmed or not
    _text("confirmed_by"),  # never asked_by; empty: nobody has
    _time("confirmed_at"),
    _text("confirm_reason"),
    _text("withdrawn_by"),
    _time("withdrawn_at"),
    _text("withdraw_reason"),
)
Index("waiver_run", waiver.c.run_id)

charge = Table(  # what an attempt is expected to cost, and has cost; amounts in millionths of the unit
    "charge",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    _text("site"),
    _text("account"),  # that pays there, or empty
    _text("pool"),  # cpu, gpu: which of an account's hours it draws on
    _text("person"),  # for whom
    _text("lane"),
    _text("reservation"),  # that it ran in, or empty
    _text("unit"),  # node_hours, core_hours, gpu_hours, usd
    _size("rate"),  # millionths of the unit for an hour
    _size("usd"),  # millionths of a dollar for one unit
    _size("nodes"),  # millionths of a node-hour that one unit counts as
    _size("estimated"),
    _size("actual"),
    _size("wasted"),  # of the actual
    _text("cause"),  # a value of policies.budget.Cause
    _text("source"),  # of the times it was settled by: site, harness, broker; none (it never ran); empty: it is open
    _int("doubles"),  # 1: a copy may run beside it, or it is one
    _size("cut"),  # microseconds of executions that the site ended and started again
    _size("cut_wasted"),
    _time("booked_at", null=False),
    _time("settled_at"),  # null: the attempt is not over
    _time("told"),  # what the site's own accounting says, in millionths of the unit; null: not asked yet
    _time("told_at"),
    sqlite_with_rowid=False,
)
Index("charge_site", charge.c.site, charge.c.settled_at)
Index("charge_account", charge.c.account)
Index("charge_person", charge.c.person)

cap = Table(  # what people have set over the documents; null: nothing said of that kind
    "cap",
    metadata,
    Column("kind", Text, primary_key=True),  # run, project, user
    Column("name", Text, primary_key=True),  # its id, the account, the person
    _time("node_hours"),  # millionths
    _time("usd"),
    _text("by"),
    _text("reason"),
    _time("at", null=False),
    sqlite_with_rowid=False,
)

allocation = Table(  # what a site said an account has left
    "allocation",
    metadata,
    Column("site", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("pool", Text, primary_key=True),  # cpu, gpu; empty: whatever runs there
    _text("unit"),
    _size("granted"),  # millionths of the unit
    _size("used"),
    _time("ends_at"),
    _time("read_at", null=False),
    _text("detail"),  # why it could not be read lately; empty: it could
    _text("warned"),  # what was told of its end already
    sqlite_with_rowid=False,
)
notice = Table(  # what an operator has said of a site, or of all, from when to when: freezes, maintenance
    "notice",
    metadata,
    Column("id", Text, primary_key=True),
    _text("kind"),  # freeze_moves, freeze_submits, maintenance
    _text("site"),  # empty: every site
    _text("capability"),  # of a maintenance: what of the site is away; empty: all of it
    _time("begins_at", null=False),
    _time("ends_at", null=False),
    _text("reason"),
    _text("said_by"),
    _time("said_at", null=False),
    _text("ended_by"),
    _time("ended_at"),  # before its time, by an operator
    _text("end_reason"),
)
Index("notice_ends", notice.c.ends_at)

retention = Table(  # what a declared `keep` will remove, and what it has
    "retention",
    metadata,
    Column("key", Text, primary_key=True),
    _text("run_id"),
    _int("n"),
    _int("attempt"),
    _text("side"),  # where it will be removed: a place's side, or a site
    _text("path"),  # a trailing / means a folder
    _text("files"),  # JSON [[path, size, sha256], ...] as it was when it was kept; empty: not known yet
    _text("unless"),  # JSON {all, any}: lists of [side, path] that must hold it too; {attempt: true}: a whole folder
    _time("due_at"),  # while it is being removed: when that claim lapses; null: removed
    _text("state"),  # waiting, removing, removed, refused (and asked again at due_at)
    _text("reason"),
    _time("created_at", null=False),
    _time("done_at"),
)
Index("retention_due", retention.c.due_at)
Index("retention_side", retention.c.side, retention.c.due_at)

alert = Table(  # what somebody is told: a row first, sent until it has arrived, and again until it is acknowledged
    "alert",
    metadata,
    Column("id", Text, primary_key=True),  # of its key and its address: the same notice has the same id, always
    _text("key"),  # kind, what it is about, and which time that is
    _text("run_id"),  # empty: it is about no run
    _int("n", -1),  # the stage's number; -1: the run as a whole
    _text("about"),  # a stage's path, a site, SITE/CREDENTIAL
    _text("kind"),
    _text("address"),
    _text("body"),  # JSON: what is told
    _int("stands"),  # 1: what it tells of lasts, and passes by itself
    _int("repeats"),  # 1: told again until somebody acknowledges it
    _time("created_at", null=False),
    _time("due_at"),  # to be sent then; while it is being sent: when that claim lapses; null: nothing to send
    _int("number"),  # how often it has arrived
    _int("tries"),  # in vain, since it last arrived
    _time("sent_at"),  # when it last arrived
    _text("error"),  # why the last try was in vain
    _text("claim"),
    _text("acked_by"),
    _time("acked_at"),
    _text("ack_reason"),
    _time("over_at"),  # what it told of has passed
    _text("over_why"),  # empty: nothing needs to be said of that
    _time("over_sent_at"),
)
Index("alert_due", alert.c.due_at)
Index("alert_run", alert.c.run_id, alert.c.n)
Index("alert_created", alert.c.created_at)

deadline = Table(  # by when a run, or one of its stages, is to be done
    "deadline",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),  # -1: the run as a whole
    _time("at", null=False),
    _time("since", null=False),  # what `within` is counted from
    _text("on_miss"),  # continue, cancel
    _text("state"),  # open, at_risk, missed, over
    _int("episodes"),  # how often it was at risk
    _time("due_at"),  # to be looked at then; null: never again
    sqlite_with_rowid=False,
)
Index("deadline_due", deadline.c.run_id, deadline.c.due_at)
