"""Replaying outages of real machines: what a policy would have made of them, against baselines and an oracle.

The way of a simulation: `traces` and `queues` (recorded files to values) -> `world` (one start: simulated sites, a
store in memory and the real broker over them) -> `clockwork` (its time, from event to event) -> `compare` (all starts,
with `baselines` and the `oracle`) -> `figures` (what is told of them).
"""
