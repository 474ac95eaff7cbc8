"""What the policies see, and the Decision they return. Frozen values; times in µs UTC, durations in seconds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from connectors.errors import Fault
from connectors.model import LaneLimits, Resources, Tariff


@dataclass(frozen=True, slots=True)
class Reason:
    """One rule's word on one fact."""

    rule: str
    """The rule's name, as `explain` and the reference print it."""
    verdict: str
    """chosen, for, against, refused, or the action that the rule asks for."""
    fact: str
    """What the rule saw, as a sentence."""
    site: str = ""


@dataclass(frozen=True)
class Decision:
    """An outcome, why, and what was seen. The log line, `explain`, the runbook and the tests print this object."""

    kind: str
    """placement, failover, leaving, closed, retry, checkpoint, interval, ship, prune, deadline, command."""
    outcome: str
    """A word that the engine acts on; each policy lists its own."""
    reasons: Sequence[Reason]
    """In the order in which the rules were asked."""
    site: str = ""
    until: int | None = None
    """When the same question should be asked again."""
    facts: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def json(self) -> str:
        """Compact JSON with every field."""
        return json.dumps(
            {
                "kind": self.kind,
                "outcome": self.outcome,
                "site": self.site,
                "until": self.until,
                "reasons": [[r.rule, r.verdict, r.fact, r.site] for r in self.reasons],
                "facts": self.facts,
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Decision:
        """The inverse of `json`."""
        data = json.loads(text)
        return cls(
            kind=data["kind"],
            outcome=data["outcome"],
            site=data["site"],
            until=data["until"],
            reasons=tuple(Reason(*reason) for reason in data["reasons"]),
            facts=data["facts"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRule:
    """`policy.sites`: names of sites, of facilities or of profiles."""

    allow: tuple[str, ...] = ()
    """Empty: every site."""
    prefer: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverRule:
    """`policy.failover`."""

    act: str = "auto"
    """auto, ask, or never (which still decides and prints)."""
    after: float = 900.0
    """Seconds of silence before a stage is carried elsewhere."""
    max: int = 3
    old_copy: str = "kill"
    """kill, drain or leave: what happens to the copy left behind when its site answers again."""
    failback: str = "next_stage"
    """next_stage or never: whether a run goes home when the site that it left is well again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """`retry`: how often, by whose fault it was."""

    site_fault: int = 3
    app_fault: int = 0
    exit_codes: Mapping[int, str] = field(default_factory=dict)
    """Exit code to fail, retry, continue or more_memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinueRule:
    """`continue`: when an end is only the end of a segment."""

    time_limit: bool = False
    exit_codes: frozenset[int] = frozenset()
    max: int = 100
    no_progress: int = 2
    """Stop when that many segments in a row brought no newer checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRule:
    """What the policies need to know of `checkpoint`."""

    ship: str = "auto"
    """auto, never or always."""
    keep: int = 2
    """How many checkpoints stay at the site, and how many copies at each other one."""
    asked: bool = False
    """Can the payload be asked for one?"""
    asked_at_best: bool = False
    """Is the payload asked for checkpoints, at the interval that is best?"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRule:
    """`policy.data`: where data may be."""

    export_control: bool = False
    """Only at sites and places with that clearance."""
    stay: tuple[str, ...] = ()
    """Names of sites, facilities, profiles or places; empty: anywhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineRule:
    """`policy.deadline` of a stage: until when it is to be done."""

    within: float
    """Seconds."""
    since: str = "submit"
    """event, submit or ready: what they are counted from."""
    on_miss: str = "continue"
    """continue or cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """`resources` by ranks: how many nodes they fill is a site's to say."""

    count: int
    cores: int = 1
    """For each rank, as are gpus and memory (bytes; 0: the site's default)."""
    gpus: int = 0
    memory: int = 0
    nodes: int = 0
    """Spread over so many; 0: as many as they need."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """A bound on what may be spent, in millionths; None: none of that kind."""

    node_hours: int | None = None
    usd: int | None = None

    def over(self, said: Cap) -> Cap:
        """Itself, with what another one says in its place."""
        return Cap(
            node_hours=said.node_hours if said.node_hours is not None else self.node_hours,
            usd=said.usd if said.usd is not None else self.usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """`policy.budget` of a run or of a stage."""

    cap: Cap = field(default_factory=Cap)
    per_site: Mapping[str, Cap] = field(default_factory=dict)
    """By the name of a site, a facility or a profile."""
    resilience: float | None = None
    """The part of the cap that copies beside each other and lost work may take; None: as much as there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a stage asks of the policies, for one site or in general."""

    sites: SiteRule = field(default_factory=SiteRule)
    failover: FailoverRule = field(default_factory=FailoverRule)
    retry: RetryRule = field(default_factory=RetryRule)
    continuation: ContinueRule | None = None
    checkpoint: CheckpointRule | None = None
    resources: Resources = field(default_factory=Resources)
    ranks: Ranks | None = None
    """Not None: nodes, cores, gpus and memory follow from it at each site (policies.fit)."""
    lane: tuple[str, ...] = ()
    """Lanes to be in, best first; empty: the normal one."""
    duplicates: str = "allow"
    """allow, never or ask: may copies overlap?"""
    required: bool = True
    data: DataRule | None = None
    """None: data may be anywhere."""
    budget: BudgetRule | None = None
    """The run's, for all of its stages together."""
    own_budget: BudgetRule | None = None
    """The stage's own, within the run's."""
    near: int | None = None
    """The number of the stage whose files it would rather be beside."""
    deadline: DeadlineRule | None = None
    """The stage's own."""
    skip: str = ""
    """Why the document does not want it run with these params; empty: it does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """A site as the policies see it at one moment."""

    name: str
    facility: str
    profile: str = ""
    slots: int
    load: int
    """Attempts there that are not final, of all runs."""
    share: int
    """How many more this run may start there now (its fair share of the free slots)."""
    cores: int = 0
    """Per node; 0: not known, not checked."""
    gpus: int = 0
    """Per node; 0: none."""
    memory: int = 0
    """Bytes per node; 0: not known, not checked."""
    nodes: int = 1
    max_walltime: float | None = None
    lanes: Mapping[str, LaneLimits] = field(default_factory=dict)
    """The lanes that there are, beside the normal one."""
    claim: str = "atomic_fs"
    drained: str = ""
    """Not empty: an operator drained it, and said why."""
    frozen: str = ""
    """Not empty: an operator has frozen submissions there, and said why and until when."""
    quarantined: bool = False
    """A backup was restored, and its jobs of the lost hours are not known yet."""
    losses_every: float = 30 * 86_400.0
    """Seconds, on average, between two losses of the site together with its disks."""
    window_at: int | None = None
    """When the next announced maintenance begins; None: none is announced."""
    window_until: int | None = None
    """When that one ends; None: nobody says."""
    cannot_ask_since: int | None = None
    probes: int = 0
    """Failed looks since then."""
    silent: bool = False
    """Both budgets (looks and seconds) are spent: it counts as unreachable."""
    detail: str = ""
    doubt: str = ""
    """Not empty: it fell silent together with others, so that the fault is more likely ours (`policies.doubt`)."""
    refuses: str = ""
    """Not empty: why nothing is sent there now, as its health is judged (`policies.health`)."""
    unwell: str = ""
    """Not empty: it works, but not well."""
    returning: str = ""
    """Not empty: it was down, answers again, and has to hold for a while first."""
    compute_down: str = ""
    """Not empty: what says that the machine itself is down, not its interface alone."""
    heard: str = ""
    """Not empty: what of it was seen to work although it gives no answer."""
    failovers_per_minute: int = 60
    """How many stages may be carried there within a minute."""
    clearance: frozenset[str] = frozenset()
    """Kinds of data that may be there, beside what may be anywhere."""
    tariff: Tariff | None = None
    """How what runs there is charged; None: it is not."""

    @property
    def answers(self) -> bool:
        return self.cannot_ask_since is None


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """One copy of one verified checkpoint."""

    attempt: int
    generation: int
    seq: int
    site: str
    path: str
    bytes: int
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How an attempt ended without a product."""

    fault: Fault
    site: str
    exit_code: int | None = None
    detail: str = ""
    restored_seq: int | None = None
    """The checkpoint it had started from."""
    newest_seq: int | None = None
    """The newest checkpoint that this attempt itself brought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """What a stage has used up so far."""

    site_retries: int = 0
    app_retries: int = 0
    failovers: int = 0
    continuations: int = 0
    stalled: int = 0
    memory_raises: int = 0
