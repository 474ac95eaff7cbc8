"""What must hold of a run's rows at any moment between two transactions. Pure, but for reading the rows.

`crossfade db check`, the benchmarks and the simulation's tests use the same rules. A rule is named for the invariant
that it sees part of:

I1   at most one product per stage, and of an attempt that succeeded; a stage that succeeded has its product, and
     tells of it once
I2   a product carries its attempt's epoch; one that was not adopted, its stage's
I3   attempts are numbered from 1 without gaps, their epochs never fall, and the stage knows the newest
I4   what was submitted had its effect, with its key, committed before
I5   at most one attempt per stage is open without being an orphan, and it is the current one; keys are unique
I6   a stage whose copies may not overlap has no open copy beside its current attempt
I7   an attempt is open as long as its state is not final, and of a run that is over only what is left behind is open
I8   a run that has something to do is due, or something is under way for it
I12  a state that waits for an effect has that effect; what is over wants none any more; the events tell every step
     of every attempt, each step is lawful, and the last one is the row's state
I14  a product's files have been verified, and its payload came to a good end
I15  a restart uses a checkpoint that was verified
I18  every attempt has the decision that placed it, and every further one a decision why; a site is left only after
     it was seen not to answer
I19  the run's chain of events holds
I23  after a cancel was carried out, no product, no new attempt and no new submission
counters   the run's and the stages' counts are what the rows say
"""

from broker.audit.reading import audit_run
from broker.audit.rows import RunRows, Violation
from broker.audit.rules import audit
from broker.audit.whole import Checked, check_all, check_run

__all__ = ["Checked", "RunRows", "Violation", "audit", "audit_run", "check_all", "check_run"]
