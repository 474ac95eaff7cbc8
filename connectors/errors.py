"""The error tree of everything that talks to a site.

SiteError
├── SiteUnreachable      no answer: refused, timed out, vanished. Transient. The side effect may have happened.
├── SiteBusy             told to come later (429, queue full). Transient. Nothing happened.
├── CredentialError      401, 403, expired, consent missing. A person must act. Nothing happened. Never an outage.
├── QuotaError           allocation, disk or queue quota exhausted. Nothing happened.
├── RequestRefused       the site understood and said no; repeating changes nothing. Nothing happened.
├── NotThere             the file or folder asked for does not exist (complete answer).
├── BadReply             an answer that makes no sense (HTML for JSON, wrong types, too large). Effect unknown.
└── UnsafePath           a path that would leave its root. Ours or an attacker's fault; nothing happened.

Each class says four things: is it transient, whose fault is it, may the side effect have happened, what helps.
"""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """Whose fault a failure is; decides what happens next (policies.retry)."""

    APPLICATION = "application"
    """The payload itself: a non-zero exit. Going elsewhere would not help."""
    SITE = "site"
    """The site, its nodes, its file system or its software."""
    PREEMPTED = "preempted"
    """Made room for other work; nobody's fault."""
    TIME_LIMIT = "time_limit"
    """Ran into its walltime."""
    MEMORY = "memory"
    """Needed more memory than it had."""
    STAGING = "staging"
    """Data did not arrive, or did not arrive intact."""
    CREDENTIAL = "credential"
    """A token, key or consent is missing or expired: a person must act."""
    QUOTA = "quota"
    """An allocation, a disk or a queue is full."""
    POLICY = "policy"
    """A rule of the document forbids it there."""


class SiteError(Exception):
    """Something went wrong with a site."""

    transient = False
    fault = Fault.SITE
    effect_possible = False
    help = "see `crossfade site check`"

    def __init__(self, message: str, *, site: str = "") -> None:
        super().__init__(message)
        self.site = site


class SiteUnreachable(SiteError):
    """The site gives no answer."""

    transient = True
    effect_possible = True
    help = "wait, or move the work: `crossfade move`"


class SiteBusy(SiteError):
    """The site asks to come back later."""

    transient = True
    help = "lower the site's limits in the site document"

    def __init__(self, message: str, *, site: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, site=site)
        self.retry_after = retry_after
        """Seconds, where the site said so."""


class CredentialError(SiteError):
    """The site does not accept our credential."""

    fault = Fault.CREDENTIAL
    help = "renew the credential, then `crossfade release`"


class QuotaError(SiteError):
    """An allocation, a disk or a queue quota is exhausted."""

    fault = Fault.QUOTA
    help = "free space or ask for more, then `crossfade retry`"


class RequestRefused(SiteError):
    """The site refuses the request as it is."""

    help = "mend the stage's resources or submit words"


class NotThere(SiteError):
    """No such file or folder at the site."""

    fault = Fault.STAGING
    help = "check the outputs that the stage before has written"


class BadReply(SiteError):
    """The site's answer makes no sense."""

    transient = True
    effect_possible = True


class UnsafePath(SiteError):
    """The path would leave its root."""

    fault = Fault.APPLICATION
    help = "use a relative path without `..`"
