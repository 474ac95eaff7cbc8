"""The kinds of values that documents hold, as types for the models' fields.

Each kind reads plain data strictly, fills `${{ params }}` in the way that suits it, and raises Wrong with a sentence
for the document's writer. While params are not known yet, a value that depends on one stays the text that it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, get_args

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from broker.spec.errors import Wrong, nearest, quoted
from broker.spec.expressions import ANYTHING, VARIABLE, Filling
from broker.spec.quantities import duration, size
from connectors.errors import UnsafePath
from connectors.harness import UnsupportedPattern, check_pattern
from connectors.harness.render import SIGNALS
from connectors.paths import clean

MOST_NAME = 100
MOST_LINE = 4_096
MOST_COMMAND = 1 << 20
"""Characters of one command: far more than a script that belongs into a document."""

T = TypeVar("T")
Json = dict[str, Any]

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MOST_NAME - 1}}}")
_SITE_OR_PROFILE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._/-]{{0,{MOST_NAME - 1}}}")
_VARIABLE = re.compile(VARIABLE)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CODE = re.compile(r"[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5]")
_EXIT = re.compile(rf"exit (?:{_CODE.pattern})")
_SHELLS_OWN = frozenset({"PPID", "UID", "EUID", "BASHOPTS", "SHELLOPTS", "BASH_ENV", "ENV", "IFS"})
_SUBMIT_VALUE = re.compile(r"[A-Za-z0-9_/.@%+=:,&|*()\[\] -]{1,256}")
_EXPRESSION_SCHEMA: Json = {"type": "string", "pattern": r"\$\{\{"}


def reads(read: Callable[[object, Filling], Any], *, schema: Any = Any) -> PlainValidator:
    """A field validator from a function of the plain value and what fills its expressions.

    `schema`: the type that the JSON Schema shows.
    """

    def validate(value: object, info: ValidationInfo) -> Any:
        return read(value, info.context or ANYTHING)

    return PlainValidator(validate, json_schema_input_type=schema)


# -- texts -------------------------------------------------------------------------------------------------


def text(value: object) -> str:
    """Strictly text: an unquoted 8 or true is a number or a bool."""
    if isinstance(value, str):
        return value
    cure = "put it in quotes" if isinstance(value, int | float) else ""
    raise Wrong(f"expected text, found {quoted(value)}", cure)


def line(value: object, filling: Filling) -> str:
    """Text on one line, params filled in."""
    filled, _ = filling.text(text(value))
    return checked_line(filled)


def checked_line(filled: str) -> str:
    """Raises Wrong for what is more than a line."""
    if _CONTROL.search(filled):
        raise Wrong(f"{quoted(filled)} holds a line break or another control character", "keep it on one line")
    if len(filled) > MOST_LINE:
        raise Wrong(f"a line may have {MOST_LINE} characters, this has {len(filled)}", "shorten it")
    return filled


def command(value: object, filling: Filling) -> str:
    """Shell text, each param in it one quoted word."""
    filled = filling.command(text(value))
    if len(filled) > MOST_COMMAND:
        raise Wrong("the command is longer than a million characters", "put it into a file and list it under `files`")
    if not filled.strip():
        raise Wrong("the command is empty", "write what is to run")
    return filled


def check_name(value: object, what: str = "a name") -> str:
    """A name of ours, for keys and references: never filled."""
    name = text(value)
    if not _NAME.fullmatch(name):
        begins = "" if name[:1].isascii() and name[:1].isalnum() else ", beginning with a letter or digit"
        message = f"{quoted(name)} cannot be {what}"
        raise Wrong(message, f"use up to {MOST_NAME} letters, digits, `.`, `_` and `-`{begins}")
    return name


def _reference(value: object, filling: Filling) -> str:
    """The name of a site, a facility or a profile."""
    name, pending = filling.text(text(value))
    if not pending and not _SITE_OR_PROFILE.fullmatch(name):
        raise Wrong(f"{quoted(name)} cannot be the name of a site", "use letters, digits, `.`, `_`, `-` and `/`")
    return name


def read_variable(value: object, _: Filling | None = None) -> str:
    """A name for words that a machine knows: letters, digits, `_` and `-`."""
    if not _VARIABLE.fullmatch(text(value)):
        raise Wrong(f"{quoted(value)} cannot be a variable's name", "use letters, digits, `_` and `-`")
    return str(value)


def _env_name(value: object, _: Filling) -> str:
    name = text(value)
    if not _ENV_NAME.fullmatch(name):
        raise Wrong(f"{quoted(name)} cannot be the name of an environment variable", "use letters, digits and `_`")
    if name.startswith("CROSSFADE_") or name in _SHELLS_OWN:
        raise Wrong(f"the environment variable {name} is not yours to set", "choose another name")
    return name


def submit_word(value: object, filling: Filling) -> str:
    """What a scheduler is told: no quotes, no line breaks, nothing that could begin an option or a directive."""
    given, pending = filling.typed(value)
    word = {True: "true", False: "false"}[given] if isinstance(given, bool) else str(given)
    if not isinstance(given, str | int | float):
        raise Wrong(f"expected a word, found {quoted(given)}")
    if not pending and (not _SUBMIT_VALUE.fullmatch(word) or word[0] in " -"):
        raise Wrong(f"{quoted(word)} cannot be told to a scheduler", "use letters, digits and _/.@%+=:,&|*()[]-")
    return word


def _checkpoint_pattern(value: object, filling: Filling) -> str:
    pattern, pending = filling.text(text(value))
    if not pending:
        try:
            check_pattern(pattern)
        except UnsupportedPattern as error:
            raise Wrong(str(error), "see checkpoint patterns in docs/reference/workflow-document.md") from error
    return pattern


def _signal(value: object, filling: Filling) -> str:
    name, pending = filling.text(text(value))
    if not pending and name.upper().removeprefix("SIG") not in SIGNALS:
        raise Wrong(f"{quoted(name)} is no signal that can be asked with", f"use one of {', '.join(SIGNALS)}")
    return name


def _end(value: object, filling: Filling) -> str:
    word, pending = filling.text(text(value))
    if not pending and word != "time_limit" and not _EXIT.fullmatch(word):
        raise Wrong(f"{quoted(word)} is no end of a segment", "write time_limit, or an exit code as in `exit 85`")
    return word


def _exit_code(value: object, _: Filling) -> str:
    if not _CODE.fullmatch(text(value)):
        raise Wrong(f"{quoted(value)} is no exit code of a failure", "write a number from 1 to 255")
    return str(value)


# -- paths -------------------------------------------------------------------------------------------------


def relative(value: object, filling: Filling) -> str:
    """A path below the attempt's directory, without `./`; a trailing `/` says that it is a folder."""
    filled, pending = filling.text(text(value))
    if pending:
        return filled
    cleaned = cleaned_path(filled)
    if not cleaned:
        raise Wrong("the path names the working directory itself", "name a file or a folder in it")
    return cleaned


