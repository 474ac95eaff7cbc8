"""The workflow document, whole."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from broker.spec.part import Open, Part, always
from broker.spec.policy import Policy
from broker.spec.raw import RawDocument, document_from
from broker.spec.stage import Stage
from broker.spec.telling import Notice
from broker.spec.values import Flag, Line, Name, Positive, VariableName, one_of

ParamType = Literal["text", "int", "number", "bool", "duration", "size"]


class Param(Part):
    """A value that whoever submits the workflow gives, or may give."""

    type: Annotated[ParamType, one_of(ParamType)] = "text"
    required: Flag = False
    pattern: Line | None = Field(default=None, description="A regular expression for the whole value.")
    default: Any = None


class Concurrency(Part):
    """How many runs of this workflow go on at once."""

    max: Positive = Field(description="The others wait, in order of submission.")


class Workflow(Part):
    """What is to be done, in stages, and what to do when a place to do it fades."""

    crossfade: Literal[1] = Field(description="The format's number.")
    name: Name
    contact: Annotated[Line, Field(max_length=200)] = Field(default="", description="Goes into every job's comment.")
    params: dict[VariableName, Param] = Field(default_factory=dict)
    key: Annotated[Line, Field(max_length=200)] | None = Field(
        default=None, description="A run under the same key, alive or done, is the same run."
    )
    policy: Policy = always(Policy())
    stages: dict[Name, Stage] = Field(min_length=1, max_length=100_000)
    concurrency: Concurrency | None = None
    triggers: dict[Name, Open] = Field(default_factory=dict)
    notify: list[Notice] = Field(
        default_factory=list, max_length=50, description="Who is told of what happens to its runs."
    )

    _raw: RawDocument | None = PrivateAttr(default=None)

    @property
    def raw(self) -> RawDocument:
        """The plain data that it was read from, with its lines."""
        return self._raw or document_from(self.written(), name=self.name)

    @property
    def loaded(self) -> bool:
        """Did it come through `load_workflow`, and so through the checks of its structure?"""
        return self._raw is not None

    def read_from(self, raw: RawDocument) -> Workflow:
        """Itself, remembering where it comes from."""
        self._raw = raw
        return self
