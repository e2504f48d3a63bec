"""What is masked because we know it, and what because of its looks."""

import time
from base64 import b64encode

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
        ('PASSWORD="my secret pass phrase" and more', 'PASSWORD="***" and more'),
        (r"{\"password\": \"hunter2 secret9\", \"b\": 1}", r"{\"password\": \"***\", \"b\": 1}"),
        ("https://0123456789abcdef@host/ ssh://git@host/", "https://***@host/ ssh://git@host/"),
        ("https://host/v1?a=b&token=hunter2secret9#c", "https://host/v1?a=b&token=***#c"),
        ("npm_0123456789abcdefABCDEF", "***"),
        ("no secrets, 30 tokens", "no secrets, 30 tokens"),
        (
            "password=hunter2secret9 token ghp_0123456789abcdefABCDEF0123456789abcd aws AKIAIOSFODNN7EXAMPLE",
            "password=*** token *** aws ***",
        ),
        ("github_pat_11ABCDEFG0123456789_abcdef", "***"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = ***"),
        ('{\\"api_key\\": \\"abcd1234\\"}', '{\\"api_key\\": \\"***\\"}'),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN-_x end", "jwt *** end"),
        ("xoxb-123456789012-abcdefgh AIzaSyA1234567890abcdefghijkl glpat-abcdefgh12345678 sk_live_abcdefgh12345678", "*** *** *** ***"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEcut", "***"),
        ("MIIEpAIBAAKCAQEA7bq98x4KZk2v5m1Yc0JwQnB3tRfUuVqYp8s6LhXg9dTe2WzA", "***"),
        (
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        ("DB_PASS=hunter22 passwort: hunter22 GITHUB_TOKEN=abcdefg1", "DB_PASS=*** passwort: *** GITHUB_TOKEN=***"),
        ('{"token": "abcd efgh", "pass": true}', '{"token": "***", "pass": true}'),
        ("bypass=never max_token=4096, tests pass: all of them", "bypass=never max_token=4096, tests pass: all of them"),
        ("Cookie: sid=abcdef; b=2\nset-cookie: a=b; Path=/", "Cookie: ***\nset-cookie: ***"),
        ("cookie: a small cake", "cookie: a small cake"),
        ("the highest ghost asian keyboard: fine, key: 5", "the highest ghost asian keyboard: fine, key: 5"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert UNKNOWN.masked(text) == shown


def test_a_known_secret_is_masked_as_json_and_urls_write_it_too() -> None:
    redactor = Redactor(['p"a/ss\\word'])
    assert redactor.masked(r'p"a/ss\word {"x": "p\"a/ss\\word"} p%22a%2Fss%5Cword') == '*** {"x": "***"} ***'
    assert redactor.masked("basic " + b64encode(b'p"a/ss\\word').decode()).rstrip("=") == "basic ***"


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


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "://",
        "://a:",
        "sk-",
        "authorization:",
        "bearer ",
        "secret=",
        "token=",
        "cookie: a=",
        "a.a-",
        "password ",
        "eyJ-",
        "eyJa.",
        "ghp_",
        "-----BEGIN PRIVATE KEY-----",
        "AKIA",
        "x" * 63 + "\n",
        "api_key",
    ],
)
def test_a_hostile_text_costs_linear_time(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    began = time.thread_time()
    UNKNOWN.masked(text)
    assert time.thread_time() - began < 2
