"""Servers that are slow, broken, overloaded or away: each ends in a clear error, in time, and in no more tries than promised."""

import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from taskpilot.domain.chat import ChatReply, ChatRequest, ChatRetry
from taskpilot.domain.errors import ModelRefused, ModelUnavailable
from taskpilot.domain.times import utc_now
from taskpilot.llm.openai_chat import OpenAIModel
from tests.servers import openai_answers as wire
from tests.servers.openai_server import OpenAIServer
from tests.stopwatch import own_seconds

Making = Callable[..., OpenAIModel]


def then_fine(*answers: wire.Answer) -> Callable[[wire.Body], wire.Answer]:
    left = iter(answers)
    return lambda _: next(left, wire.text("fine"))


def took(ask: Callable[[], ChatReply], error: type[Exception]) -> tuple[float, Any]:
    start = own_seconds()
    with pytest.raises(error) as caught:
        ask()
    return own_seconds() - start, caught.value


@pytest.mark.parametrize(
    ("status", "reason"),
    [(429, "rate_limit"), (408, "timeout"), (409, "conflict"), (500, "server_error"), (503, "server_error"), (529, "server_error")],
)
def test_a_passing_fault_is_tried_again_with_growing_waits(
    status: int, reason: str, server: OpenAIServer, model: OpenAIModel, question: ChatRequest, clock: Any
) -> None:
    server.handler = then_fine(wire.error(status), wire.error(status))
    reply = model.chat(question, seconds_left=60)
    assert reply.content == "fine"
    assert reply.retries == (ChatRetry(reason, 0.5), ChatRetry(reason, 1.0))
    assert clock.slept == [0.5, 1.0]


@pytest.mark.parametrize("status", [429, 500])
def test_a_lasting_fault_is_given_up_after_six_tries(
    status: int, server: OpenAIServer, model: OpenAIModel, question: ChatRequest, clock: Any
) -> None:
    server.handler = lambda _: wire.error(status, "still\x1b[31m so")
    _, error = took(lambda: model.chat(question, seconds_left=600), ModelUnavailable)
    assert len(server.requests) == 6
    assert clock.slept == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert f"gave up after 6 tries: {server.url}" in str(error)
    assert "still\\x1b[31m so" in str(error)
    assert (len(error.retries), error.maybe_billed) == (5, False)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([("Retry-After", "7")], 7.7),
        ([("Retry-After", "300")], 301.0),
        ([("retry-after-ms", "250")], 0.275),
        ([("retry-after-ms", "250"), ("Retry-After", "9")], 0.275),
    ],
)
def test_retry_after_is_honoured_also_above_two_minutes(
    headers: list[tuple[str, str]], wait: float, server: OpenAIServer, model: OpenAIModel, question: ChatRequest, clock: Any
) -> None:
    server.handler = then_fine(wire.error(429, headers=headers))
    assert model.chat(question, seconds_left=3_600).content == "fine"
    assert clock.slept == [pytest.approx(wait)]


def test_retry_after_as_a_date_is_counted_by_the_servers_own_clock(
    server: OpenAIServer, model: OpenAIModel, question: ChatRequest, clock: Any
) -> None:
    theirs = utc_now().replace(microsecond=0) - timedelta(days=2)
    dates = [("Date", format_datetime(theirs, usegmt=True)), ("Retry-After", format_datetime(theirs + timedelta(seconds=90), usegmt=True))]
    server.handler = then_fine(wire.error(503, headers=dates))
    assert model.chat(question, seconds_left=3_600).content == "fine"
    assert clock.slept == [pytest.approx(91.0)]


def test_a_wait_past_the_deadline_is_not_begun(server: OpenAIServer, model: OpenAIModel, question: ChatRequest, clock: Any) -> None:
    server.handler = lambda _: wire.error(429, headers=[("Retry-After", "120")])
    _, error = took(lambda: model.chat(question, seconds_left=100), ModelUnavailable)
    assert (clock.slept, len(server.requests)) == ([], 1)
    assert "the next try in 121.0 s would come after the run's deadline, which is 100.0 s away" in str(error)


