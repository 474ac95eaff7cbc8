"""Removing what a declared `keep` names, when its time has come: the only hands that ever delete data.

`enrol` writes down what a site's own `keep` will remove, `looking` sees what lies where, `policies.retention` judges,
and `removing` does it, one entry at a time in the whole installation.
"""

from broker.retention.keeper import Keeper
from broker.retention.removing import Outcome, Retention

__all__ = ["Keeper", "Outcome", "Retention"]
