"""The job that ships: an inbox as people have it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.specs import JobSpec
from taskpilot.testing import ScriptedModel, run_job
from tests.loading import job_with_functions

JOBS = {"triage": job_with_functions(Path(__file__).parents[3] / "jobs", "triage")}
Inbox = Callable[[str, str | bytes], str]


@pytest.fixture
def triage() -> JobSpec:
    return JOBS["triage"]


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    def written(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        return str(path)

    return written


def requests_of(triage: JobSpec, path: str, **parameters: Any) -> list[str]:
    """What the planner is asked."""
    model = ScriptedModel(
        lambda request: (
            {"tasks": [{"title": "x", "priority": "low"}]} if request.agent == "planner" else {"verdict": "REJECTED", "reason": "a test"}
        )
    )
    ran = run_job(triage.function, model=model, parameters={"inbox": path, "concurrency": 1, **parameters})
    assert ran.status == "succeeded", ran.reason
    return [request.messages[-1].content for request in model.requests if request.agent == "planner"]


def test_jsonl_holds_texts_or_objects(triage: JobSpec, inbox: Inbox) -> None:
    lines = [json.dumps("just text"), "", json.dumps({"from": "weber", "title": "Login", "body": "It fails."})]
    assert requests_of(triage, inbox("a.jsonl", "\n".join(lines))) == ["just text", "Login\n\nIt fails.\n\nfrom: weber"]


def test_a_separator_inside_of_a_text_ends_no_line(triage: JobSpec, inbox: Inbox) -> None:
    text = "one\u2028two\x85three"
    assert requests_of(triage, inbox("a.jsonl", json.dumps(text, ensure_ascii=False) + "\r\n")) == [text]


def test_half_an_emoji_in_one_request_does_not_stop_the_others(triage: JobSpec, inbox: Inbox) -> None:
    path = inbox("a.jsonl", '"cut off \\ud83d"\n{"title": "\\udc00", "body": "b"}\n"fine"\n')
    assert requests_of(triage, path) == ["cut off \ufffd", "\ufffd\n\nb", "fine"]


def test_a_line_that_is_no_json_is_named(triage: JobSpec, inbox: Inbox) -> None:
    ran = run_job(triage.function, model=ScriptedModel([]), parameters={"inbox": inbox("a.jsonl", '"one"\nnot json\n')})
    assert ran.status == "failed"
    assert "line 2 of the inbox" in ran.reason


def test_csv_has_a_header(triage: JobSpec, inbox: Inbox) -> None:
    assert requests_of(triage, inbox("a.csv", 'title,body,from\nLogin,"It\nfails",weber\n,,\n')) == ["Login\n\nIt\nfails\n\nfrom: weber"]


def test_text_has_one_request_a_line(triage: JobSpec, inbox: Inbox) -> None:
    assert requests_of(triage, inbox("a.txt", "\ufeffone\n\n  two  \r\n")) == ["one", "two"]


@pytest.mark.parametrize(("content", "first"), [('"a"\n', "a"), ('{"title": "a"}\n', "a"), ("a plain line\n", "a plain line")])
def test_what_has_no_ending_is_sniffed(triage: JobSpec, inbox: Inbox, content: str, first: str) -> None:
    assert requests_of(triage, inbox("inbox", content)) == [first]


def test_bytes_that_are_no_text_are_shown_as_such_and_handled(triage: JobSpec, inbox: Inbox) -> None:
    assert requests_of(triage, inbox("a.txt", b"caf\xe9 \xff\n")) == ["caf\ufffd \ufffd"]


def test_an_empty_inbox_is_nothing_to_do(triage: JobSpec, inbox: Inbox) -> None:
    assert requests_of(triage, inbox("a.jsonl", "")) == []