def test_a_server_that_asks_for_no_wait_for_ever_is_not_hammered(
    server: OpenAIServer, model: OpenAIModel, question: ChatRequest, clock: Any
) -> None:
    server.handler = lambda _: wire.error(429, headers=[("Retry-After", "0")])
    took(lambda: model.chat(question, seconds_left=300), ModelUnavailable)
    assert len(server.requests) < 25
    assert sum(clock.slept) < 300


def test_no_quota_is_no_reason_to_wait(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda _: wire.error(429, "You exceeded your current quota", code="insufficient_quota")
    _, error = took(lambda: model.chat(question, seconds_left=300), ModelRefused)
    assert len(server.requests) == 1
    assert "has no quota left" in str(error)


@pytest.mark.parametrize(
    ("status", "helps"),
    [
        (401, "set OPENAI_API_KEY to a key of that server"),
        (403, "does not allow this key the model gpt-4o"),
        (404, "check --model and OPENAI_BASE_URL"),
        (400, "refused the request (400)"),
        (413, "refused the request (413)"),
        (307, "set OPENAI_BASE_URL to the right address"),
    ],
)
def test_a_refusal_says_what_helps_and_never_shows_the_key(
    status: int, helps: str, server: OpenAIServer, model: OpenAIModel, question: ChatRequest
) -> None:
    server.handler = lambda _: wire.error(
        status, "the key sk-secret-key is \x1b[31mwrong", headers=[("Location", "http://127.0.0.1:9/v1")] if status == 307 else ()
    )
    _, error = took(lambda: model.chat(question, seconds_left=300), ModelRefused)
    assert isinstance(error, ModelRefused)
    assert helps in error.one_line
    assert "sk-secret-key" not in error.one_line
    assert "\x1b" not in error.one_line
    assert len(server.requests) == 1


def test_a_server_that_hangs_holds_a_try_no_longer_than_allowed(server: OpenAIServer, model_at: Making, question: ChatRequest) -> None:
    server.handler = then_fine(wire.hang())
    start, began = own_seconds(), time.monotonic()
    reply = model_at(server.url, attempt_seconds=1.5).chat(question, seconds_left=60)
    assert time.monotonic() - began >= 1.5
    assert own_seconds() - start < 4
    assert reply.retries == (ChatRetry("timeout", 0.5, maybe_billed=True),)


def test_a_server_that_drips_holds_a_try_no_longer_than_one_that_hangs(
    server: OpenAIServer, model_at: Making, question: ChatRequest
) -> None:
    server.handler = lambda _: wire.drip(0.02)
    model, began = model_at(server.url, attempt_seconds=0.4), time.monotonic()
    seconds, error = took(lambda: model.chat(question, seconds_left=60), ModelUnavailable)
    assert time.monotonic() - began >= 6 * 0.4
    assert seconds < 6 * 0.4 + 3
    assert "did not answer in full within 0.4 s" in str(error)
    assert error.maybe_billed


def test_a_drip_in_the_body_ends_as_well_as_one_in_the_headers(server: OpenAIServer, model_at: Making, question: ChatRequest) -> None:
    # 120 bytes of headers arrive at once with this pause, then the body begins: both must end the same way.
    server.handler = lambda _: wire.drip(0.001)
    seconds, _ = took(lambda: model_at(server.url, attempt_seconds=0.5).chat(question, seconds_left=0.8), ModelUnavailable)
    assert seconds < 2


def test_the_time_of_a_read_is_what_is_left_of_the_whole(server: OpenAIServer, model_at: Making, question: ChatRequest) -> None:
    server.handler = then_fine(wire.drip(1.5))
    start = own_seconds()
    model_at(server.url, attempt_seconds=1.7).chat(question, seconds_left=30)
    assert own_seconds() - start < 2.8


def test_no_try_outlives_the_runs_deadline(server: OpenAIServer, model_at: Making, question: ChatRequest) -> None:
    server.handler = lambda _: wire.hang()
    seconds, _ = took(lambda: model_at(server.url, attempt_seconds=60).chat(question, seconds_left=0.3), ModelUnavailable)
    assert seconds < 2


def test_with_no_time_left_nobody_is_asked(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    took(lambda: model.chat(question, seconds_left=0), ModelUnavailable)
    assert server.requests == ()


def test_a_reply_of_ten_megabytes_is_not_read(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda _: wire.huge()
    _, error = took(lambda: model.chat(question, seconds_left=60), ModelRefused)
    assert "larger than 8,388,608 bytes" in str(error)
    assert error.maybe_billed
    assert len(server.requests) == 1


def test_a_huge_reply_without_a_length_is_cut_off_too(model_at: Making, question: ChatRequest) -> None:
    with _bare_server(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n", b"x" * 65_536, times=1_600) as url:
        _, error = took(lambda: model_at(url).chat(question, seconds_left=60), ModelRefused)
    assert "larger than 8,388,608 bytes" in str(error)


def test_a_packed_reply_is_refused_since_it_may_unpack_to_anything(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda _: wire.Answer(headers=(("Content-Encoding", "gzip"),), body=b"\x1f\x8b")
    _, error = took(lambda: model.chat(question, seconds_left=60), ModelRefused)
    assert "compressed" in str(error)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"error": {"message": "x"}}',
        b"\xff\xfe\xfd",
        b"[" * 200_000,
        b'{"choices": [{"message": {"tool_calls": [{"id": 1}]}}]}',
        b'{"choices": [{"message": {"content": ' + b"9" * 5_000 + b"}}]}",
    ],
    ids=["empty", "half", "html", "list", "object", "none", "bare", "error", "bytes", "deep", "nameless call", "long number"],
)
def test_a_reply_that_is_no_chat_completion_is_asked_for_twice_more(
    body: bytes, server: OpenAIServer, model: OpenAIModel, question: ChatRequest
) -> None:
    server.handler = lambda _: wire.raw(body)
    _, error = took(lambda: model.chat(question, seconds_left=60), ModelUnavailable)
    assert len(server.requests) == 3
    assert error.maybe_billed
    server.handler = lambda _: wire.text("fine")
    assert model.chat(question, seconds_left=60).content == "fine"


@pytest.mark.parametrize("when", ["before", "reset", "amid"])
def test_a_broken_connection_is_tried_again(when: str, server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = then_fine(wire.disconnect(when))
    reply = model.chat(question, seconds_left=60)
    assert (reply.content, reply.retries) == ("fine", (ChatRetry("connection", 0.5, maybe_billed=True),))


def test_a_server_that_is_away_is_unavailable_and_cannot_have_billed(model_at: Making, question: ChatRequest) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://user:word@127.0.0.1:{bound.getsockname()[1]}/v1"
        _, error = took(lambda: model_at(url).chat(question, seconds_left=60), ModelUnavailable)
    assert "cannot be reached" in str(error)
    assert "word" not in str(error)
    assert not error.maybe_billed
    assert [retry.reason for retry in error.retries] == ["connection"] * 5


def test_a_name_that_nobody_knows_is_unavailable(model_at: Making, question: ChatRequest) -> None:
    _, error = took(lambda: model_at("http://no-such-host.invalid/v1").chat(question, seconds_left=60), ModelUnavailable)
    assert "the name no-such-host.invalid was not found" in str(error)


class _bare_server:  # noqa: N801 - reads as a statement.
    """Answers one connection with a head and the same chunk many times, and no Content-Length."""

    def __init__(self, head: bytes, chunk: bytes, *, times: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._parts = (head, *([chunk] * times))

    def __enter__(self) -> str:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.recv(65_536)
            try:
                for part in self._parts:
                    connection.sendall(part)
            except OSError:
                return

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._thread.join(timeout=5)
