"""`when`: a small expression over params that says whether a stage is to run at all.

    condition  = and-chain { "or" and-chain }
    and-chain  = negation { "and" negation }
    negation   = [ "not" ] comparison
    comparison = value [ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") value ]
    value      = params.NAME | true | false | number | 15m | 64GB | 'text' | [value, ...] | ( condition )

It is typed: what is asked for must be true or false, and only what is of one type can be compared. Nothing in it can
call, index or calculate. The types are checked before any value is known, the values once, when a run is submitted.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.expressions import VARIABLE, Filling, ParamValue, Value
from broker.spec.quantities import duration, size

MOST_CHARACTERS = 1_000
MOST_DEPTH = 32
"""Of brackets and `not` in each other."""

_TOKEN = re.compile(
    rf"\s*(?:(?P<param>params\.{VARIABLE})"
    r"|(?P<quantity>[0-9][0-9.]*[A-Za-z][A-Za-z0-9.]*)|(?P<number>-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))"
    r"|(?P<text>'[^']*'|\"[^\"]*\")|(?P<word>[A-Za-z_][A-Za-z0-9_.-]*)|(?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,))"
)
_HOW = "write it as in `not params.dry and params.frames > 100`"
_ORDERED = frozenset({"int", "number", "duration", "size"})
_NUMBERS = frozenset({"int", "number"})
_COMPARES: Mapping[str, Callable[[Value, Value], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,  # of numbers only, which `_compared` sees to
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Values = Mapping[str, ParamValue]
Evaluate = Callable[[Values], Value]


@dataclass(frozen=True, slots=True)
class Condition:
    """A sound `when`."""

    text: str
    params: Sequence[str]
    """Those that it names, in order, each once."""
    _holds: Evaluate

    def holds(self, values: Values) -> bool:
        """Is it true with these params? All that were declared must be among them."""
        return bool(self._holds(values))

    def against(self, values: Values) -> str:
        """Why a stage is not run, in words; empty: it is."""
        if self.holds(values):
            return ""
        told = ", ".join(f"{name} is {_shown(values[name].text)}" for name in self.params)
        return f"when {self.text} is false" + (f" ({told})" if told else "")


def condition(text: str, types: Mapping[str, str]) -> Condition:
    """The condition in this text. `types`: of the declared params. Raises Wrong."""
    if len(text) > MOST_CHARACTERS:
        raise Wrong(f"a condition may have {MOST_CHARACTERS} characters, this has {len(text)}", "make it a bool param")
    reading = _Reading(_tokens(text), types)
    found = reading.whole()
    return Condition(" ".join(text.split()), list(dict.fromkeys(reading.named)), found.evaluate)


def read_when(value: object, filling: Filling) -> str | bool:
    """A field's validator: true, false, or a sound condition's text."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise Wrong(f"expected a condition, found {quoted(value)}", _HOW)
    if "${{" in value:
        raise Wrong("a condition needs no ${{ }}", "write params.NAME in it as it is")
    return condition(value, filling.types).text


def reason_against(when: str | bool | None, values: Values) -> str:
    """Why a stage with this `when` is not run, in words; empty: it is."""
    if isinstance(when, str):
        types = {name: value.type for name, value in values.items()}
        return condition(when, types).against(values)
    return "when is false" if when is False else ""


def _shown(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z0-9._/:+-]{1,60}", text) else quoted(text)