def cleaned_path(path: str) -> str:
    """Raises Wrong for a path that is not surely below its root; the root itself is ""."""
    try:
        cleaned = clean(path)
    except UnsafePath as error:
        raise Wrong(*str(error).rsplit("; ", 1)) from error
    if cleaned.partition("/")[0] == ".crossfade":
        raise Wrong("the folder .crossfade is kept by the broker", "use another folder")
    return cleaned + "/" if cleaned and path.endswith("/") else cleaned


def _folder(value: object, filling: Filling) -> str:
    filled, pending = filling.text(text(value))
    return filled if pending else cleaned_path(filled) or "."


# -- figures and choices -----------------------------------------------------------------------------------


def whole(least: int, most: int) -> Callable[[object, Filling], Any]:
    """Reads a whole number from `least` to `most`."""

    def read(value: object, filling: Filling) -> object:
        value, pending = filling.typed(value)
        if pending:
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong(f"expected a whole number, found {quoted(value)}", f"write a number from {least} to {most}")
        if not least <= value <= most:
            raise Wrong(f"{value} is out of range", f"write a number from {least} to {most}")
        return value

    return read


def _number(value: object, filling: Filling) -> object:
    value, pending = filling.typed(value)
    if not pending and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
        raise Wrong(f"expected a number of at least 0, found {quoted(value)}")
    return value


