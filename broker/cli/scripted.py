"""What a site is given for a job, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from broker.views import clean_text


def script_text(view: Mapping[str, Any]) -> str:
    """The request, the job script, and the files that come with the job."""
    return "\n".join(_parts(view)).rstrip()


def _parts(view: Mapping[str, Any]) -> Iterator[str]:
    stage = view["stage"] if view["attempt"] is None else f"{view['stage']}@{view['attempt']}"
    yield f"# {stage} at {view['site']} ({view['connector']}), key {view['key']}, folder {view['directory']}"
    if view["request"]:
        yield from _part("request", view["request"])
    if view["script"]:
        yield from _part("job script", view["script"])
    if not view["request"] and not view["script"]:
        yield ""
        yield f"# the connector {view['connector']} sends no script: it starts `/bin/sh {view['entry']}` in the folder"
    shown: dict[str, str] = {}
    for file in view["files"]:
        text = file["text"]
        if text is not None:
            known = next((path for path, other in shown.items() if other == text), None)
            shown[file["path"]] = text
            yield from _part(f"{file['path']} (mode {file['mode']})", f"# as {known}" if known else text)
    same = [f"{file['path']} ({file['bytes']} bytes)" for file in view["files"] if file["text"] is None]
    if same:
        yield ""
        yield f"# the same for every job: {', '.join(same)}"


def _part(name: str, text: str) -> Iterator[str]:
    yield ""
    yield f"# -- {name}"
    yield clean_text(text).rstrip("\n")
