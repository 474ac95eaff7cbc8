"""Looking at sites: what became of our jobs, what lies in the spool, and whether a site answers at all."""

from broker.watch.jobs import GATED_EXIT
from broker.watch.logs import LOG_BYTES
from broker.watch.look import Watcher
from broker.watch.looked import Looked
from broker.watch.records import SPOOL

__all__ = ["GATED_EXIT", "LOG_BYTES", "SPOOL", "Looked", "Watcher"]
