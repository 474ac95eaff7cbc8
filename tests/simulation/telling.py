"""A story in lines, for whoever looks into a seed that failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from simulation.play import Player


def told(player: Player) -> list[str]:
    """The weather, the stages, and all that happened, in order of time."""
    return [*_setting(player), *(f"{(at - player.start) / 1e6:10.3f} {words}" for at, words in sorted(_events(player)))]


def _setting(player: Player) -> Iterator[str]:
    story = player.story
    for ordeal in story.ordeals:
        config = ordeal.config
        yield f"site {config.name}: slots {config.slots}, {dict(config.options)}"
        for fault in ordeal.faults:
            said = {item.name: getattr(fault, item.name) for item in fields(fault)}
            yield f"    {type(fault).__name__} {said}"
    for stage in story.stages:
        yield f"stage {stage.name}: {stage.sim}; needs {stage.needs}; takes {stage.inputs}; {dict(stage.rules)}"
    yield f"commands {story.commands}, drains {story.drains}, clears {story.clears:.0f}"
    yield f"split {story.split}, shared {story.shared}"


def _events(player: Player) -> Iterator[tuple[int, str]]:
    for event in player.store.events(player.run_id):
        yield event.at, f"{event.kind} {event.stage}@{event.attempt} {event.data}"
    for name, site in player.sites.items():
        for event in player.store.events(f"site:{name}"):
            yield event.at, f"    site {name} {event.kind} {event.data}"
        for job in site.model.journal.accepted:
            yield job.at, f"        at {name}: accepted {job.key} as {job.native_id}"
        for run in site.model.journal.executions:
            end = "never" if run.ended_at is None else f"{(run.ended_at - player.start) / 1e6:.3f}"
            words = f"{run.key} as {run.native_id}, generation {run.generation}, {run.how or 'runs'}, ended {end}"
            yield run.started_at, f"        at {name}: ran {words}, from checkpoint {run.restore_seq}"
