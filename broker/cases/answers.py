"""What a policy answered, as plain data, held against what a case expects of it.

A map is expected to be among what there is; a list and a single value are expected to be just so. Reasons are written
in words: `RULE VERDICT`, or `RULE VERDICT SITE`; or as a map of those with `says`, a part of the sentence.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any

from broker.cases.values import Misfit
from broker.spec.errors import KeyPath, Wrong, dotted, nearest, quoted
from broker.spec.quantities import duration
from policies.health import Health
from policies.model import Decision, Reason

REASONS, AMONG = "reasons", "among"
"""All reasons, in their order; some of them, in their order."""
_OF_A_REASON = ("rule", "verdict", "site", "says")


@dataclass(frozen=True, slots=True)
class Expected:
    """A reason as a case expects it."""

    rule: str
    verdict: str
    site: str | None = None
    """None: whatever it is of."""
    says: str = ""

    def fits(self, reason: Reason) -> bool:
        same = (reason.rule, reason.verdict) == (self.rule, self.verdict)
        return same and self.site in (None, reason.site) and self.says in reason.fact

    def __str__(self) -> str:
        words = " ".join(word for word in (self.rule, self.verdict, self.site) if word)
        return f"{words}: ...{self.says}..." if self.says else words


def plain(value: object) -> Any:
    """Frozen values as maps, lists and words."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Health):
        judged = {name: {**plain(one), "fact": one.fact} for name, one in value.capabilities.items()}
        return {**judged, "worst": plain(value.worst), "placing": plain(value.placing()), "window_at": value.window_at}
    if isinstance(value, Reason):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(plain(each) for each in value)
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value


def view(answer: object) -> dict[str, Any]:
    """An answer as a map: of a policy that returns something beside its decision, that is `chosen`."""
    if isinstance(answer, Decision | Health):
        return dict(plain(answer))
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], Decision):
        return {**plain(answer[1]), "chosen": plain(answer[0])}
    return {"answer": plain(answer)}


def differences(expected: object, found: object, path: KeyPath, *, now: int) -> Iterator[str]:
    """Where the two differ, a line or a few each. Raises Misfit for what cannot be expected of such an answer."""
    if path and path[-1] in (REASONS, AMONG) and _are_reasons(found):
        yield from _of_reasons(expected_reasons(expected, path), list(_sequence(found)), path)
    elif isinstance(expected, Mapping) and isinstance(found, Mapping):
        free = len(path) > 1 and path[-1] == "facts"
        for key, value in expected.items():
            if key not in found and not free:
                raise Misfit((*path, key), Wrong("is nothing that it answers", nearest(str(key), map(str, found))))
            yield from differences(value, found.get(key), (*path, key), now=now)
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for i, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, (*path, i), now=now)
    elif not _same(expected, found, now):
        yield f"{dotted(path[1:])}: expected {_told(expected)}, was {_told(found)}"


def expected_reasons(expected: object, path: KeyPath) -> list[Expected]:
    """Raises Misfit."""
    if not isinstance(expected, list):
        raise Misfit(path, Wrong(f"expected a list, found {quoted(expected)}"))
    return [_expected(each, (*path, i)) for i, each in enumerate(expected)]


def _expected(given: object, path: KeyPath) -> Expected:
    if isinstance(given, str) and 2 <= len(words := given.split()) <= 3:
        return Expected(*words)
    if not isinstance(given, Mapping) or not {"rule", "verdict"} <= given.keys():
        raise Misfit(path, Wrong("is no reason", "write `RULE VERDICT SITE`, or a map of rule, verdict, site and says"))
    for key in given:
        if key not in _OF_A_REASON:
            raise Misfit((*path, key), Wrong("is no part of a reason", nearest(str(key), _OF_A_REASON)))
    site = given.get("site")
    told = (str(given["rule"]), str(given["verdict"]), None if site is None else str(site), str(given.get("says", "")))
    return Expected(*told)


def _of_reasons(expected: Sequence[Expected], found: Sequence[Reason], path: KeyPath) -> Iterator[str]:
    """The two lists side by side: `-` was expected and is not there, `+` is there and was not expected."""
    pairs = list(_aligned(expected, found))
    some = path[-1] == AMONG
    if all(one is not None and (other is not None or some) for other, one in pairs):
        return
    lines = [f"{dotted(path[1:])}:"]
    for wanted, reason in pairs:
        if reason is None:
            lines.append(f"  - {wanted}")
        elif wanted is None:
            lines.append(f"  {' ' if some else '+'} {_words(reason)}")
        else:
            lines.append(f"    {_words(reason)}")
    yield "\n".join(lines)


def _aligned(expected: Sequence[Expected], found: Sequence[Reason]) -> Iterator[tuple[Expected | None, Reason | None]]:
    """The longest common subsequence, and around it what is in one of them alone."""
    rows, columns = len(expected), len(found)
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            both = 1 + best[i + 1][j + 1] if expected[i].fits(found[j]) else 0
            best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
    i = j = 0
    while i < rows or j < columns:
        if i < rows and j < columns and expected[i].fits(found[j]) and best[i][j] == 1 + best[i + 1][j + 1]:
            yield expected[i], found[j]
            i, j = i + 1, j + 1
        elif j < columns and (i == rows or best[i][j + 1] >= best[i + 1][j]):
            yield None, found[j]
            j += 1
        else:
            yield expected[i], None
            i += 1


def _words(reason: Reason) -> str:
    words = " ".join(word for word in (reason.rule, reason.verdict, reason.site) if word)
    return f"{words}: {reason.fact}"


def _same(expected: object, found: object, now: int) -> bool:
    if isinstance(expected, str) and expected[:1] in ("+", "-") and isinstance(found, int):
        try:
            seconds = duration(expected[1:])
        except Wrong:
            return False
        return found == now + round(seconds * 1e6) * (1 if expected[0] == "+" else -1)
    if isinstance(expected, float | int) and isinstance(found, float):
        return abs(expected - found) <= 1e-6 * max(1.0, abs(found))
    return bool(expected == found) and isinstance(expected, bool) == isinstance(found, bool)


def _are_reasons(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(each, Reason) for each in found)


def _sequence(found: object) -> Collection[Reason]:
    return found if isinstance(found, list) else ()


def _told(value: object) -> str:
    return "nothing" if value in (None, "") else quoted(value, most=200) if isinstance(value, str) else repr(value)
