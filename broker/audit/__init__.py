"""What must hold of a run's rows at any moment between two transactions. Pure, but for reading the rows.

`crossfade db check`, the benchmarks and the simulation's tests use the same rules. A rule is named for the invariant
that it sees part of; of those that no row can show, the tests that do are named:

I1   at most one product per stage, and of an attempt that succeeded; a stage that succeeded has its product, and
     tells of it once
I2   a product carries its attempt's epoch; one that was not adopted, its stage's
I3   attempts are numbered from 1 without gaps, their epochs never fall, and the stage knows the newest; no row has
     changed more often than its version says
I4   what was submitted had its effect, with its key, committed before
I5   at most one attempt per stage is open without being an orphan, and it is the current one; keys are unique
I6   a stage whose copies may not overlap has no open copy beside its current attempt
I7   an attempt is open as long as its state is not final, and of a run that is over only what is left behind is open;
     that was asked to end soon after its site answered
I8   a run that has something to do is due, or something is under way for it; leases, claims and pauses have an end
I9   a wake-up that is lost is sent again: none counts as sent in times to come. Losing the whole queue:
     tests/service, tests/simulation/test_simulation.py
I10  [tests/simulation/test_simulation.py] messages that are lost, doubled and late lead to the same end
I11  [tests/contract/test_store_leases.py, tests/simulation/test_net_is_taut.py] whose lease has lapsed changes nothing
I12  a state that waits for an effect has that effect; what is over wants none any more; the events tell every step
     of every attempt, each step is lawful, and the last one is the row's state
I13  what is over was told in the transaction that ended it. Crashes at every point:
     tests/simulation/test_crash_points.py, test_crash_pairs.py and test_crash_points_on_postgres.py
I14  a product's files have been verified, and its payload came to a good end
I15  a restart uses a checkpoint that was verified, and no older one than the newest known as good there
I16  [tests/unit/test_limits.py] no site gets more submissions than it allows
I17  a failover goes to a site that answers, so it was not our own network that was down
I18  every attempt has the decision that placed it, and every further one a decision why; decisions hang on the events
     that tell of them; a site is left only while it is seen not to answer
I19  the run's chain of events holds
I20  [tests/unit/test_api.py, tests/unit/test_api_listen.py] no secret in logs, events, errors and job scripts
I21  [tests/contract/test_store_runs.py, tests/contract/test_store_faults.py] what was accepted is stored whole
I22  [tests/contract/test_store_runs.py] a client's key stands for one request
I23  after a cancel was carried out, no product, no new attempt and no new submission
I24  tries, moves and segments are no more than the document allows, and each attempt has a cause of its own
counters   the run's and the stages' counts are what the rows say
"""

from broker.audit.reading import CHECKED, audit_run
from broker.audit.rows import RunRows, Violation
from broker.audit.rules import audit
from broker.audit.whole import Checked, check_all, check_run

__all__ = ["CHECKED", "Checked", "RunRows", "Violation", "audit", "audit_run", "check_all", "check_run"]
