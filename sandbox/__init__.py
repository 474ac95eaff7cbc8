"""A rehearsal stage: one model of a batch site, and faces over it."""
