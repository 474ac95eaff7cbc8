"""What no run's decision leads to: sites dark together, credentials and overrides that end. One notice for each."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from alert_kit import alerts, submit
from broker_kit import Lab, Stage, site

from broker.alerts.standing import Lookout
from broker.clock import micros
from sandbox.faults import Partition

OPS = [("command:ops", ["freeze", "credential_ending", "override_ending"])]
DAY, HOUR = 86_400.0, 3600.0


def dark(lab: Lab, name: str, seconds: float) -> None:
    now = lab.clock()
    lab.sites[name].model.inject(Partition(start=now, end=now + micros(seconds)))


def watch(lab: Lab, seconds: float, *, step: float = 20.0) -> None:
    """Time passes, and somebody looks."""
    end = lab.clock() + micros(seconds)
    while lab.clock() < end:
        lab.step(step)
        lab.broker.lookout.look()


def text(row: Any) -> str:
    return str(json.loads(row.body)["text"])


def test_all_sites_dark_is_one_alert_however_many_there_are_and_whoever_joins() -> None:
    lab = Lab(site("nersc"), site("alcf"), site("olcf"), notify=OPS)
    run = submit(lab, *(Stage(f"s{i}", "seconds=9000") for i in range(3)), notify=[("mailto:a@b.org", ["freeze"])])
    watch(lab, 30)
    for name in ("nersc", "alcf"):
        dark(lab, name, 1200)
    watch(lab, 100)
    dark(lab, "olcf", 600)
    watch(lab, 1000)
    found = alerts(lab, "freeze")
    assert sorted((row.address, row.run_id) for row in found) == [("command:ops", ""), ("mailto:a@b.org", run)]
    assert all(row.repeats and row.over_at is None for row in found)
    assert "alcf, nersc fell silent together" in text(found[0])
    watch(lab, 600)
    assert all(row.over_at is not None for row in alerts(lab, "freeze"))
    for name in ("nersc", "alcf"):
        dark(lab, name, 300)
    watch(lab, 120)
    assert len(alerts(lab, "freeze")) == 4  # another time is another alert


def test_one_site_alone_is_no_freeze() -> None:
    lab = Lab(site("nersc"), site("alcf"), notify=OPS)
    submit(lab, Stage("a", "seconds=300"))
    dark(lab, "nersc", 400)
    watch(lab, 300)
    assert alerts(lab) == []


def token(lab: Lab, seconds: float) -> str:
    """A JSON web token that ends so long from now."""
    claims = json.dumps({"exp": lab.clock() / 1e6 + seconds}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


def of_credentials(lab: Lab, env: Mapping[str, str], *, serves: bool = True) -> Lookout:
    return Lookout(lab.store, lab.configs, lab.notify.tell, lab.clock, lambda _: serves, env)


def test_a_credential_is_told_a_week_a_day_and_an_hour_ahead_and_again_once_it_has_ended() -> None:
    lab = Lab(site("nersc", credentials={"token": "env:NERSC"}), notify=OPS)
    env = {"NERSC": token(lab, 9 * DAY)}
    lookout, told = of_credentials(lab, env), []
    for _ in range(10 * 12):
        lookout.look()
        told += [text(row) for row in alerts(lab) if text(row) not in told]
        lab.clock.advance(2 * HOUR)
    words = [line.partition(" ends within ")[2].partition(",")[0] for line in told]
    assert words in (["7 days", "1 day", "1 hour", ""], ["7 days", "1 day", ""])  # who looks every two hours
    assert "has ended" in told[-1]
    assert [row.repeats for row in alerts(lab)][-1] == 1
    assert all(row.over_at is not None and row.over_why == "" for row in alerts(lab)[:-1])
    env["NERSC"] = token(lab, 90 * DAY)
    lab.clock.advance(HOUR)
    lookout.look()
    assert alerts(lab)[-1].over_at is not None
    assert len(alerts(lab)) == len(told)


def test_the_hour_is_told_where_somebody_looks_in_it() -> None:
    lab = Lab(site("nersc", credentials={"token": "env:NERSC"}), notify=OPS)
    of_credentials(lab, {"NERSC": token(lab, 0.9 * HOUR)}).look()
    (row,) = alerts(lab)
    assert "ends within 1 hour" in text(row)
    assert json.loads(row.body)["help"] == "crossfade login nersc"
    assert "e30." not in row.body


def test_who_does_not_have_a_sites_credentials_says_nothing_of_them() -> None:
    lab = Lab(site("nersc", credentials={"token": "env:NERSC"}), notify=OPS)
    of_credentials(lab, {"NERSC": token(lab, HOUR)}).look()
    of_credentials(lab, {}, serves=False).look()
    (row,) = alerts(lab)
    assert row.over_at is None


def test_a_run_with_something_at_the_site_is_told_of_its_credential_and_no_other_run() -> None:
    lab = Lab(site("nersc", credentials={"token": "env:NERSC"}), site("alcf"))
    rules = {"sites": {"allow": ["nersc"]}}
    told = submit(lab, Stage("a", "seconds=300", rules=rules), notify=[("command:page", ["credential_ending"])])
    elsewhere = Stage("b", "seconds=300", rules={"sites": {"allow": ["alcf"]}})
    submit(lab, elsewhere, notify=[("command:page", ["credential_ending"])])
    lab.run_for(20)
    of_credentials(lab, {"NERSC": token(lab, HOUR)}).look()
    assert [row.run_id for row in alerts(lab)] == [told]


def test_an_override_is_told_an_hour_before_it_ends() -> None:
    lab = Lab(site("nersc"), notify=OPS)
    until = lab.clock() + micros(3 * HOUR)
    lab.store.override_site("nersc", state="down", by="ann", reason="disks", until=until)
    watch(lab, 1.9 * HOUR, step=300)
    assert alerts(lab) == []
    watch(lab, 0.3 * HOUR, step=300)
    (row,) = alerts(lab)
    assert text(row).startswith("ann said that nersc is down (disks); that ends at ")
    watch(lab, HOUR, step=300)
    assert alerts(lab)[0].over_at is not None


def test_two_who_look_at_once_tell_once() -> None:
    lab = Lab(site("nersc"), site("alcf"), notify=OPS)
    submit(lab, Stage("a", "seconds=300"))
    other = lab.new_broker()
    for name in ("nersc", "alcf"):
        dark(lab, name, 1000)
    for _ in range(20):
        lab.step(10)
        lab.broker.lookout.look()
        other.lookout.look()
    assert len(alerts(lab, "freeze")) == 1
