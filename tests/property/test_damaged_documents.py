"""A sound document that was damaged is still sound, or refused with a place: ours, a site document, a foreign one."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wfformat_kit import ENDS, VERSIONS, diamond

from broker.alerts.allowed import NotifyConfig
from broker.config import Settings
from broker.service import Request, Service
from broker.sites import sites_of
from broker.spec import DocumentError, parse_document

fast = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])

WORKFLOW = r"""
crossfade: 1
name: tomo
key: tomo-${{ params.scan }}
contact: someone@example.org
params:
  scan: {required: true, pattern: '[0-9]{1,8}(_.*)?'}
  cores: {type: int, default: 4}
  limit: {type: duration, default: 2h}
  room: {type: size, default: 1GB}
policy:
  sites: {allow: [desk, far], prefer: [far]}
  failover: {act: ask, after: 10m, max: 2, old_copy: drain}
stages:
  recon:
    run: ${{ launch }} python recon.py --scan ${{ params.scan }} --out out.h5
    restart: python recon.py --resume
    software: {setup: '. ${{ site.vars.env }}'}
    env: {SCAN: '${{ params.scan }}'}
    duplicates: ask
    resources: {nodes: 1, cores: '${{ params.cores }}', memory: '${{ params.room }}', walltime: '${{ params.limit }}'}
    checkpoint: {path: ckpt, match: 'step-(\d+)\.h5', keep: 2}
    outputs: [{path: out.h5, required: true}, {path: logs/}]
    at:
      far: {submit: {qos: realtime}}
  picture:
    needs: [recon]
    inputs: [{name: out.h5, from: recon}]
    required: false
    run: |
      cat <<'END' > note
      done
      END
      test -s out.h5
"""
SITES = """
crossfade: 1
sites:
  desk: {profile: local, root: ./crossfade, slots: 4, vars: {env: /opt/tomo}}
  far: {profile: simulated, root: ./far, options: {seed: 7}}
"""

_NUMBERS = [0, 1, -1, 0.5, 1e308, 10**30, 2**63, 1e-320]
_TEXTS = [
    "", " ", "a", "*", "../x", "/etc", "a\n", "\u2028", "\u202e", "é", "0", "1h", "9" * 400 + "h", "1:00:00", "10GB",
    "${{ params.scan }}", "${{ params.cores }}", "${{ launch }}", "${{", "inf", "nan", "-5s", "(", "[[a](\\d+)",
    "9999-12-31T23:59:59-23:59", "0000-00-00T25:61:61Z", "echo '${{ params.scan }}", "`", "x" * 5000, "desk", "recon",
    "(a{1,9}){1,9}",
]  # fmt: skip
LEAVES = st.none() | st.booleans() | st.sampled_from(_NUMBERS) | st.sampled_from(_TEXTS)
JUNK = LEAVES | st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(_TEXTS), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield from places(inner, (*at, key))


@st.composite
def damaged(draw: st.DrawFn, sound: Any) -> Any:
    """One to three places of it taken out, replaced, moved, or given one more entry."""
    data = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        found = [place for place in places(data) if place]
        if not found:
            break
        *path, last = draw(st.sampled_from(found))
        inner = data
        for key in path:
            inner = inner[key]
        match draw(st.sampled_from(["out", "junk", "junk", "more", "moved"])):
            case "out":
                del inner[last]
            case "junk":
                inner[last] = copy.deepcopy(draw(JUNK))  # shared, it could come to hold itself
            case "more" if isinstance(inner, dict):
                inner[draw(st.sampled_from([*_TEXTS, "policy", "deadline", "when", "map", "files"]))] = draw(JUNK)
            case "moved":
                source = draw(st.sampled_from(found))
                moved: Any = data
                try:
                    for key in source:
                        moved = moved[key]
                except (LookupError, TypeError):  # it was taken out
                    continue
                inner[last] = copy.deepcopy(moved)
    return data


def refused_with_a_place(error: DocumentError) -> None:
    assert error.problems
    for problem in error.problems:
        assert problem.message
        assert problem.where or (problem.line and problem.column)
    assert all(line.isprintable() for line in str(error).splitlines())


def compiled(text: str, name: str, **options: Any) -> DocumentError | None:
    """What it was refused for; anything but a DocumentError is raised."""
    sites: Any = SimpleNamespace(configs={}, path=None, notify=NotifyConfig())
    service = Service(settings=Settings(home=Path("home"), user="ann"), store=SimpleNamespace(), sites=sites)  # type: ignore[arg-type]
    try:
        service.compile(Request(document=parse_document(text, name=name), params={"scan": "7_a"}, **options))
    except DocumentError as error:
        return error
    return None


def test_what_is_damaged_here_was_sound():
    assert compiled(WORKFLOW, "t.yaml") is None
    assert sites_of(parse_document(SITES, name="s"), base=Path("/nonexistent"), where="s").configs


@fast
@given(data=damaged(yaml.safe_load(WORKFLOW)), as_json=st.booleans())
def test_a_damaged_workflow_is_sound_or_refused_with_a_place(data, as_json):
    text = json.dumps(data) if as_json else yaml.safe_dump(data, allow_unicode=True)
    error = compiled(text, "t.json" if as_json else "t.yaml")
    if error is not None:
        refused_with_a_place(error)


@fast
@given(data=damaged(yaml.safe_load(SITES)))
def test_a_damaged_site_document_is_sound_or_refused_with_a_place(data):
    error = None
    try:
        sites_of(parse_document(yaml.safe_dump(data), name="s.yaml"), base=Path("/nonexistent"), where="s")
    except DocumentError as caught:
        error = caught
    if error is not None:
        refused_with_a_place(error)


@fast
@given(st.sampled_from(VERSIONS), st.sampled_from(ENDS), st.sampled_from(["noop", "sleep", "bytes"]), st.data())
def test_a_damaged_foreign_workflow_is_sound_or_refused_with_a_place(version, ends, bodies, data):
    document = data.draw(damaged(diamond(version, ends=ends)))
    error = compiled(json.dumps(document), "t.json", bodies=bodies)
    if error is not None:
        refused_with_a_place(error)
