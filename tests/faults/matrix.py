"""The failure model as data: what can go wrong, what holds then, and which rows no test can show yet.

The tests say which row they show by `@pytest.mark.fault("F10")`; `tools/failure_model.py` puts both together into the
table of docs/explanation/failure-model.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One fault."""

    name: str
    fault: str
    """What goes wrong."""
    holds: str
    """What is guaranteed then."""
    later: str = ""
    """With what the tests of this row come; empty: they are here."""


_FOUND = "Nothing lost, one product, no second job: the key is looked up, and what is there is adopted"

ROWS = (
    Row("F01", "A worker is killed between taking a run and its first write", "Nothing lost; another one goes on"),
    Row("F02", "A worker is killed after the submit key was committed, before the call", "The key is looked up; a "
        "complete listing without it, seen twice, allows the one submission"),
    Row("F03", "A worker is killed after the site accepted, before the answer was read", _FOUND),
    Row("F04", "A worker is killed after it read the answer, before it was recorded", _FOUND),
    Row("F05", "A worker is killed between the commit of a product and the wake-up of what waits for it", "Nothing "
        "lost: the sweep wakes what is due"),
    Row("F06", "A child of a process pool, or a thread of a worker, is killed or dies", "Nothing lost"),
    Row("F07", "A worker stands still for longer than its lease, then goes on", "One product: its late writes change "
        "nothing; the start gate lets one job run"),
    Row("F08", "A worker gets SIGTERM, SIGQUIT or Ctrl-C twice in the middle of a transaction", "Nothing lost; whole "
        "transactions only"),
    Row("F09", "A worker lives and does nothing: all threads hang, or it has lost its queue", "It is seen, ends itself "
        "and is started again; others do its work meanwhile"),
    Row("F10", "Redis is killed; it had kept nothing", "Nothing lost, nothing twice; workers sweep without it"),
    Row("F11", "Redis is emptied (FLUSHALL, FLUSHDB)", "No row changes; what is due is found by the next sweep"),
    Row("F12", "Redis is frozen", "Requests are answered; workers sweep without it"),
    Row("F13", "Redis is full, drops keys, or has become read-only", "Nothing lost; it is shown; work goes on"),
    Row("F14", "Redis fails over to a copy that is behind", "Hints that come twice or never change nothing"),
    Row("F15", "The connection to Redis is half open: nothing arrives, nothing is closed", "Work goes on by sweeps; "
        "the connection is made anew"),
    Row("F16", "A hint comes a hundred times, out of order, or an hour late", "The same end; nothing is done twice"),
    Row("F17", "A hint is garbage: no JSON, an unknown task, huge, of a wrong type, forged", "It is dropped and told "
        "of; the worker lives; nothing of it is executed"),
    Row("F18", "Two beats tick, or none", "Nothing is done twice; workers sweep by themselves"),
    Row("F19", "PostgreSQL is killed in the middle of a commit", "What was answered is there; what was not is read "
        "again, and done once"),
    Row("F20", "PostgreSQL reports a deadlock, a serialization failure or a lock timeout", "The whole transaction is "
        "tried again, a few times; nothing half"),
    Row("F21", "PostgreSQL gives no more connections", "Requests are told to come later; nothing half"),
    Row("F22", "SQLite is locked by another writer, or its writer is killed", "Tried again; the file stays whole"),
    Row("F23", "The disk is full", "New work is refused, what is there stays whole, and goes on when there is room"),
    Row("F24", "A migration is interrupted", "It can be run again; an older version refuses a newer database"),
    Row("F25", "Clocks are wrong by an hour, or differ between machines", "Leases go by the database's time; nothing "
        "runs twice for it"),
    Row("F26", "The answer to a submission is lost; the site has accepted", _FOUND),
    Row("F27", "A submission is answered with 500, 502 or 504; the site has accepted", _FOUND),
    Row("F28", "A submission is refused: allocation exhausted, unknown account", "Not repeated; failed or sent "
        "elsewhere as the document says, with the site's words"),
    Row("F29", "The site answers 429 with Retry-After, again and again", "It is obeyed; that is no outage"),
    Row("F30", "A token expires in the middle of a stage and is not renewed", "A person is asked; that is no outage"),
    Row("F31", "A site's API does not answer, the job runs on, and the API returns", "The stage is shown as "
        "unreachable; one product; a copy left behind is ended"),
    Row("F32", "Both sites run the stage, and the old copy ends first, last, or at the same look", "Exactly one "
        "product; the other copy is put away"),
    Row("F33", "A site returns and does not know the job any more", "Neither success nor failure is inferred: the exit "
        "record and the outputs decide"),
    Row("F34", "A site says «done», and outputs are missing or truncated, or nothing was recorded", "No product of it; "
        "a new attempt"),
    Row("F35", "A site's status flaps every half minute", "One failover at most, until it has answered for a while"),
    Row("F36", "The status page is green and submissions fail; or red, and all is well", "What was measured wins"),
    Row("F37", "The broker's own network is down, so that all sites seem to be", "No failover; nobody is called down"),
    Row("F38", "A job is preempted with a signal, or without one, by a real scheduler", "It goes on from the newest "
        "verified checkpoint"),
    Row("F39", "A checkpoint is torn, has a flipped bit, is of another version, or an older one is replayed", "It is "
        "rejected; the one before is used"),
    Row("F40", "A transfer is stuck, partial or damaged; its credential is paused; its submission is repeated", "One "
        "transfer under one id; nothing counts unverified"),
    Row("F41", "The site that took over goes down as well; all sites are down", "Nothing lost; it goes on at a third "
        "one or waits, and does not wander"),
    Row("F42", "A thousand stages fail over together", "Sites get no more than their rate; nothing lost"),
    Row("F43", "A real scheduler restarts, loses its accounting, or starts a job again by itself", "The same job under "
        "the same key goes on; no second one"),
    Row("F44", "An operator's cancel or drain races the end of the stage", "A product, or a canceled stage: never "
        "both; the operator is told which"),
    Row("F45", "Two operators, or two brokers, act on one stage", "One after the other; nothing is done twice; both "
        "are told what became of it"),
    Row("F46", "The database is put back to an old backup", "Sites are reconciled first; no job runs again that is "
        "there, or was"),
    Row("F47", "Everything is killed at once, as when the power fails", "Nothing lost that was answered; one product"),
    Row("F48", "An input is missing at the site, or cut short, when the job starts", "The payload does not start; the "
        "copy counts as lost; the input is brought again, or the stage goes on elsewhere"),
    Row("F49", "A file is larger than its target takes, or than there is room", "Refused before it is carried where "
        "that is known, else told as a lack of room; nothing of it is in place"),
)  # fmt: skip

IN_SCOPE = frozenset(row.name for row in ROWS if not row.later)
