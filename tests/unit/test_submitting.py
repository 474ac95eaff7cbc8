"""What a submission brings beside its stages: who is told, and by when it is to be done."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from api_kit import open_face

from broker.clock import micros
from broker.errors import UsageError
from broker.service import Request, Service
from broker.spec import compile_workflow, load_workflow, parse_document

SITES = """crossfade: 1
notify:
  commands: {page: ["true"]}
  mail: {relay: "localhost:25", from: us@example.org, to: ["*@example.org"]}
  web: {hosts: [hooks.example.org]}
sites:
  here: {profile: local, root: work}
"""


def document(notify: str = "", policy: str = "", stage: str = "") -> str:
    lines = ["crossfade: 1", "name: t", notify, policy, "stages:", f"  a: {{run: 'true'{stage}}}"]
    return "\n".join(line for line in lines if line) + "\n"


def told(to: str) -> str:
    return f"notify: [{{to: '{to}', when: done}}]"


@pytest.mark.parametrize(
    ("to", "problem"),
    [
        ("command:pge", "there is no command 'pge'"),
        ("mailto:eve@evil.org", "'eve@evil.org' may not be told by mail here"),
        ("https://evil.org/x", "'evil.org' may not be told here"),
        ("https://hooks.example.org:8443/x", "'hooks.example.org' may not be told here"),
    ],
)
def test_over_http_a_document_names_only_whom_the_owner_named(tmp_path: Path, to: str, problem: str) -> None:
    with open_face(tmp_path, sites=SITES) as face:
        answer = face.post("/v1/runs", {"document": document(told(to))})
        assert answer.status_code == 422, answer.text
        assert problem in answer.text
        for good in ("command:page", "mailto:Ann@example.org", "https://hooks.example.org/x"):
            assert face.post("/v1/runs", {"document": document(told(good))}).status_code == 201


def test_over_http_nobody_is_named_where_the_owner_named_nobody(tmp_path: Path) -> None:
    with open_face(tmp_path, sites="crossfade: 1\nsites: {here: {profile: local, root: work}}\n") as face:
        for to in ("command:page", "mailto:ann@example.org", "https://hooks.example.org/x"):
            assert face.post("/v1/runs", {"document": document(told(to))}).status_code == 422
        # at the owner's own machine any public webhook will do
        request = Request(document=parse_document(document(told("https://hooks.example.org/x")), name="d"), params={})
        assert face.service.submit(request).new


def row(service: Service, run: str):
    found = service.store.run(run)
    assert found is not None
    return found


def test_a_deadline_from_the_event_counts_from_when_it_happened(tmp_path: Path) -> None:
    with open_face(tmp_path, sites=SITES) as face:
        now = face.service.clock()
        text = document(policy="policy: {deadline: {within: 10m, from: event}}")
        happened = now - micros(60)
        said = datetime.fromtimestamp(happened / 1e6, UTC).isoformat()
        run = face.post("/v1/runs", {"document": text, "event_time": said}).json()["run"]
        made = row(face.service, run)
        assert (made.event_at, made.deadline_at, made.deadlines) == (happened, happened + micros(600), 1)
        plain = row(face.service, face.post("/v1/runs", {"document": text}).json()["run"])
        assert plain.deadline_at == plain.created_at + micros(600)
        for wrong in ("2026-07-01T12:00:00", "yesterday", 17):
            assert face.post("/v1/runs", {"document": text, "event_time": wrong}).status_code == 422
        raw = parse_document(text, name="d")
        for at, words in ((now + micros(3600), "has not happened yet"), (0, "more than a year ago")):
            with pytest.raises(UsageError, match=words):
                face.service.submit(Request(document=raw, params={}, event_at=at))


def test_who_is_told_may_be_a_param_and_is_checked_when_it_is_known(tmp_path: Path) -> None:
    text = document(told("mailto:${{ params.who }}@example.org"), "params: {who: {required: true}}")
    with open_face(tmp_path, sites=SITES) as face:
        run = face.post("/v1/runs", {"document": text, "params": {"who": "ann"}}).json()["run"]
        assert row(face.service, run).notify == '[["mailto:ann@example.org",["done"]]]'
        answer = face.post("/v1/runs", {"document": text, "params": {"who": "ann@evil.org,"}})
        assert answer.status_code == 422


def compiled(text: str):
    return compile_workflow(load_workflow(parse_document(text, name="t"), base=None), params={}, base=None)


def test_what_says_nothing_of_it_is_kept_as_it_always_was() -> None:
    plain = compiled(document())
    assert "deadline" not in plain.stages[0].rules
    assert (plain.notify, plain.deadline) == ([], None)


def test_a_deadline_that_cannot_be_met_is_said_before_anything_runs() -> None:
    stage = ", resources: {walltime: 15m}"
    sentences = compiled(document(policy="policy: {deadline: 20m}", stage=stage)).warnings
    assert sentences == [
        "policy.deadline: no failover could meet it: 15 min of silence, and 15 min to begin anew, are more than 20 min"
    ]
    sentences = compiled(document(policy="policy: {deadline: 10m}", stage=stage)).warnings
    assert sentences == ["policy.deadline: the walltimes on the way there come to 15 min, and it is after 10 min"]
    late = compiled(document(policy="policy: {deadline: 20m, failover: {after: 30m}}")).warnings
    assert "it is missed before anything is carried elsewhere" in late[0]
    assert compiled(document(policy="policy: {deadline: 2h}", stage=stage)).warnings == []
    assert compiled(document(policy="policy: {deadline: 20m, failover: {act: never}}", stage=stage)).warnings == []


def test_the_runs_deadline_is_no_stages_and_a_stages_own_may_count_from_ready() -> None:
    own = ", policy: {deadline: {within: 5m, from: ready, on_miss: cancel}}"
    made = compiled(document(policy="policy: {deadline: 20m}", stage=own))
    assert made.deadline == {"within": 1200.0, "from": "submit", "on_miss": "continue"}
    assert json.loads(made.stages[0].rules)["deadline"] == {"within": 300, "from": "ready", "on_miss": "cancel"}
    with pytest.raises(ValueError, match="a run is never ready, its stages are"):
        compiled(document(policy="policy: {deadline: {within: 20m, from: ready}}"))
