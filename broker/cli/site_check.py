"""`site check`: what works at a site, what does not, and what mends it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from broker.cli.options import duration, output_option
from broker.cli.output import cell, emit, table
from broker.cli.session import Session, note
from broker.errors import SiteDark, UsageError

if TYPE_CHECKING:
    from broker.service import Service
    from broker.trial import Trial
    from connectors.model import Finding

_CAPABILITY = {
    "credentials": "credentials",
    "expiry": "credentials",
    "status": "status",
    "files": "files",
    "submit": "submit",
    "canary": "submit",
}
"""What the steps say something about; the others leave no evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    site: str
    connector: str
    proven: str
    trial: Trial


@click.command()
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Check every site of the site document.")
@click.option("--canary", is_flag=True, help="Submit jobs of seconds, too, and see one of them win the claim.")
@click.option(
    "--timeout", type=duration, default="10m", metavar="TIME", show_default=True, help="How long the canary may take."
)
@output_option
@click.pass_obj
def check(session: Session, name: str | None, every: bool, canary: bool, timeout: float, output: str) -> None:
    """Try a site step by step: credentials, expiry, status, allocation, files, submitting, collection, claim.

    Without --canary nothing is submitted; a small file is written and removed. Each failure is told with what mends
    it. Exit code 5: something does not work, or the site gives no answer.
    """
    service = session.service
    if (name is None) == (not every):
        raise UsageError("name a site, or --all", help=f"sites are: {', '.join(service.sites.configs)}")
    names = list(service.sites.configs) if name is None else [name]
    for one in names:
        service.site(one)  # refuses a site that nobody knows
    checked = []
    for one in names:
        if canary:
            note(f"{one}: jobs of seconds are submitted; waiting for them for {timeout:.0f} s at most")
        checked.append(_check(service, one, canary_seconds=timeout if canary else None))
    views = [_view(one) for one in checked]
    emit(views if every else views[0], output=output, text=lambda: "\n\n".join(map(_text, checked)))
    _raise_for(checked)


def _check(service: Service, name: str, *, canary_seconds: float | None) -> _Checked:
    from broker.canary import Patience  # noqa: PLC0415 - imports Celery, as what follows
    from broker.clock import wall_clock  # noqa: PLC0415
    from broker.ids import random_bits  # noqa: PLC0415
    from broker.proven import proof_of  # noqa: PLC0415
    from broker.serving import connect  # noqa: PLC0415
    from broker.trial import Trial, try_site  # noqa: PLC0415
    from connectors.model import Finding  # noqa: PLC0415

    config = service.sites.configs[name]
    patience = None
    if canary_seconds is not None:
        patience = Patience(seconds=canary_seconds, sleep=time.sleep, elapsed=time.monotonic)
    try:
        connected = connect(service.settings, replace(service.sites, configs={name: config}), service.store)
    except UsageError as error:
        wrong = Finding(step="credentials", ok=False, detail=str(error), help=error.help)
        trial = Trial(findings=[wrong], dark=False)
    else:
        try:
            trial = try_site(
                connected.sites[name],
                connected.configs[name],
                service.store.installation(),
                clock=wall_clock,
                bits=random_bits,
                canary=patience,
            )
        finally:
            connected.close()
    _keep(service, name, trial.findings)
    return _Checked(site=name, connector=config.connector, proven=str(proof_of(config.connector)), trial=trial)


def _keep(service: Service, name: str, findings: Sequence[Finding]) -> None:
    """One row of evidence for each capability that was tried: the worst that was found."""
    from broker.clock import wall_clock  # noqa: PLC0415
    from broker.store.base import EvidenceRow, Sightings  # noqa: PLC0415
    from connectors.secrets import scrub  # noqa: PLC0415
    from policies.evidence import CANARY, PROBE  # noqa: PLC0415

    worst: dict[str, Finding] = {}
    for finding in findings:
        capability = _CAPABILITY.get(finding.step)
        if capability and finding.ok is not None and (capability not in worst or not finding.ok):
            worst[capability] = finding
    now = wall_clock()
    rows = [
        EvidenceRow(name, now + i, c, bool(f.ok), 0, scrub(f.detail)[:300], CANARY if f.step == "canary" else PROBE)
        for i, (c, f) in enumerate(worst.items())
    ]
    service.store.record(Sightings(evidence=rows), now=now)


def _view(checked: _Checked) -> dict[str, object]:
    from connectors.secrets import scrub  # noqa: PLC0415

    return {
        "site": checked.site,
        "ok": checked.trial.ok,
        "connector": checked.connector,
        "proven": checked.proven,
        "checks": [
            {"step": f.step, "ok": f.ok, "detail": scrub(f.detail), "help": scrub(f.help)}
            for f in checked.trial.findings
        ],
    }


def _text(checked: _Checked) -> str:
    from broker.views import clean_text  # noqa: PLC0415
    from connectors.secrets import scrub  # noqa: PLC0415

    rows, cures = [], []
    for f in checked.trial.findings:
        rows.append([f.step, _word(f.ok), cell(clean_text(scrub(f.detail)))])
        if f.help and f.ok is not True:
            cures.append(f"  {f.step}: {cell(clean_text(scrub(f.help)))}")
    parts = [f"{checked.site}", table(("step", "result", "detail"), rows, empty="")]
    if cures:
        parts += ["what helps:", *cures]
    parts.append(f"connector {checked.connector}: {checked.proven}")
    return "\n".join(parts)


def _word(ok: bool | None) -> str:
    return "-" if ok is None else "ok" if ok else "FAILED"


def _raise_for(checked: Sequence[_Checked]) -> None:
    """The exit code says what the checks found: nothing wrong, no answer, or something else."""
    bad = [one for one in checked if not one.trial.ok]
    if not bad:
        return
    first = next((one for one in bad if one.trial.dark), bad[0])
    failed = next(f for f in first.trial.findings if f.ok is False)
    words = f"site {first.site} does not work: {failed.step}: {failed.detail}"
    raise SiteDark(words, help=failed.help or "mend it there")
