"""Habits of compatible servers: small contexts, other output limits, errors with status 200, proxies."""

import base64
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from taskpilot.domain.chat import ChatRequest, Message, Role, ToolCall
from taskpilot.domain.errors import ModelError, ModelRefused, ModelUnavailable
from taskpilot.http import exchange
from taskpilot.llm.openai_chat import OpenAIModel
from tests.servers import openai_answers as wire
from tests.servers.openai_server import OpenAIServer

TOO_MUCH = {
    "OpenAI": (
        400,
        "This model's maximum context length is 4096 tokens. However, you requested 4491 tokens",
    ),
    "vLLM": (400, "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 2048 tokens."),
    "OpenAI's output": (
        400,
        "max_tokens is too large: 4096. This model supports at most 2048 completion tokens, whereas you provided 4096.",
    ),
    "LiteLLM with Anthropic's output": (400, "max_tokens: 4096 > 2048, which is the maximum allowed number of output tokens for claude-3"),
    "LiteLLM with Anthropic": (
        400,
        "input length and `max_tokens` exceed context limit: 1000 + 4096 > 4096, decrease input length or `max_tokens` and try again",
    ),
    "Groq": (400, "`max_tokens` must be less than or equal to `2048`"),
    "DeepSeek": (400, "Invalid max_tokens value, the valid range of max_tokens is [1, 2048]"),
    "DashScope": (400, "Range of max_tokens should be [1, 2000]"),
    "SGLang": (400, "Requested token count exceeds the model's maximum context length of 4096 tokens."),
    "llama.cpp": (400, "the request exceeds the available context size (4096 tokens), try increasing it"),
    "TGI": (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 395 `inputs` tokens"),
    "Mistral": (413, "Prompt contains 4000 tokens, too large for model with 4096 maximum context length"),
    "llama.cpp before": (500, "Context size has been exceeded."),
}


def limit_of(body: wire.Body) -> int:
    return int(body.get("max_tokens") or body["max_completion_tokens"])


@pytest.mark.parametrize(("status", "words"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_a_server_that_cannot_give_so_much_output_is_asked_for_less_and_remembered(
    status: int, words: str, server: OpenAIServer, model: OpenAIModel, planning: ChatRequest
) -> None:
    server.handler = lambda body: wire.error(status, words) if limit_of(body) > 2048 else wire.triage_brain(body)
    for _ in range(2):
        assert "tasks" in json.loads(model.chat(planning, seconds_left=30).content)
    assert [limit_of(body) for body in server.bodies] == [4096, 2048, 2048]


def test_a_short_prompt_is_not_held_to_the_limit_of_a_long_one(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda body: (
        wire.error(400, "maximum context length") if len(str(body)) // 4 + limit_of(body) > 8192 else wire.text("ok")
    )
    long = replace(question, messages=(Message(Role.USER, "word " * 5_000),))
    for request in (long, question, long):
        model.chat(request, seconds_left=30)
    assert [limit_of(body) for body in server.bodies] == [4096, 2048, 1024, 4096, 1024]


def test_a_prompt_that_no_output_fits_beside_is_refused_with_what_to_set(
    server: OpenAIServer, model: OpenAIModel, planning: ChatRequest
) -> None:
    server.handler = lambda _: wire.error(400, "maximum context length exceeded")
    with pytest.raises(ModelRefused, match="maximum context length exceeded") as caught:
        model.chat(planning, seconds_left=30)
    assert "[openai] max_output_tokens" in caught.value.one_line
    assert [limit_of(body) for body in server.bodies] == [4096, 2048, 1024, 512, 256]


@pytest.mark.parametrize(("code", "kind", "tries"), [(429, ModelUnavailable, 6), (400, ModelRefused, 1), (502, ModelUnavailable, 6)])
@pytest.mark.parametrize("inside", [False, True])
def test_an_error_with_status_200_counts_by_its_own_code(
    code: int, kind: type[ModelError], tries: int, inside: bool, server: OpenAIServer, model: OpenAIModel, question: ChatRequest
) -> None:
    error: dict[str, Any] = {"error": {"message": "the provider says sk-secret-key no", "code": code}}
    body = {"choices": [{**error, "message": {"content": ""}, "finish_reason": "error"}]} if inside else error
    server.handler = lambda _: wire.raw(json.dumps(body).encode())
    with pytest.raises(kind, match="the provider says \\*\\*\\* no"):
        model.chat(question, seconds_left=600)
    assert len(server.requests) == tries


@pytest.mark.parametrize(
    "words",
    ["Failed to parse tool call arguments as JSON", "jinja2.exceptions.TemplateError", "messages[2].tool_calls[0] is not valid", "busy"],
)
def test_a_conversation_that_a_server_cannot_read_is_refused_and_not_called_temporary(
    words: str, server: OpenAIServer, model: OpenAIModel, executing: ChatRequest
) -> None:
    call = ToolCall("1", "create_task", '{"title": "x"}')
    history = (*executing.messages, Message(Role.ASSISTANT, "", (call,)), Message(Role.TOOL, "done", tool_call_id="1"))
    server.handler = lambda _: wire.error(500, words)
    with pytest.raises(ModelUnavailable if words == "busy" else ModelRefused):
        model.chat(replace(executing, messages=history), seconds_left=600)
    # The same words about a request without such a history may pass.
    with pytest.raises(ModelUnavailable):
        model.chat(executing, seconds_left=600)


def test_a_reply_that_streams_all_the_same_is_named(server: OpenAIServer, model: OpenAIModel, question: ChatRequest) -> None:
    server.handler = lambda _: wire.raw(b'data: {"choices": []}\n\ndata: [DONE]\n\n')
    with pytest.raises(ModelUnavailable, match="is a stream"):
        model.chat(question, seconds_left=60)
    assert {body["stream"] for body in server.bodies} == {False}


class Forward(socketserver.ThreadingTCPServer):
    """A forward proxy that passes everything on to one server, whatever host was asked for, and keeps the heads of the requests."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Forwarding)
        self.target = target
        self.heads: list[str] = []


class _Forwarding(socketserver.StreamRequestHandler):
    server: Forward

    def handle(self) -> None:
        import http.client

        head = b""
        while not head.endswith(b"\r\n\r\n") and (line := self.rfile.readline()):
            head += line
        text = head.decode()
        self.server.heads.append(text)
        method, address, _ = text.split("\r\n")[0].split(" ")
        if method == "CONNECT":
            self.wfile.write(b"HTTP/1.1 502 no tunnel\r\nContent-Length: 0\r\n\r\n")
            return
        headers = dict(line.split(": ", 1) for line in text.split("\r\n")[1:] if ": " in line)
        length = int({name.lower(): value for name, value in headers.items()}.get("content-length", "0"))
        to = http.client.HTTPConnection(*self.server.target)
        to.request(method, "/" + address.split("/", 3)[3], self.rfile.read(length), headers)
        answer = to.getresponse()
        body = answer.read()
        to.close()
        self.wfile.write(f"HTTP/1.1 {answer.status} OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)


@pytest.fixture
def forward(server: OpenAIServer) -> Iterator[Forward]:
    with Forward(("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))) as proxy:
        threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield proxy
        proxy.shutdown()


def address_of(proxy: Forward, user: str = "") -> str:
    return f"http://{user}127.0.0.1:{proxy.server_address[1]}"


def test_a_host_that_only_the_proxy_knows_is_reached_through_it(
    forward: Forward, model_at: Callable[..., OpenAIModel], question: ChatRequest
) -> None:
    model = model_at("http://model.invalid/v1", proxy=address_of(forward, "ada:s%40fe@"))
    assert model.chat(question, seconds_left=30).content == "an answer of the test server"
    assert forward.heads[0].startswith("POST http://model.invalid/v1/chat/completions ")
    assert base64.b64encode(b"ada:s@fe").decode() in forward.heads[0]
    answer = exchange("GET", "http://model.invalid/v1/models?a=1", seconds=10, proxy=address_of(forward, "ada:s%40fe@"))
    assert answer.status == 404
    assert forward.heads[1].startswith("GET http://model.invalid/v1/models?a=1 ")
    assert base64.b64encode(b"ada:s@fe").decode() in forward.heads[1]


def test_an_encrypted_server_is_reached_by_a_tunnel_and_a_refusal_of_it_is_named(
    forward: Forward, model_at: Callable[..., OpenAIModel], question: ChatRequest
) -> None:
    model = model_at("https://model.invalid/v1", proxy=address_of(forward, "ada:s%40fe@"))
    with pytest.raises(ModelUnavailable, match="through the proxy 127") as caught:
        model.chat(question, seconds_left=30)
    assert "s@fe" not in str(caught.value)
    with pytest.raises(Exception, match="OSError"):
        exchange("GET", "https://model.invalid/v1/models", seconds=10, proxy=address_of(forward))
    assert {head.split(" HTTP")[0] for head in forward.heads} == {"CONNECT model.invalid:443"}
