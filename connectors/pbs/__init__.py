"""PBS's own words, shared by all that speak to one: the head of its job scripts, its records, its states and comments.

No connector: whoever reaches a PBS, by commands or by a facility's API, comes by them here.
"""

from connectors.pbs.jobs import PbsJob, job_of, jobs_of_text
from connectors.pbs.script import directives, job_script, label_text
from connectors.pbs.words import fatal_comment, state_of

__all__ = ["PbsJob", "directives", "fatal_comment", "job_of", "job_script", "jobs_of_text", "label_text", "state_of"]
