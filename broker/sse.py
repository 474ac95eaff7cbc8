"""Server-Sent Events: messages as lines of text, written and read.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

MEDIA_TYPE = "text/event-stream"
END = "end"
"""The kind of the last message of a stream that is over: whoever reads it need not come back."""


class Message(NamedTuple):
    """`ident` is what a reader names when it comes back; empty: none."""

    kind: str
    data: str
    ident: str = ""


def written(message: Message) -> str:
    """As it is sent. Raises ValueError for what would be another message: a line's end."""
    lines = [*([f"id: {message.ident}"] if message.ident else []), f"event: {message.kind}", f"data: {message.data}"]
    if any(end in line for line in lines for end in "\r\n\0"):
        raise ValueError("a message's parts are of one line each")
    return "".join(f"{line}\n" for line in (*lines, ""))


def read(lines: Iterable[str]) -> Iterator[Message]:
    """Whole messages; one that breaks off is none. Comments and what is not known are passed over."""
    data: list[str] = []
    kind, ident = "", ""
    for line in lines:
        if not line:
            if data:
                yield Message(kind or "message", "\n".join(data), ident)
            kind, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                kind = value
            case "data":
                data.append(value)
            case "id":
                ident = value
