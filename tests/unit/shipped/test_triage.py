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


TEXT = 'title,body\r\nDrucker im Büro,"2. Gerät\r\ndruckt nicht"\r\nZugang für Jörg,Neu 😀\r\n'
ASKED = ["Drucker im Büro\n\n2. Gerät\ndruckt nicht", "Zugang für Jörg\n\nNeu 😀"]


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode("utf-8"),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace(",", ";").encode("utf-16"),
        TEXT.replace(",", "\t").encode("utf-16"),
        TEXT.replace("\r\n", "\r").encode(),
    ],
)
def test_a_csv_file_is_read_as_spreadsheets_save_it(triage: JobSpec, inbox: Inbox, data: bytes) -> None:
    assert requests_of(triage, inbox("a.csv", data)) == ASKED


ITEMS = [{"title": "Printer", "body": "floor 2"}, "New laptop"]


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt", "a", "a.export"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_json_array_is_its_elements_whatever_the_file_is_called(
    triage: JobSpec, inbox: Inbox, name: str, indent: int | None, encoding: str
) -> None:
    assert requests_of(triage, inbox(name, json.dumps(ITEMS, indent=indent).encode(encoding))) == ["Printer\n\nfloor 2", "New laptop"]


def test_json_lines_may_be_called_json_and_empty_requests_are_not_paid_for(triage: JobSpec, inbox: Inbox) -> None:
    assert requests_of(triage, inbox("a.json", '{"title": "one"}\n"two"\n""\n{}\n" "\n')) == ["one", "two"]
    assert requests_of(triage, inbox("b.json", "[]")) == []


ZIP = b"PK\x03\x04\x14\x00\x06\x00"


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.xlsx", ZIP, "zip archive"),
        ("a.csv", ZIP, "zip archive"),
        ("a.jsonl", b"\x1f\x8b\x08\x00", "gzip"),
        ("a.txt", b"%PDF-1.7\n", "PDF"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1", "old Office file"),
        ("a.txt", b"\n<!DOCTYPE html>\n<p>", "web page"),
        ("a.txt", b"{\\rtf1 hello}", "RTF"),
        ("a.txt", b"one\ntwo\x00\n", "line 2 of the inbox has NUL bytes"),
        ("a.txt", "one\ntwo".encode("utf-16-le"), "line 1 of the inbox has NUL bytes"),
        ("a.txt", "one\ntwo".encode("utf-32"), "line 1 of the inbox has NUL bytes"),
        ("a.txt", b"one\ncaf\xe9\n", "line 2 of the inbox is not UTF-8"),
        ("a.txt", "one\ntwo".encode("utf-16") + b"x", "line 2 of the inbox is not UTF-16"),
        ("a.json", b'[\n  {"title": "a"},\n  {"title": }\n]', "line 3 of the inbox is not JSON"),
        ("a.txt", b'[\n  {"title": "a"},\n', "line 3 of the inbox is not JSON"),
        ("a.json", b'{\n  "items": []\n}', "line 1 of the inbox is not JSON"),
        ("a.json", b"[1]", "element 1 of the inbox is a int"),
        ("a.jsonl", b'"a"\nnull\n', "line 2 of the inbox is a NoneType"),
        ("a.jsonl", b"[" * 100_000, "nested too deeply"),
        ("a.csv", b'title,body\na,"b\n', "line 2 of the inbox is not CSV"),
        ("a.csv", b"title,body\na,b\na,b,c\n", "line 3 of the inbox has more fields"),
    ],
)  # fmt: skip
def test_what_is_no_inbox_is_refused_by_name_before_a_model_is_asked(
    triage: JobSpec, inbox: Inbox, name: str, data: bytes, why: str
) -> None:
    ran = run_job(triage.function, model=ScriptedModel([]), parameters={"inbox": inbox(name, data)})
    assert (ran.status, why in ran.reason) == ("failed", True), ran.reason


def test_an_unknown_format_is_refused_and_a_known_one_is_not_guessed(triage: JobSpec, inbox: Inbox) -> None:
    assert requests_of(triage, inbox("a.json", '{"a": 1}'), text_format="txt") == ['{"a": 1}']
    ran = run_job(triage.function, model=ScriptedModel([]), parameters={"inbox": inbox("a.txt", "one"), "text_format": "xlsx"})
    assert "not one of auto, jsonl" in ran.reason


def test_an_empty_inbox_is_nothing_to_do(triage: JobSpec, inbox: Inbox) -> None:
    assert requests_of(triage, inbox("a.jsonl", "")) == []