# -- tokens ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise Wrong(f"{quoted(text[at:].strip()[:12])} cannot stand in a condition", _HOW)
        found.append(_Token(match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


# -- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a condition: its type (`list` has `items`), how it is worked out, and its text for messages."""

    type: str
    evaluate: Evaluate
    text: str
    items: Sequence[_Part] = ()


def _constant(kind: str, value: Value, text: str) -> _Part:
    return _Part(kind, lambda _: value, text)


class _Reading:
    """Recursive descent; each method reads one line of the grammar."""

    def __init__(self, tokens: Sequence[_Token], types: Mapping[str, str]) -> None:
        self._tokens, self._types = tokens, types
        self._at = 0
        self._depth = 0
        self.named: list[str] = []

    def whole(self) -> _Part:
        found = self._bool(self._either())
        if self._at < len(self._tokens):
            raise Wrong(f"{quoted(self._tokens[self._at].text)} stands where the condition should end", _HOW)
        return found

    def _either(self) -> _Part:
        return self._chain("or", self._both, any)

    def _both(self) -> _Part:
        return self._chain("and", self._negation, all)

    def _chain(self, word: str, one: Callable[[], _Part], over: Callable[[Sequence[bool]], bool]) -> _Part:
        parts = [one()]
        while self._takes(word):
            parts.append(one())
        if len(parts) == 1:
            return parts[0]
        checks = [self._bool(part).evaluate for part in parts]
        return _Part("bool", lambda values: over([bool(check(values)) for check in checks]), word)

    def _negation(self) -> _Part:
        if not self._takes("not"):
            return self._comparison()
        self._deeper()
        inner = self._bool(self._negation()).evaluate
        self._depth -= 1
        return _Part("bool", lambda values: not inner(values), "not")

    def _comparison(self) -> _Part:
        left = self._value()
        token = self._peek()
        if token is not None and token.text in _COMPARES:
            self._at += 1
            return _compared(token.text, left, self._value())
        negated = self._takes("not")
        if self._takes("in"):
            return _contained(left, self._value(), negated=negated)
        if negated:
            raise Wrong("`not` after a value goes with `in`", "write `x not in [...]`, or `not x`")
        return left

    def _value(self) -> _Part:
        token = self._peek()
        if token is None:
            raise Wrong("the condition ends where a value should stand", _HOW)
        self._at += 1
        match token.kind:
            case "param":
                return self._param(token.text.removeprefix("params."))
            case "number":
                whole = "." not in token.text
                return _constant("int" if whole else "number", (int if whole else float)(token.text), token.text)
            case "quantity":
                return _quantity(token.text)
            case "text":
                return _constant("text", token.text[1:-1], token.text)
        if token.text in ("true", "false"):
            return _constant("bool", token.text == "true", token.text)
        if token.text == "(":
            return self._bracketed()
        if token.text == "[":
            return self._list()
        raise self._unknown(token)

    def _param(self, name: str) -> _Part:
        if name not in self._types:
            cure = partial(nearest, name, self._types, what="declared under params")
            raise Wrong(f"the param {name!r} is not declared", cure)
        self.named.append(name)
        return _Part(self._types[name], lambda values: values[name].value, f"params.{name}")

    def _bracketed(self) -> _Part:
        self._deeper()
        inner = self._either()
        self._depth -= 1
        self._must(")")
        return inner

    def _list(self) -> _Part:
        self._deeper()
        items: list[_Part] = []
        while not self._takes("]"):
            if items:
                self._must(",")
            items.append(self._value())
        self._depth -= 1
        return _Part("list", lambda _: False, "[...]", items)

    # -- inner -------------------------------------------------------------------------------------------------

    def _unknown(self, token: _Token) -> Wrong:
        if token.kind == "word" and token.text in self._types:
            return Wrong(f"{token.text} is a param", f"write params.{token.text}")
        if token.kind == "word":
            return Wrong(f"{quoted(token.text)} is not known", "text stands in quotes, a param is params.NAME")
        return Wrong(f"{quoted(token.text)} stands where a value should", _HOW)

    def _bool(self, part: _Part) -> _Part:
        if part.type != "bool":
            raise Wrong(f"{part.text} is {_ARTICLE[part.type]}, not true or false", "compare it, as in `x == 1`")
        return part

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise Wrong(f"more than {MOST_DEPTH} brackets in each other", "make it simpler")

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _takes(self, text: str) -> bool:
        token = self._peek()
        if token is None or token.text != text or token.kind == "text":
            return False
        self._at += 1
        return True

    def _must(self, text: str) -> None:
        if not self._takes(text):
            raise Wrong(f"a {text!r} is missing", _HOW)


_ARTICLE = {
    "text": "text",
    "int": "a number",
    "number": "a number",
    "duration": "a duration",
    "size": "a size",
    "list": "a list",
    "bool": "true or false",
}


def _quantity(text: str) -> _Part:
    """`15m` or `64GB`."""
    for kind, read in (("duration", duration), ("size", size)):
        try:
            return _constant(kind, read(text), text)
        except Wrong:
            continue
    raise Wrong(f"{quoted(text)} is no duration and no size", "write it as in 15m or 64GB; text stands in quotes")


def _alike(left: _Part, right: _Part) -> None:
    """Raises Wrong where the two cannot be compared."""
    kinds = {left.type, right.type}
    # a duration is a number of seconds and a size one of bytes, written plainly, as in params
    if len(kinds) == 1 or kinds == _NUMBERS or (kinds & _NUMBERS and kinds <= _ORDERED and len(kinds) == 2):
        return
    hint = "; text stands in quotes" if "text" in kinds else ""
    message = f"{left.text} is {_ARTICLE[left.type]}, and {right.text} is {_ARTICLE[right.type]}"
    raise Wrong(message, f"compare what is of one type{hint}")


def _compared(sign: str, left: _Part, right: _Part) -> _Part:
    if "list" in (left.type, right.type):
        raise Wrong("a list cannot be compared", "write `x in [...]`")
    _alike(left, right)
    if sign not in ("==", "!=") and left.type not in _ORDERED:
        raise Wrong(f"{left.text} is {_ARTICLE[left.type]}, which has no order", "use == or !=")
    compare, one, other = _COMPARES[sign], left.evaluate, right.evaluate
    return _Part("bool", lambda values: compare(one(values), other(values)), f"{left.text} {sign} {right.text}")


def _contained(left: _Part, right: _Part, *, negated: bool) -> _Part:
    if right.type != "list":
        raise Wrong(f"{right.text} is {_ARTICLE[right.type]}, not a list", "write `x in ['a', 'b']`")
    for item in right.items:
        if item.type == "list":
            raise Wrong("a list in a list", "write one list")
        _alike(left, item)
    one, items = left.evaluate, [item.evaluate for item in right.items]
    return _Part(
        "bool", lambda values: any(one(values) == item(values) for item in items) is not negated, f"{left.text} in ..."
    )