def _flag(value: object, filling: Filling) -> object:
    value, pending = filling.typed(value)
    if not pending and not isinstance(value, bool):
        raise Wrong(f"expected true or false, found {quoted(value)}", "write true or false without quotes")
    return value


def _duration(value: object, filling: Filling) -> object:
    value, pending = filling.typed(value)
    return value if pending else duration(value)


def _size(value: object, filling: Filling) -> object:
    value, pending = filling.typed(value)
    return value if pending else size(value)


def or_word(word: str, read: Callable[[object, Filling], Any]) -> Callable[[object, Filling], Any]:
    """As `read`, but `word` is taken too."""

    def either(value: object, filling: Filling) -> object:
        value, pending = filling.typed(value)
        return value if pending or value == word else read(value, filling)

    return either


def one_of(kind: Any) -> PlainValidator:
    """A field validator that takes the words of a Literal."""
    words: tuple[str, ...] = get_args(kind)

    def read(value: object, filling: Filling) -> str:
        word, pending = filling.text(text(value))
        if not pending and word not in words:
            raise Wrong(f"{quoted(word)} is none of {', '.join(words)}", nearest(word, words, what="choose one of"))
        return word

    return reads(read, schema=kind)


def many(value: object) -> object:
    """A list may be written as its only element."""
    return [value] if isinstance(value, str) else value


def or_expression(schema: Mapping[str, Any]) -> WithJsonSchema:
    """A field's JSON Schema: what it takes, or an expression in its place."""
    return WithJsonSchema({"anyOf": [dict(schema), _EXPRESSION_SCHEMA]})


_DURATION_SCHEMA: Json = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^([0-9.]+(ms|s|m|h|d))+$"}]
}
_SIZE_SCHEMA: Json = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ ?[kKMGTP]?i?B$"}]
}

Line = Annotated[str, reads(line), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Command = Annotated[str, reads(command), WithJsonSchema({"type": "string", "minLength": 1})]
Name = Annotated[
    str, reads(lambda value, _: check_name(value)), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
]
SiteReference = Annotated[str, reads(_reference), WithJsonSchema({"type": "string"})]
VariableName = Annotated[str, reads(read_variable), WithJsonSchema({"type": "string", "pattern": f"^{VARIABLE}$"})]
EnvName = Annotated[str, reads(_env_name), WithJsonSchema({"type": "string", "pattern": f"^{_ENV_NAME.pattern}$"})]
SubmitWord = Annotated[str, reads(submit_word), WithJsonSchema({"type": ["string", "number", "boolean"]})]
CheckpointPattern = Annotated[
    str, reads(_checkpoint_pattern), WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 512})
]
Signal = Annotated[str, reads(_signal), WithJsonSchema({"type": "string"})]
End = Annotated[str, reads(_end), WithJsonSchema({"type": "string", "pattern": f"^(time_limit|{_EXIT.pattern})$"})]
ExitCode = Annotated[str, reads(_exit_code), WithJsonSchema({"type": "string", "pattern": f"^({_CODE.pattern})$"})]
RelativePath = Annotated[str, reads(relative), WithJsonSchema({"type": "string", "minLength": 1})]
Folder = Annotated[str, reads(_folder), WithJsonSchema({"type": "string", "minLength": 1})]
Number = Annotated[float, reads(_number), or_expression({"type": "number", "minimum": 0})]
Flag = Annotated[bool, reads(_flag), or_expression({"type": "boolean"})]
Count = Annotated[
    int, reads(whole(0, 1_000_000)), or_expression({"type": "integer", "minimum": 0, "maximum": 1_000_000})
]
Positive = Annotated[
    int, reads(whole(1, 1_000_000)), or_expression({"type": "integer", "minimum": 1, "maximum": 1_000_000})
]
Duration = Annotated[float, reads(_duration), or_expression(_DURATION_SCHEMA)]
Size = Annotated[int, reads(_size), or_expression(_SIZE_SCHEMA)]
Walltime = Annotated[
    float | str, reads(or_word("max", _duration)), or_expression({"anyOf": [{"const": "max"}, _DURATION_SCHEMA]})
]
Interval = Annotated[
    float | str, reads(or_word("auto", _duration)), or_expression({"anyOf": [{"const": "auto"}, _DURATION_SCHEMA]})
]
