"""What every route is given: the use cases for whoever asks, the body that was sent, whom to wake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request

from broker.api.guard import PERSON
from broker.api.models import Body, Submission, read_body, read_yaml_body
from broker.api.problems import Refusal
from broker.api.wakes import Wakes
from broker.service import Service

M = TypeVar("M", bound=Body)
JSON = "application/json"
YAML = ("application/yaml", "application/x-yaml")


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    person = request.scope.get(PERSON)
    return service if person is None else service.on_behalf_of(str(person))


async def _wakes(request: Request) -> Wakes:
    wakes: Wakes = request.app.state.wakes
    return wakes


@dataclass(frozen=True, slots=True)
class Sent:
    """A body, and what stands beside it."""

    kind: str
    content: bytes
    query: Sequence[tuple[str, str]]

    def submission(self) -> Submission:
        """Raises Refusal."""
        if self.kind in YAML:
            return read_yaml_body(self.content, self.query)
        return self.json(Submission, also=" or application/yaml")

    def json(self, model: type[M], *, also: str = "") -> M:
        """Raises Refusal."""
        if self.kind != JSON:  # a page can send no such thing without asking first, and is told no
            raise Refusal("media-type", f"send Content-Type: {JSON}{also}")
        return read_body(model, self.content)


async def _content(request: Request) -> Sent:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Sent(kind, await request.body(), request.query_params.multi_items())


TheService = Annotated[Service, Depends(_service)]
TheWakes = Annotated[Wakes, Depends(_wakes)]
Content = Annotated[Sent, Depends(_content)]


def takes(model: type[Body]) -> dict[str, Any]:
    """For the OpenAPI document: what the body is. It is read by us, within our limits."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": model.model_json_schema()}}}}
