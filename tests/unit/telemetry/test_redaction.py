"""What is masked because we know it, and what because of its looks."""

import time

import pytest

from taskpilot.telemetry.redaction import Redactor

UNKNOWN = Redactor()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a key sk-proj-Ab12Cd34Ef56Gh78 here", "a key *** here"),
        ("a task-force of sk-short", "a task-force of sk-short"),
        ("http://user:pass@host/x?y=1", "http://***@host/x?y=1"),
        ("postgresql+psycopg://me:p%40ss@db:5432/x", "postgresql+psycopg://***@db:5432/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("Authorization: Bearer abcdefgh12345", "Authorization: ***"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "{'authorization': '***'}"),
        ("sent bearer abcdef0123456789", "sent bearer ***"),
        ("the bearer of news", "the bearer of news"),
        ("OPENAI_API_KEY=abcd1234 and password: 'hunter2'", "OPENAI_API_KEY=*** and password: '***'"),
        ("no secrets, 30 tokens", "no secrets, 30 tokens"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert UNKNOWN.masked(text) == shown


def test_a_known_secret_is_masked_as_json_and_urls_write_it_too() -> None:
    redactor = Redactor(['p"a/ss\\word'])
    assert redactor.masked(r'p"a/ss\word {"x": "p\"a/ss\\word"} p%22a%2Fss%5Cword') == '*** {"x": "***"} ***'


def test_a_short_secret_is_an_ordinary_word() -> None:
    assert Redactor(["test"]).masked("the latest test") == "the latest test"


def test_a_jobs_result_loses_known_secrets_only() -> None:
    result = {"canary-1234": ["password: canary-1234", 1, None, {"x": True}]}
    assert Redactor(["canary-1234"]).hidden_in(result) == {"***": ["password: ***", 1, None, {"x": True}]}
    assert UNKNOWN.hidden_in(result) is result


def test_a_field_whose_name_is_that_of_a_secret_keeps_no_value() -> None:
    masked: list[str] = []
    shown = UNKNOWN.plain({"x-api-key": "abc", "headers": {"Cookie": "id=1"}, "tokens": 3, "note": "abc"}, changed=masked.append)
    assert shown == {"x-api-key": "***", "headers": {"Cookie": "***"}, "tokens": 3, "note": "abc"}
    assert masked == ["/x-api-key", "/headers/Cookie"]
    assert UNKNOWN.named("db_password", "abc") == "***"


@pytest.mark.parametrize("piece", ["a", "://", "://a:", "sk-", "authorization:", "bearer ", "secret=", "a.a-", "password "])
def test_a_hostile_text_costs_linear_time(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    began = time.thread_time()
    UNKNOWN.masked(text)
    assert time.thread_time() - began < 2
