"""Fault scripts: what is to go wrong in a rehearsal, to which request or job, or when. Read from YAML.

```yaml
faults:
- {fault: reply_lost, facility: nersc, method: POST, path: /compute/jobs/, nth: 2}
- {fault: preempt, facility: nersc, job: "sweep.*", after: 5, requeue: false}
- {fault: outage, facility: alcf, at: 60, for: 30, planned: true, resource: polaris}
```
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from connectors.registry import Clock
from sandbox.faces.http import Request
from sandbox.script_names import MATCHERS, NAMES, TIMED, By

_COMMON = frozenset({"fault", "facility"})
_COUNTED = frozenset({"nth", "times", "from", "until"})
_TIMED = frozenset({"at", "for"})
_LONGEST = 1 << 20
"""Bytes of a script."""


class BadScript(ValueError):
    """The fault script says something that the sandbox does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One line of a script. Times are seconds after the sandbox began."""

    fault: str
    facility: str = ""
    face: str = ""
    method: str = ""
    path: re.Pattern[str] | None = None
    job: re.Pattern[str] | None = None
    nth: int = 1
    """From which matching occasion on."""
    times: int = 1
    """How often; 0: always."""
    since: float = 0.0
    until: float | None = None
    at: float = 0.0
    lasts: float | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    def fits(self, request: Request | None, job: str) -> bool:
        if self.job is not None and not self.job.search(job):
            return False
        if not (self.face or self.method or self.path):
            return True
        return (
            request is not None
            and self.face in ("", request.face)
            and self.method in ("", request.method)
            and (self.path is None or self.path.search(request.path) is not None)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """A fault that has happened: for tests, and for whoever watches."""

    at: int
    fault: str
    facility: str
    what: str


class FaultScript:
    """Rules, and how often each has been met. Thread-safe. `of(facility)` gives the port that faces ask."""

    def __init__(self, rules: Sequence[Rule], clock: Clock) -> None:
        self.rules = tuple(rules)
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._met = [0] * len(self.rules)
        self._happened: list[Happened] = []

    @property
    def began(self) -> int:
        return self._began

    @property
    def happened(self) -> Sequence[Happened]:
        """What has gone wrong so far, the oldest first; at most some thousands."""
        with self._lock:
            return tuple(self._happened)

    def of(self, facility: str) -> FacilityFaults:
        return FacilityFaults(self, facility)

    def timed(self, facility: str, *, by: By = By.TIME) -> Sequence[Rule]:
        """What happens there by the clock."""
        return [rule for rule in self.rules if NAMES[rule.fault].by is by and rule.facility in ("", facility)]

    def take(self, name: str, facility: str, request: Request | None, job: str) -> Mapping[str, Any] | None:
        if not self.rules:
            return None
        now = self._clock()
        seconds = (now - self._began) / 1e6
        with self._lock:
            for index, rule in enumerate(self.rules):
                if rule.fault != name or rule.facility not in ("", facility) or not rule.fits(request, job):
                    continue
                if seconds < rule.since or (rule.until is not None and seconds >= rule.until):
                    continue
                self._met[index] += 1
                if self._met[index] >= rule.nth and (not rule.times or self._met[index] < rule.nth + rule.times):
                    self._note(now, name, facility, request, job)
                    return rule.params
        return None

    def _note(self, now: int, name: str, facility: str, request: Request | None, job: str) -> None:
        what = job if request is None else f"{request.method} {request.path}"
        if len(self._happened) < 10_000:
            self._happened.append(Happened(at=now, fault=name, facility=facility, what=what[:300]))


class FacilityFaults:
    """One facility's part of a script: the port `sandbox.facility.FaultScript`."""

    def __init__(self, script: FaultScript, facility: str) -> None:
        self._script, self._facility = script, facility

    def take(self, name: str, request: Request | None = None, *, job: str = "") -> Mapping[str, Any] | None:
        return self._script.take(name, self._facility, request, job)


def script_of(*rules: Mapping[str, Any], clock: Clock) -> FaultScript:
    """A script from rules as YAML has them. Raises BadScript."""
    return FaultScript([parse_rule(rule) for rule in rules], clock)


def read_script(path: Path, clock: Clock) -> FaultScript:
    """A script from a file. Raises BadScript, OSError."""
    with path.open("rb") as file:
        text = file.read(_LONGEST + 1)
    if len(text) > _LONGEST:
        raise BadScript(f"{path}: larger than {_LONGEST} bytes")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadScript(f"{path}: {error}") from error
    rules = document.get("faults") if isinstance(document, dict) else None
    if not isinstance(rules, list) or set(document) != {"faults"}:
        raise BadScript(f"{path}: a fault script is `faults:` and a list")
    found = []
    for number, rule in enumerate(rules, 1):
        try:
            found.append(parse_rule(rule))
        except BadScript as error:
            raise BadScript(f"{path}: rule {number}: {error}") from error
    return FaultScript(found, clock)


def parse_rule(words: object) -> Rule:
    """One rule. Raises BadScript with what there is."""
    if not isinstance(words, Mapping) or not all(isinstance(word, str) for word in words):
        raise BadScript(f"a rule is a map such as {{fault: reply_lost, method: POST}}, not {words!r:.100}")
    fault = words.get("fault")
    if not isinstance(fault, str) or fault not in NAMES:
        raise BadScript(f"no fault {fault!r:.100}; there are: {', '.join(NAMES)}")
    name = NAMES[fault]
    known = _COMMON | MATCHERS[name.by] | (_TIMED if name.by in TIMED else _COUNTED)
    for word in words:
        if word not in known and word not in name.words:
            raise BadScript(f"{fault}: no word {word!r}; there are: {', '.join(sorted({*known, *name.words}))}")
    return Rule(
        fault=fault,
        facility=_text(words, "facility"),
        face=_text(words, "face"),
        method=_text(words, "method").upper(),
        path=_pattern(words, "path"),
        job=_pattern(words, "job"),
        nth=_whole(words, "nth", 1, least=1),
        times=_whole(words, "times", 1, least=0),
        since=_seconds(words, "from") or 0.0,
        until=_seconds(words, "until"),
        at=_seconds(words, "at") or 0.0,
        lasts=_seconds(words, "for"),
        params={word: value for word, value in words.items() if word in name.words},
    )


def _text(words: Mapping[str, Any], name: str) -> str:
    value = words.get(name, "")
    if not isinstance(value, str):
        raise BadScript(f"{name} must be text, not {value!r:.100}")
    return value


def _pattern(words: Mapping[str, Any], name: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if (text := _text(words, name)) else None
    except re.error as error:
        raise BadScript(f"{name}: {error}") from error


def _whole(words: Mapping[str, Any], name: str, default: int, *, least: int) -> int:
    value = words.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadScript(f"{name} must be a whole number from {least} on, not {value!r:.100}")
    return value


def _seconds(words: Mapping[str, Any], name: str) -> float | None:
    value = words.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise BadScript(f"{name} must be seconds, not {value!r:.100}")
    return float(value)
