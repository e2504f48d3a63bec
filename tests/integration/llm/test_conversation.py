"""What goes over the wire and what comes back when the server behaves."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from taskpilot.domain.chat import ChatReply, ChatRequest, Message, Role, ToolCall
from taskpilot.domain.usage import Usage
from taskpilot.llm.openai_chat import OpenAIModel
from tests.servers import openai_answers as wire
from tests.servers.openai_server import OpenAIServer


def test_a_reply_has_its_text_and_exactly_the_usage_that_the_server_reported(
    server: OpenAIServer, model: OpenAIModel, question: ChatRequest
) -> None:
    server.handler = lambda _: wire.text("Hello!", tokens=wire.Tokens(1200, 1024, 30))
    assert model.chat(question, seconds_left=30) == ChatReply(content="Hello!", usage=Usage(1200, 1024, 30))
    (seen,) = server.requests
    assert seen.body == {
        "model": "gpt-4o",
        "messages": [{"role": "system", "content": "You help."}, {"role": "user", "content": "Hello?"}],
        "stream": False,
        "max_tokens": 4096,
    }
    assert seen.headers["authorization"] == "Bearer sk-secret-key"
    assert seen.headers["accept-encoding"] == "identity"


def test_tool_calls_are_passed_on_as_they_were_written(server: OpenAIServer, model: OpenAIModel, executing: ChatRequest) -> None:
    server.handler = lambda _: wire.tool_calls(("create_task", '{"title": broken'), ("no_such_tool", {"a": 1}))
    reply = model.chat(executing, seconds_left=30)
    assert reply.tool_calls == (ToolCall("call_1", "create_task", '{"title": broken'), ToolCall("call_2", "no_such_tool", '{"a": 1}'))
    assert reply.finish_reason == "tool_calls"
    (body,) = server.bodies
    assert body["tool_choice"] == "auto"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["create_task"]


def test_the_result_of_a_tool_goes_back_with_the_id_of_its_call(server: OpenAIServer, model: OpenAIModel, executing: ChatRequest) -> None:
    call = ToolCall("call_1", "create_task", "{}")
    later = replace(
        executing,
        messages=(*executing.messages, Message(Role.ASSISTANT, "", (call,)), Message(Role.TOOL, "filed", tool_call_id="call_1")),
    )
    assert model.chat(later, seconds_left=30).content == "done"
    assert server.bodies[0]["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "create_task", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "filed", "tool_call_id": "call_1"},
    ]


def test_refusals_and_cut_replies_pass_through(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda _: wire.refusal("I will not")
    assert model.chat(question, seconds_left=30).refusal == "I will not"
    server.handler = lambda _: wire.text("half a sen", finish_reason="length")
    reply = model.chat(question, seconds_left=30)
    assert (reply.content, reply.finish_reason) == ("half a sen", "length")


def test_a_reply_without_usage_says_none_and_not_zero(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda _: wire.text("hi", tokens=None)
    assert model.chat(question, seconds_left=30).usage is None


def test_without_a_key_a_server_is_asked_all_the_same(
    server: OpenAIServer, model_at: Callable[..., OpenAIModel], question: ChatRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    model_at(server.url, api_key=None).chat(question, seconds_left=30)
    assert server.requests[0].headers["authorization"] == "Bearer none"


def test_a_proxy_of_the_environment_is_not_asked(
    server: OpenAIServer, model: OpenAIModel, question: ChatRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert model.chat(question, seconds_left=30).content


def test_lone_surrogates_survive_neither_way(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda _: wire.text("bad \ud800 good \U0001f600")
    asked = replace(question, messages=(Message(Role.USER, "odd \udfff"),))
    assert model.chat(asked, seconds_left=30).content == "bad \ufffd good \U0001f600"
    assert server.bodies[0]["messages"][0]["content"] == "odd \ufffd"


def test_sixteen_threads_share_one_client_and_reuse_its_connections(
    server: OpenAIServer, model: OpenAIModel, question: ChatRequest
) -> None:
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda _: model.chat(question, seconds_left=30), range(160)))
    assert {reply.content for reply in replies} == {"an answer of the test server"}
    assert len(server.requests) == 160


def test_a_closed_model_can_be_asked_again(model: OpenAIModel, question: ChatRequest) -> None:
    first = model.chat(question, seconds_left=30)
    model.close()
    assert model.chat(question, seconds_left=30) == first


def test_a_newer_model_that_wants_the_newer_limit_gets_it(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    def picky(body: wire.Body) -> wire.Answer:
        if "max_tokens" in body:
            return wire.error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return wire.text("fine")

    server.handler = picky
    assert model.chat(question, seconds_left=30).content == "fine"
    assert model.chat(question, seconds_left=30).retries == ()
    assert ["max_tokens" in body for body in server.bodies] == [True, False, False]


def test_a_check_loads_neither_the_sdk_nor_the_prices_until_they_are_needed(tmp_path: Path) -> None:
    (tmp_path / "taskpilot.toml").touch()
    code = (
        "import sys, json\nfrom pathlib import Path\nfrom taskpilot.config import load\n"
        "from taskpilot.llm.factory import check_model, open_model\nfrom taskpilot.llm.prices import Prices\n"
        "settings = load(root=Path(sys.argv[1]), environ={'OPENAI_API_KEY': 'sk-x'})\n"
        "check_model('gpt-4o', settings); open_model('gpt-4o', settings); Prices(None)\n"
        "print(json.dumps([n for n in ('openai', 'httpx2', 'httpcore2', 'genai_prices', 'pydantic') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_server_runs_as_a_program_for_other_processes(model_at: Callable[..., OpenAIModel], question: ChatRequest) -> None:
    command = [sys.executable, "-m", "tests.servers.openai_server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert model_at(url).chat(question, seconds_left=30).content == "an answer of the test server"
        finally:
            process.kill()
