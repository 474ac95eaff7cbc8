"""Every verb: where it is written, and its line in the help. The order is the help's order."""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """Where a verb is, so that the help can tell of it without importing it."""

    name: str
    module: str
    """Below `broker.cli`; the command there has the verb's name, a keyword's with `_` after it."""
    help: str


COMMON = (
    Verb("init", "init", "Write a first workflow and site document here."),
    Verb("validate", "document", "Check a workflow document, and store nothing."),
    Verb("plan", "document", "Say where each stage would start now, and why not elsewhere."),
    Verb("submit", "submit", "Store a run for whoever serves, and return."),
    Verb("run", "run", "Submit, serve here if nobody does, and watch to the end."),
    Verb("status", "status", "Show a run; without RUN: sites, unfinished runs, who must act."),
    Verb("queue", "lists", "List the unfinished runs."),
    Verb("explain", "explain", "Say in words why each thing was decided."),
    Verb("logs", "logs", "Show what a stage printed."),
    Verb("cancel", "change", "End a run or a stage for good."),
    Verb("retry", "change", "Give a failed or waiting stage all its tries again."),
    Verb("site", "site", "List, add, check, drain and resume sites."),
)
"""The twelve that the help shows first."""

OTHERS = (
    Verb("example", "example", "List the shipped examples, or write one here."),
    Verb("history", "lists", "List all runs, newest first."),
    Verb("timeline", "lists", "Tell what happened to a run, in order."),
    Verb("errors", "lists", "Show how attempts ended badly, with the end of their stderr."),
    Verb("checkpoints", "checkpoints", "Show checkpoints, where copies are, and the work at risk."),
    Verb("where", "where", "Show which sites and places hold a product, and how sure that is."),
    Verb("get", "get", "Copy a run's products here."),
    Verb("answer", "answer", "Answer a stage that waits for a person."),
    Verb("hold", "change", "Start nothing new of a run."),
    Verb("release", "change", "Let a held run go on."),
    Verb("waiver", "waiver", "Ask for, confirm, withdraw and list waivers of where data may be."),
    Verb("budget", "budget", "Show what was spent and what is left; set bounds."),
    Verb("ack", "notices", "Say that you take care of what was told."),
    Verb("notices", "notices", "List who was told of what, and whether it has arrived."),
    Verb("freeze", "freeze", "Keep the broker from moving or submitting work, for a while."),
    Verb("maintenance", "maintenance", "Announce, plan, list and take back maintenance of sites."),
    Verb("move", "change", "Carry a run or a stage to another site."),
    Verb("attempt", "attempt", "List and show attempts; take over or end those left behind."),
    Verb("transfer", "transfer", "List, show, cancel and retry transfers."),
    Verb("keep", "keep", "List what declared `keep`s remove, and remove what is due."),
    Verb("login", "login", "Log in to a site: open its connection, or keep its token."),
    Verb("credential", "credential", "List and check what the sites' credentials refer to."),
    Verb("serve", "serve", "Serve this home until stopped."),
    Verb("worker", "work", "Work for a service, beside others."),
    Verb("beat", "work", "Ask a service's workers for sweeps."),
    Verb("health", "work", "Say whether a service's processes get on."),
    Verb("runbook", "runbook", "Find and print the page for what you see."),
    Verb("doctor", "doctor", "Check this installation."),
    Verb("db", "db", "Check, back up and upgrade the database."),
    Verb("schema", "document", "Print the JSON Schema of a document."),
    Verb("policy", "policy", "Try a policy over recorded outages before it decides anything."),
    Verb("sandbox", "sandbox", "Put up four rehearsal facilities on this machine, or take them down."),
    Verb("drill", "drill", "Rehearse outages under a virtual clock, and hold what they cost against bounds."),
    Verb("demo", "demo", "Lose a site half-way through a reconstruction, and watch it go on elsewhere."),
    Verb("bench", "bench", "Measure how fast the broker is on this machine."),
    Verb("completion", "completion", "Print a shell's completion script."),
)

VERBS = {verb.name: verb for verb in (*COMMON, *OTHERS)}
