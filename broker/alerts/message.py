"""What is sent: the same few words whichever way it goes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from broker.alerts.rows import AlertRow
from broker.views import clean_text, when


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notice, once more or for the first time."""

    data: Mapping[str, object]

    @property
    def json(self) -> bytes:
        """As webhooks and commands get it."""
        return json.dumps(self.data, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def id(self) -> str:
        """Of the notice: by it a receiver knows what it was told before."""
        return str(self.data["id"])

    @property
    def name(self) -> str:
        """Of this message: the same one has the same name, however often it is sent."""
        return f"{self.id}.{'over' if self.data['over'] else self.data['number']}"

    @property
    def subject(self) -> str:
        """On one line."""
        what = str(self.data["kind"]).replace("_", " ")
        about = self.data["name"] or self.data["about"] or "crossfade"
        stage = f"/{self.data['stage']}" if self.data["stage"] else ""
        over = "over: " if self.data["over"] else ""
        return " ".join(f"[crossfade] {over}{what}: {about}{stage}".split())[:200]

    @property
    def text(self) -> str:
        """For people."""
        data = self.data
        lines = [str(data["text"])]
        if data["help"]:
            lines.append(f"What helps: {data['help']}")
        if data["over"]:
            lines = [f"It is over: {data['over']}", "", "What it was about:", *lines]
        elif data["repeats"]:
            lines.append(f"Told again until somebody types: crossfade ack {data['id']} --reason ...")
        lines += ["", f"notice {data['id']}, message {data['number']}, of {data['created_at']}"]
        return "\n".join(lines)


def message_of(row: AlertRow, *, installation: str) -> Message:
    """What a claimed row says now."""
    body = json.loads(row.body)
    over = row.says_over
    return Message(
        data={
            "id": row.id,
            "number": row.number if over else row.number + 1,
            "over": row.over_why if over else "",
            "kind": row.kind,
            "about": row.about,
            "run": row.run_id,
            "name": body.get("name", ""),
            "stage": body.get("stage", ""),
            "text": clean_text(str(body["text"])),
            "help": body.get("help", ""),
            "repeats": bool(row.repeats),
            "created_at": when(row.created_at),
            "installation": installation,
        }
    )
