"""What clients send, read within limits. An error repeats nothing of it but names and short values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from broker.api.problems import Refusal
from broker.spec import RawDocument, document_from, parse_document
from broker.spec.errors import DocumentError, dotted
from broker.spec.jsonio import check_text, read_json
from broker.spec.values import check_name

M = TypeVar("M", bound=BaseModel)

DOCUMENT = "document"
"""What messages call a document that has no file."""
MOST_PARAMS = 1000
MOST_PROBLEMS = 50


def _line(value: str) -> str:
    """One line that can be kept and printed."""
    check_text(value)
    if not value.isprintable():
        raise ValueError("has a line break or another character that cannot be printed")
    return value


def _name(value: str) -> str:
    return check_name(value)


def _param(value: object) -> object:
    """Params are texts; JSON's numbers and bools are taken for the text that stands for them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("is not finite")
    return str(value) if isinstance(value, int | float) else value


Line = Annotated[str, Field(max_length=200), AfterValidator(_line)]
Reason = Annotated[str, Field(max_length=1000), AfterValidator(_line)]
Name = Annotated[str, Field(max_length=128), AfterValidator(_name)]
Param = Annotated[str, BeforeValidator(_param, json_schema_input_type=str | int | float | bool)]


def _event_time(value: object) -> object:
    """ISO 8601 with its zone."""
    if not isinstance(value, str):
        return value
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("says no zone: write 2026-07-01T12:30:00Z")
    return at


EventTime = Annotated[datetime, BeforeValidator(_event_time, json_schema_input_type=str)]


class Body(BaseModel):
    """A JSON object of which every key is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Submission(Body):
    """A run to store."""

    document: dict[str, Any] | str = Field(description="A workflow document, as an object, or as YAML or JSON text.")
    params: dict[str, Param] = Field(default_factory=dict, max_length=MOST_PARAMS)
    key: Annotated[Line, Field(min_length=1)] | None = Field(
        default=None, description="The same key while a run is alive or done is the same run: send it again at will."
    )
    again: bool = Field(default=False, description="Make a new run although the key has one.")
    name: Name | None = None
    hold: bool = Field(default=False, description="Store it held: nothing starts before it is released.")
    event_time: EventTime | None = Field(
        default=None,
        description="When what it is about happened, with its zone: a deadline `from: event` counts from it.",
    )
    bodies: Literal["noop", "sleep", "bytes"] = Field(default="noop", description="For WfFormat documents.")
    scale: float = Field(default=1.0, ge=0, allow_inf_nan=False, description="For WfFormat documents.")

    @property
    def event_at(self) -> int | None:
        """Microseconds UTC."""
        return None if self.event_time is None else round(self.event_time.timestamp() * 1e6)

    def raw(self) -> RawDocument:
        """The document as data. Raises DocumentError."""
        if isinstance(self.document, str):
            return parse_document(self.document, name=DOCUMENT)
        return document_from(self.document, name=DOCUMENT)


class CommandBody(Body):
    """What is to be done with a run, or with one stage of it."""

    kind: Literal["cancel", "hold", "release", "retry", "move", "adopt", "reap"]
    stage: Name | None = Field(default=None, description="Null: the whole run.")
    to: Name | None = Field(default=None, description="With move: the site where it goes on.")
    attempt: int | None = Field(default=None, ge=1, description="With adopt and reap: which of the stage's attempts.")
    reason: Reason = ""

    @model_validator(mode="after")
    def _fits(self) -> CommandBody:
        if (self.kind in ("adopt", "reap")) != (self.attempt is not None and self.stage is not None):
            raise ValueError("`stage` and `attempt` go with adopt and reap, and those with both")
        if (self.kind == "move") != (self.to is not None):
            raise ValueError("`to` goes with move, and move with `to`")
        if self.kind == "hold" and self.stage is not None:
            raise ValueError("hold is for whole runs: leave `stage` out")
        return self


class WaiverBody(Body):
    """A rule of where data may be that is not to hold for one run at one site, or place."""

    site: Name = Field(description="The site's or the place's name.")
    rule: Literal["", "stay", "export_control", "data.stay", "data.export_control"] = Field(
        default="", description="Empty: the one that is against it."
    )
    reason: Annotated[Reason, Field(min_length=1)]
    seconds: float = Field(default=86_400.0, gt=0, le=30 * 86_400.0, allow_inf_nan=False, description="Until its end.")


class ConfirmBody(Body):
    """A second person's word."""

    reason: Annotated[Reason, Field(min_length=1)]


class WithdrawBody(Body):
    """Anybody's word."""

    reason: Reason = ""


def read_yaml_body(content: bytes, query: Sequence[tuple[str, str]]) -> Submission:
    """A submission whose body is the document itself; the rest stands in the query. Raises Refusal."""
    given: dict[str, Any] = {"document": _text(content)}
    params: dict[str, str] = {}
    for name, value in query:
        if name == "param":
            param, equals, text = value.partition("=")
            if not equals or param in params:
                raise Refusal("invalid", problems=[{"where": "query.param", "message": "write each NAME=VALUE once"}])
            params[param] = text
        elif name in given:
            raise Refusal("invalid", problems=[{"where": dotted(("query", name)), "message": "is there twice"}])
        else:
            given[name] = value
    if params:
        given["params"] = params
    return _validated(Submission, given, strict=False)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Refusal("malformed", "the body is not UTF-8") from error


def read_body(model: type[M], content: bytes) -> M:
    """The body, within the limits of documents: depth, values, numbers, no key twice. Raises Refusal."""
    try:
        data = read_json(_text(content), name="body")
    except DocumentError as error:
        first = error.problems[0]
        raise Refusal("malformed", first.message, help=first.cure, line=first.line, column=first.column) from error
    return _validated(model, data, strict=True)


def _validated(model: type[M], data: object, *, strict: bool) -> M:
    try:
        return model.model_validate(data, strict=strict)
    except ValidationError as error:
        raise Refusal("invalid", problems=told(error)) from error


def told(error: ValidationError) -> list[dict[str, str]]:
    """What is wrong, and where; not what was sent."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [{"where": dotted(each["loc"]), "message": each["msg"]} for each in found[:MOST_PROBLEMS]]
