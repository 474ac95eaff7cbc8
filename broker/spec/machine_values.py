"""The kinds of values that take more than reading: launchers, images, references to credentials, conditions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import WithJsonSchema

from broker.spec.conditions import MOST_CHARACTERS, read_when
from broker.spec.errors import Wrong, quoted
from broker.spec.expressions import ANYTHING, VARIABLE, Filling
from broker.spec.launch import (
    BIND_WORDS,
    FIGURES,
    IMAGE_WORDS,
    VARIABLE_WORDS,
    check_image,
    check_template,
    launcher_line,
)
from broker.spec.values import MOST_LINE, checked_line, command, line, reads, submit_word, text

SECRET = "secret:"  # noqa: S105 - a prefix
"""Begins a value that the site's owner keeps under a name."""
_CREDENTIAL = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}|file:[^\x00-\x1f\x7f]{1,1000}")


def _site_line(value: object, filling: Filling) -> str:
    """As `line`, with a site's variables filled in where it is used."""
    filled, _ = filling.site_text(text(value))
    return line(filled, ANYTHING) if "${{" not in filled else checked_line(filled)


def _launch(value: object, filling: Filling) -> str:
    """A launcher of the document's own: a command on one line, with figures in braces."""
    given = text(value)
    if re.search(r"\$\{\{\s*launch\s*\}\}", given):
        raise Wrong("a launcher cannot stand for itself", "leave ${{ launch }} out of `launch`")
    check_template(given, FIGURES)
    return checked_line(command(given, filling))


def _template(known: Mapping[str, str]) -> Callable[[object, Filling], str]:
    """Shell text of an operator, on one line, with words in braces."""

    def read(value: object, filling: Filling) -> str:
        given = line(value, filling)
        check_template(given, known)
        return given

    return read


def _image(value: object, filling: Filling) -> str:
    filled, pending = filling.text(text(value))
    if not pending:
        check_image(filled)
    return filled


def _umask(value: object, filling: Filling) -> str:
    given = line(value, filling)
    if not re.fullmatch(r"[0-7]{3,4}", given):
        raise Wrong(f"{quoted(given)} is no umask", 'write three or four octal digits in quotes, as in "002"')
    return given


def _credential(value: object, _: Filling) -> str:
    """Never the value itself, which no message may show either."""
    if not isinstance(value, str) or not _CREDENTIAL.fullmatch(value):
        cure = "put the value into a file of mode 600 and write file:PATH, or into a variable and write env:NAME"
        raise Wrong("a credential is given by reference, never as itself", cure)
    return value


def _env_value(value: object, filling: Filling) -> str:
    """A line, or the name of a secret. A param can never name one: who submits a run may not choose what it is told."""
    given = line(value, filling)
    if not given.startswith(SECRET):
        return given
    if given != value or "${{" in given:
        raise Wrong("a secret cannot be named by a param", "write secret:NAME as it is")
    name = given.removeprefix(SECRET)
    if not re.fullmatch(VARIABLE, name):
        raise Wrong(f"{quoted(name)} cannot be the name of a secret", "write secret:NAME with letters, digits, _ and -")
    return given


def _machine_word(value: object, filling: Filling) -> str:
    """As `submit_word`, with a stage's figures in braces."""
    if not isinstance(value, str):
        return submit_word(value, filling)
    check_template(value, FIGURES)
    submit_word(launcher_line(value, dict.fromkeys(FIGURES, 1)), filling)
    return value


When = Annotated[
    bool | str,
    reads(read_when),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string", "maxLength": MOST_CHARACTERS}]}),
]
SiteLine = Annotated[str, reads(_site_line), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Launch = Annotated[str, reads(_launch), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Launcher = Annotated[str, reads(_template(FIGURES)), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Container = Annotated[str, reads(_template(IMAGE_WORDS)), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Bind = Annotated[str, reads(_template(BIND_WORDS)), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Passed = Annotated[str, reads(_template(VARIABLE_WORDS)), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Image = Annotated[str, reads(_image), WithJsonSchema({"type": "string", "minLength": 1})]
EnvValue = Annotated[str, reads(_env_value), WithJsonSchema({"type": "string", "maxLength": MOST_LINE})]
Umask = Annotated[str, reads(_umask), WithJsonSchema({"type": "string", "pattern": "^[0-7]{3,4}$"})]
Credential = Annotated[str, reads(_credential), WithJsonSchema({"type": "string", "pattern": "^(env|file):.+$"})]
MachineWord = Annotated[str, reads(_machine_word), WithJsonSchema({"type": ["string", "number", "boolean"]})]
