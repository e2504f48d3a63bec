"""Calling a tool: failures are ToolFailed, results are JSON, and a stop is not swallowed."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

from taskpilot.domain.channels import Channel
from taskpilot.domain.errors import ConfigurationError, Denied, StoreError, Terminated, ToolArgumentsInvalid, ToolFailed
from taskpilot.tools import create_task_tool, invoke, notify_tool, read_result, result_text, tool, tool_spec


class Ticket(BaseModel):
    number: int
    opened: datetime


OPENED = datetime(2026, 11, 23, 8, tzinfo=UTC)


@tool
def open_ticket(title: str) -> Ticket:
    """Open a ticket."""
    return Ticket(number=len(title), opened=OPENED)


@tool
def give_anything(kind: str):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """Give something."""
    values: dict[str, Any] = {"nan": math.nan, "object": object(), "surrogate": "\ud800", "set": {1}, "none": None, "nested": [math.inf]}
    return values[kind]


def raiser(error: BaseException) -> Any:
    @tool
    def fail() -> str:
        """Fail."""
        raise error

    return tool_spec(fail)


def test_a_result_is_json_and_is_read_again_by_its_annotation() -> None:
    spec = tool_spec(open_ticket)
    result = invoke(spec, {"title": "four"})
    assert result == {"number": 4, "opened": "2026-11-23T08:00:00Z"}
    assert read_result(spec, result) == Ticket(number=4, opened=OPENED)
    with pytest.raises(ToolFailed, match="does not fit its return annotation"):
        read_result(spec, {"number": "x"})


@pytest.mark.parametrize(("kind", "result"), [("set", [1]), ("none", None)])
def test_without_an_annotation_a_result_is_plain_json(kind: str, result: Any) -> None:
    assert invoke(tool_spec(give_anything), {"kind": kind}) == result


@pytest.mark.parametrize("kind", ["object", "surrogate"])
def test_a_result_that_is_not_json_is_a_failure_that_says_the_tool_has_run(kind: str) -> None:
    with pytest.raises(ToolFailed, match="the tool has run"):
        invoke(tool_spec(give_anything), {"kind": kind})


@pytest.mark.parametrize("kind", ["nan", "nested"])
def test_a_number_that_json_does_not_know_never_comes_back_as_one(kind: str) -> None:
    try:
        result = invoke(tool_spec(give_anything), {"kind": kind})
    except ToolFailed:
        return
    assert result in (None, [None])


@pytest.mark.parametrize("error", [ValueError("bad\x1b[31m\nnews"), KeyError("k"), RecursionError(), OSError(28, "No space left")])
def test_an_exception_of_a_tool_is_tool_failed(error: Exception) -> None:
    with pytest.raises(ToolFailed, match=f"the tool fail failed: {type(error).__name__}") as caught:
        invoke(raiser(error), {})
    assert caught.value.__cause__ is error
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [Denied("no"), StoreError("full"), ToolFailed("own words"), Terminated(), KeyboardInterrupt(), SystemExit(3)]
)
def test_errors_of_the_deployment_and_stops_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        invoke(raiser(error), {})
    assert caught.value is error


@pytest.mark.parametrize("arguments", [{}, {"title": 1}, {"title": "t", "x": 1}, {"title": math.nan}, {"title": object()}])
def test_arguments_are_validated_again_before_the_call(arguments: dict[str, Any]) -> None:
    with pytest.raises(ToolArgumentsInvalid):
        invoke(tool_spec(open_ticket), arguments)


def test_a_long_result_is_cut_for_the_model_with_a_note() -> None:
    assert result_text("short\n") == "short\n"
    assert result_text({"a": "é"}) == '{"a": "é"}'
    text = result_text("é" * 100_000)
    assert len(text.encode()) <= 64 * 1024
    assert text.endswith("[cut: 200000 bytes in all, the first 64 kB are shown]")
    assert text.startswith("é")
    assert result_text("x" * 65_536) == "x" * 65_536
    assert result_text("a\ud800b") == "a?b"


def test_create_task_files_what_it_is_told_and_tells_what_came_of_it() -> None:
    filed: list[tuple[str, str, str]] = []

    def file_task(title: str, priority: str, description: str) -> str:
        filed.append((title, priority, description))
        return "filed"

    spec = create_task_tool(file_task)
    assert spec.idempotent
    assert invoke(spec, {"title": " t ", "priority": "low", "description": "d"}) == "filed"
    assert filed == [("t", "low", "d")]


def test_without_a_channel_a_message_goes_to_the_log_and_the_result_says_so() -> None:
    lines: list[str] = []
    spec = notify_tool({}, lines.append)
    assert not spec.idempotent
    result = invoke(spec, {"channel": "ops\n", "message": "done\x1b[31m\nnow"})
    assert result == "no channel is configured: written to the run's log"
    assert lines == ["notify ops: done\\x1b[31m\\nnow"]


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (Channel("secret"), "needs a URL"),
        (Channel("ntfy://host/secret", {"X": "secret"}), "only an http or https URL has"),
        (Channel("ntfy://host/secret", secret="secret"), "only an http or https URL has"),
        (Channel("http://user:secret@host/"), "user in its URL"),
        (Channel("http://host:secret/"), "cannot be read"),
        (Channel("http://host/secret a"), "spaces"),
        (Channel("http://host/secret\u00e9"), "spaces"),
        (Channel("http://[secret/"), "cannot be read"),
        (Channel("http://host/", {"X\r\nY": "secret"}), "HTTP cannot carry"),
        (Channel("http://host/", {"X": "secret\r\nY: 1"}), "HTTP cannot carry"),
        (Channel("http://host/", {"Content-Length": "5"}), "sets the header Content-Length"),
    ],
)
def test_a_channel_that_cannot_work_is_named_without_its_address(channel: Channel, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        notify_tool({"ops": channel}, print)
    assert "'ops'" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(channel)
