"""A real local HTTP server that speaks chat completions, well or badly, for tests and for other processes' tests."""

import argparse
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

Body = dict[str, Any]

EVERY_MODE: Final = frozenset({"json_schema", "forced_tool", "prompt"})
_PROMPTED: Final = re.compile(r"one JSON object `(\w+)`")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an answer says it used; `prompt` includes `cached`."""

    prompt: int
    cached: int
    completion: int

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(self.prompt + other.prompt, self.cached + other.cached, self.completion + other.completion)


PLAN_TOKENS: Final = Tokens(1_200, 1_024, 30)
REVIEW_TOKENS: Final = Tokens(431, 128, 17)
CALL_TOKENS: Final = Tokens(612, 256, 41)
FINISH_TOKENS: Final = Tokens(677, 512, 9)
"""The usage of each kind of call that `triage_brain` answers: odd figures, so that a sum shows which calls were counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server does with one request."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    delay_seconds: float = 0.0
    """Waits before it answers at all; ends early when the server closes."""
    drip_seconds: float = 0.0
    """Sends one byte at a time with this pause between them, headers first."""
    disconnect: str = ""
    """`before`: closes without a byte; `reset`: with a TCP reset; `amid`: after half of the body."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it came."""

    at: float
    """`time.monotonic()`."""
    path: str
    headers: dict[str, str]
    body: Body


def completion(message: Body, *, tokens: Tokens | None, finish_reason: str = "stop") -> Answer:
    """A whole chat completion."""
    reply: Body = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 1_795_000_000,
        "model": "test",
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}],
    }
    if tokens is not None:
        reply["usage"] = {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.completion,
            "total_tokens": tokens.prompt + tokens.completion,
            "prompt_tokens_details": {"cached_tokens": tokens.cached},
        }
    return Answer(body=json.dumps(reply).encode())


def text(content: str, *, tokens: Tokens | None = Tokens(10, 0, 2), finish_reason: str = "stop") -> Answer:
    """A plain reply."""
    return completion({"content": content}, tokens=tokens, finish_reason=finish_reason)


def refusal(words: str, *, tokens: Tokens | None = Tokens(10, 0, 2)) -> Answer:
    """A reply whose model declines."""
    return completion({"content": None, "refusal": words}, tokens=tokens)


def tool_calls(*calls: tuple[str, Body | str], tokens: Tokens | None = Tokens(10, 0, 2)) -> Answer:
    """A reply that asks for tools: pairs of a name and its arguments, as an object or as raw text."""
    asked = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls, start=1)
    ]
    return completion({"content": None, "tool_calls": asked}, tokens=tokens, finish_reason="tool_calls")


def structured(body: Body, value: Body | str, *, tokens: Tokens | None = Tokens(10, 0, 2)) -> Answer:
    """A structured reply in the way that the request asks for; a str is put there as it is."""
    said = value if isinstance(value, str) else json.dumps(value)
    if mode_of(body) == "forced_tool":
        return tool_calls((str(wanted(body)), said), tokens=tokens)
    return text(said, tokens=tokens)


