"""Telling people in time. What people call a notice is an alert here: the rows called notices are what operators say
(`broker.operating`). An alert is a row first, written by the decision (or the watch) that it tells of; it is
sent under its own claim until it has arrived, and again until somebody acknowledges it or what it tells of has passed.

`kinds` (the words), `rows` (what is kept, and when the next sending is due; pure), `allowed` (whom this installation
lets itself tell), `channels` (a command, a mail, a webhook), `sending` (one pass), `teller` (when passes are made),
`standing` (what no run's decision sees: credentials, overrides, sites dark together), `acking` (what people do).
"""
