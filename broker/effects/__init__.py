"""The only hands: every effect on the outside world, by its key, safe to repeat.

An effect is a row first, written by the decision that wants it. `Hands.perform` does what claimed rows say and
answers with sightings; the caller records them. Nothing here decides what follows.
"""

from broker.effects.hands import Hands, JobCache

__all__ = ["Hands", "JobCache"]