def error(status: int, message: str = "no", *, code: str | None = None, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    """An error in OpenAI's shape."""
    body = {"error": {"message": message, "type": "test_error", "param": None, "code": code}}
    return Answer(status=status, headers=tuple(headers), body=json.dumps(body).encode())


def raw(body: bytes, *, status: int = 200) -> Answer:
    """Any bytes at all."""
    return Answer(status=status, body=body)


def hang(seconds: float = 600.0) -> Answer:
    """Takes the request and says nothing."""
    return replace(text("late"), delay_seconds=seconds)


def drip(pause_seconds: float = 0.05) -> Answer:
    """Sends a correct reply so slowly that it takes minutes, with every read succeeding in time."""
    return replace(text("slow " * 2_000), drip_seconds=pause_seconds)


def disconnect(when: str = "before") -> Answer:
    """Breaks the connection: `before` any byte, by a TCP `reset`, or `amid` the body."""
    return replace(text("cut"), disconnect=when)


def huge(size: int = 10 * 1024 * 1024) -> Answer:
    """A correct reply of at least `size` bytes."""
    return text("x" * size)


def mode_of(body: Body) -> str | None:
    """How a request asks for a structured reply: json_schema, forced_tool or prompt; None where it asks for none."""
    if isinstance(body.get("response_format"), dict) and body["response_format"].get("type") == "json_schema":
        return "json_schema"
    if isinstance(body.get("tool_choice"), dict):
        return "forced_tool"
    return "prompt" if any(_PROMPTED.search(str(message.get("content"))) for message in body.get("messages", ())) else None


def wanted(body: Body) -> str | None:
    """The name of the structured output that a request asks for."""
    mode = mode_of(body)
    if mode == "json_schema":
        return str(body["response_format"]["json_schema"]["name"])
    if mode == "forced_tool":
        return str(body["tool_choice"]["function"]["name"])
    found = (_PROMPTED.search(str(message.get("content"))) for message in body.get("messages", ()))
    return next((match.group(1) for match in found if match), None)


def last_user(body: Body) -> str:
    """The last user message."""
    return next((str(message["content"]) for message in reversed(body["messages"]) if message["role"] == "user"), "")


def triage_brain(body: Body, *, tasks: int = 1, verdict: str = "APPROVE", priority: str = "medium") -> Answer:
    """Plays planner, reviewer and executor: `tasks` tasks a request, one verdict for all, one create_task and then an end."""
    name = wanted(body)
    if name == "Plan":
        subject = " ".join(last_user(body).split())[:60] or "nothing"
        proposed = [{"title": f"Task {n}: {subject}", "priority": priority, "description": subject} for n in range(1, tasks + 1)]
        return structured(body, {"tasks": proposed}, tokens=PLAN_TOKENS)
    if name == "Review":
        return structured(body, {"verdict": verdict, "reason": "the test server says so"}, tokens=REVIEW_TOKENS)
    if name is not None:
        return structured(body, {}, tokens=REVIEW_TOKENS)
    if not body.get("tools"):
        return text("an answer of the test server", tokens=FINISH_TOKENS)
    if body["messages"][-1]["role"] == "tool":
        return text("done", tokens=FINISH_TOKENS)
    try:
        task = json.loads(last_user(body))["task"]
    except (ValueError, KeyError, TypeError):
        return text("there is no task", tokens=FINISH_TOKENS)
    return tool_calls(("create_task", {"title": task["title"], "priority": task["priority"]}), tokens=CALL_TOKENS)


class OpenAIServer:
    """The server, alive inside a `with`. `handler` may be exchanged at any time; `supports` are the structured modes that it knows.

    With a `certificate` (its file and its key's) it speaks TLS.
    """

    def __init__(
        self,
        handler: Callable[[Body], Answer] = triage_brain,
        *,
        port: int = 0,
        supports: Iterable[str] = EVERY_MODE,
        refuse_status: int = 400,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.handler = handler
        self.supports = frozenset(supports)
        self.refuse_status = refuse_status
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def requests(self) -> tuple[Seen, ...]:
        """All requests so far, in the order of their arrival."""
        with self._lock:
            return tuple(self._seen)

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The bodies of all requests so far."""
        return tuple(seen.body for seen in self.requests)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, seen: Seen) -> Answer:
        """Records the request and decides what to do with it."""
        with self._lock:
            self._seen.append(seen)
        if seen.path != "/v1/chat/completions":
            return error(404, f"no such path: {seen.path}")
        mode = mode_of(seen.body)
        if mode is not None and mode not in self.supports:
            return error(self.refuse_status, f"{mode} is not supported")
        return self.handler(seen.body)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True
    block_on_close = False
    owner: OpenAIServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's.
        """Quiet."""

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", "0")))
        owner = self.server.owner
        try:
            body = json.loads(data)
        except ValueError:
            body = {}
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(owner.answer(Seen(time.monotonic(), self.path, headers, body)), owner.closing)

    def do_GET(self) -> None:
        self._send(error(404, "only POST"), self.server.owner.closing)

    def _send(self, answer: Answer, closing: threading.Event) -> None:
        if answer.delay_seconds and closing.wait(answer.delay_seconds):
            self.close_connection = True
            return
        if answer.disconnect in {"before", "reset"}:
            if answer.disconnect == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return
        head = [f"HTTP/1.1 {answer.status} Test", "Content-Type: application/json", f"Content-Length: {len(answer.body)}"]
        head += [f"{name}: {value}" for name, value in answer.headers]
        whole = ("\r\n".join(head) + "\r\n\r\n").encode() + answer.body
        if answer.disconnect == "amid":
            self.wfile.write(whole[: -len(answer.body) // 2])
            self.close_connection = True
        elif answer.drip_seconds:
            for byte in whole:
                self.wfile.write(bytes([byte]))
                if closing.wait(answer.drip_seconds):
                    self.close_connection = True
                    return
        else:
            self.wfile.write(whole)


def main() -> None:
    """Serves `triage_brain` until it is killed; prints the URL on its first line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tasks", type=int, default=1)
    parser.add_argument("--verdict", default="APPROVE")
    parser.add_argument("--priority", default="medium")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--supports", default=",".join(sorted(EVERY_MODE)), help="structured modes, comma-separated")
    parser.add_argument("--refuse-status", type=int, default=400)
    options = parser.parse_args()
    brain = partial(triage_brain, tasks=options.tasks, verdict=options.verdict, priority=options.priority)
    server = OpenAIServer(
        lambda body: replace(brain(body), delay_seconds=options.delay),
        port=options.port,
        supports=options.supports.split(","),
        refuse_status=options.refuse_status,
    )
    with server:
        print(server.url, flush=True)  # noqa: T201 - this is how another process learns the port.
        threading.Event().wait()


if __name__ == "__main__":
    main()
