"""A model at any OpenAI-compatible server: the SDK sends the requests; retries and structured replies are our own."""

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final
from urllib.parse import urlsplit

from taskpilot.domain.chat import OPENAI_URL, ChatReply, ChatRequest
from taskpilot.domain.text import one_line
from taskpilot.http import shown
from taskpilot.llm.prices import context_of
from taskpilot.llm.retries import Failure, RetryState, retry_after
from taskpilot.llm.structured import CapabilityCache, Mode, json_text, payload_in
from taskpilot.llm.wire import TOKENS_MAX, ReplyIsError, ReplyUnreadable, payload_of, reply_of

ATTEMPT_SECONDS: Final = 600.0
"""The longest wait for one reply, unless the settings have another one: a local model on a CPU may take minutes."""
MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
"""More than any real reply (a million tokens are about 4 MB), and little enough for the memory of a process."""
_PROBE_SECONDS: Final = 10.0
"""How long a thread waits while another one finds out what the server supports, before it calls by itself."""
_ANSWER_LOST: Final = frozenset({502, 504})
"""A gateway says so where the model behind it may have done the work."""
_UNREADABLE_TRIES: Final = 3
"""Fewer than `TRIES`, since an unreadable reply costs money too."""
_LEAST_OUTPUT: Final = 256
"""A smaller output limit is of no use for a plan or a review."""
_LESS_OUTPUT: Final = "set [openai] max_output_tokens in taskpilot.toml to less, or shorten the prompt"
_CONTEXT_LIST_FACTOR: Final = 2
"""A listed context may be a little out of date."""
_TOO_MUCH_OUTPUT: Final = re.compile(
    r"context.{0,20}(?:length|window|size|limit)|(?:length|window|size).{0,20}context"
    r"|max_(?:completion_|new_|output_)?tokens\W.{0,80}(?:too large|less than|at most|range|exceed|maximum|>|<=)"
    r"|(?:too large|at most|range of|exceeds?).{0,80}(?:max_(?:completion_|new_|output_)?tokens|completion tokens|output tokens)",
    re.IGNORECASE | re.DOTALL,
)
"""What servers say if prompt and output limit do not fit: only OpenAI has a code for it."""
_ABOUT_HISTORY: Final = re.compile(
    r"tool[ _]?call|function[ _]?call|arguments|jinja|chat[ _]template|messages\[|thought_signature", re.IGNORECASE
)
"""What servers say with status 5xx if they cannot read the conversation: the next try would be refused as well."""
_NO_KEY: Final = "none"
"""The SDK requires a key; servers without one ignore it."""


class OpenAIModel:
    """A model at an OpenAI-compatible server. Threads may share one; openai is imported and the client made by the first call.

    `attempt_seconds` limits one HTTP exchange, from connecting to the last byte, which goes through the `proxy`, if there is one. `sleep`,
    `monotonic` and `jitter` (0 to 1) are for the waits between tries.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str | None,
        base_url: str | None,
        attempt_seconds: float = ATTEMPT_SECONDS,
        proxy: str | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._api_key = api_key
        self._base_url = base_url or OPENAI_URL
        self._attempt_seconds = attempt_seconds
        self._proxy = proxy
        self._sleep = sleep
        self._monotonic = monotonic
        self._jitter = jitter
        # OpenAI's newer models accept only the one key, most compatible servers only the other.
        self._limit_key = "max_tokens" if base_url else "max_completion_tokens"
        self._lowered: tuple[int, int] | None = None
        """Bytes of a prompt, and the output limit that fitted beside it."""
        self._capabilities = CapabilityCache()
        self._lock = threading.Lock()
        self._client: Any = None

    @property
    def name(self) -> str:
        """The name as configured."""
        return self._name

    @property
    def server(self) -> str:
        """The base URL without credentials, for messages."""
        parts = urlsplit(self._base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")

    @cached_property
    def _tokens_max(self) -> int:
        context = context_of(self._name)
        return TOKENS_MAX if context is None else context * _CONTEXT_LIST_FACTOR

    def chat(self, request: ChatRequest, *, seconds_left: float, before_retry: Callable[[], None] = lambda: None) -> ChatReply:
        """One reply within `seconds_left`, with the failed tries before it.

        A structured reply's `content` is JSON text if the model gave any; it is not validated here. Raises ModelUnavailable if the server
        cannot be reached, stays overloaded or asks to wait past the deadline; ModelRefused if it would refuse again or if its reply is
        larger than 8 MiB.
        """
        retry = RetryState(seconds_left, before_retry, sleep=self._sleep, monotonic=self._monotonic, jitter=self._jitter)
        payload = payload_of(request, model=self._name, limit_key=self._limit_key)
        if request.output is None:
            return retry.until_answered(lambda: self._try(payload, retry))
        with self._capabilities.probing(min(retry.left(), _PROBE_SECONDS)):
            return retry.until_answered(lambda: self._try_modes(request, payload, retry))

    def close(self) -> None:
        """Closes the connections; a later call opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _try_modes(self, request: ChatRequest, payload: dict[str, Any], retry: RetryState) -> ChatReply:
        """A reply in the first mode that the server supports; a failed mode counts as `unsupported` only if a later one works."""
        output = request.output
        if output is None:
            raise ValueError("the request has no output schema")
        refusals: list[Failure] = []
        for mode in self._capabilities.modes:
            try:
                reply = self._try(payload_in(mode, payload, output), retry)
            except Failure as failure:
                if not failure.wants_less_output and self._capabilities.may_be_unsupported(mode, failure.status):
                    refusals.append(failure)
                    continue
                for refusal in refusals:
                    retry.gave_up(refusal)
                raise
            for refusal in refusals:
                retry.gave_up(refusal, reason="unsupported")
            reply = _structured(mode, reply)
            complete = reply.refusal is None and reply.finish_reason == "stop"
            self._capabilities.answered(mode, reply.content, output, complete=complete)
            return reply
        raise AssertionError("the last mode either returns or raises")

    def _try(self, payload: dict[str, Any], retry: RetryState) -> ChatReply:
        """One HTTP exchange, and another one at once if the server wants another output limit. Raises Failure."""
        sent = sum(len((message.get("content") or "").encode()) for message in payload["messages"])
        limit = next(payload[key] for key in ("max_tokens", "max_completion_tokens") if key in payload)
        payload = {key: value for key, value in payload.items() if key not in {"max_tokens", "max_completion_tokens"}}
        lowered = self._lowered
        if lowered is not None and sent * 2 >= lowered[0]:
            limit = min(limit, lowered[1])
        while True:
            key = self._limit_key
            retry.before_try()
            try:
                return self._exchange({**payload, key: limit}, retry.left(), sent=sent, limit=limit)
            except Failure as failure:
                if failure.wants_newer_limit and key == "max_tokens":
                    self._limit_key = "max_completion_tokens"
                elif failure.wants_less_output and limit >= _LEAST_OUTPUT * 2 and retry.left() > 0:
                    limit //= 2
                    self._lowered = sent, limit
                else:
                    raise
                retry.gave_up(failure, reason="unsupported")

    def _exchange(self, payload: dict[str, Any], seconds_left: float, *, sent: int, limit: int) -> ChatReply:
        client = self._open_client()
        import httpx2
        import openai

        from taskpilot.llm.transport import ReplyRefused, timeout_of

        seconds = max(0.001, min(self._attempt_seconds, seconds_left))
        try:
            # Not `chat.completions.create`: walking the payload by its type hints takes a third of a call's CPU, and changes nothing in it.
            response = client.post("/chat/completions", cast_to=httpx2.Response, body=payload, options={"timeout": timeout_of(seconds)})
            return reply_of(response.content, sent=sent, limit=limit, tokens_max=self._tokens_max)
        except ReplyIsError as error:
            if error.status is None:
                explanation = f"{self.server} answered with an error{self._safe(error.body.get('message'))}"
                raise Failure("server_error", explanation, tries=_UNREADABLE_TRIES, maybe_billed=True) from error
            raise self._failure(error.status, error.body, response.headers, payload) from error
        except openai.APIStatusError as error:
            body = error.body if isinstance(error.body, dict) else {"message": error.body}
            raise self._failure(error.status_code, body, error.response.headers, payload) from error
        except openai.APITimeoutError as error:
            connecting = type(error.__cause__).__name__ == "ConnectTimeout"
            what = "did not accept a connection" if connecting else f"did not answer in full within {seconds:.1f} s"
            raise Failure("timeout", f"{self.server} {what}", maybe_billed=not connecting) from error
        except openai.APIConnectionError as error:
            raise self._connection_lost(error.__cause__ or error) from error
        except ReplyRefused as error:
            explanation = f"{self.server}: {error}"
            raise Failure("server_error", explanation, final=True, maybe_billed=True) from error
        except ReplyUnreadable as error:
            raise Failure("server_error", f"{self.server}: {error}", tries=_UNREADABLE_TRIES, maybe_billed=True) from error

    def _failure(self, status: int, body: Mapping[str, Any], headers: Mapping[str, str], payload: Mapping[str, Any]) -> Failure:
        said, code = self._safe(body.get("message")), body.get("code")
        wait = retry_after(headers)
        words = str(body.get("message"))
        if status in {400, 413, 422, 500} and (code == "context_length_exceeded" or _TOO_MUCH_OUTPUT.search(words)):
            refused = f"{self.server} refused the request ({status}){said}"
            return Failure("server_error", refused, status, final=True, hint=_LESS_OUTPUT, wants_less_output=True)
        if status >= 500 and _ABOUT_HISTORY.search(words) and any(message["role"] == "tool" for message in payload["messages"]):
            return Failure("server_error", f"{self.server} refused the conversation ({status}){said}", status, final=True)
        if status == 429 and code != "insufficient_quota":
            return Failure("rate_limit", f"{self.server}: rate limit exceeded (429){said}", status, retry_after=wait)
        if status == 408:
            return Failure("timeout", f"{self.server} timed out (408){said}", status, retry_after=wait)
        if status == 409:
            return Failure("conflict", f"{self.server} reported a conflict (409){said}", status, retry_after=wait)
        if status >= 500:
            lost = status in _ANSWER_LOST
            return Failure("server_error", f"{self.server} failed ({status}){said}", status, retry_after=wait, maybe_billed=lost)
        explanation, hint = self._refusal(status, said, headers.get("location"))
        return Failure(
            "server_error", explanation, status, final=True, hint=hint, wants_newer_limit=status == 400 and _wants_newer_limit(body)
        )

    def _refusal(self, status: int, said: str, location: str | None) -> tuple[str, str | None]:
        """The meaning of the server's status, and a hint."""
        if status == 401:
            # The server's text often contains a part of the key.
            sent = "did not accept the key" if self._api_key else "requires a key, and none is set"
            hint = "set OPENAI_API_KEY to a key of that server, or OPENAI_BASE_URL to the server of your key"
            return f"{self.server} {sent} (401)", hint
        if status == 403:
            return f"{self.server} does not allow this key the model {self._name} (403){said}", None
        if status == 404:
            sentence = f"{self.server} has no model {self._name}, or is not the base URL of an OpenAI-compatible server (404){said}"
            return sentence, "check --model and OPENAI_BASE_URL, which usually ends in /v1"
        if status == 429:
            return f"the account at {self.server} has no quota left (429){said}", "raise its limit or use another key"
        if 300 <= status < 400:
            to = one_line(location or "nowhere")
            sentence = f"{self.server} redirects to {to} ({status}), and redirects are not followed"
            return sentence, "set OPENAI_BASE_URL to the right address"
        return f"{self.server} refused the request ({status}){said}", None

    def _connection_lost(self, cause: BaseException) -> Failure:
        text = self._safe(str(cause))
        if _distrusts_certificate(cause):
            sentence = f"the certificate of {self.server} is not trusted{text}"
            return Failure("connection", sentence, final=True, hint="set SSL_CERT_FILE to the file of its certificate authority")
        if type(cause).__name__ == "ConnectError":
            through = f" through the proxy {shown(self._proxy)}" if self._proxy else ""
            return Failure("connection", f"{self.server} cannot be reached{through}{text}")
        return Failure("connection", f"the connection to {self.server} broke{text}", maybe_billed=True)

    def _safe(self, text: object) -> str:
        """A server's text for the end of a message: one printable line without the key."""
        if not isinstance(text, str) or not text.strip():
            return ""
        if self._api_key:
            text = text.replace(self._api_key, "***")
        return f": {one_line(text, limit=300)}"

    def _open_client(self) -> Any:
        with self._lock:
            if self._client is None:
                import openai

                from taskpilot.llm.transport import http_client

                self._client = openai.OpenAI(
                    api_key=self._api_key or _NO_KEY,
                    base_url=self._base_url,
                    max_retries=0,
                    http_client=http_client(max_reply_bytes=MAX_REPLY_BYTES, proxy=self._proxy),
                    default_headers={"Accept-Encoding": "identity"},
                )
            return self._client


def _wants_newer_limit(body: Mapping[str, Any]) -> bool:
    """Whether a server refuses `max_tokens`; OpenAI has a field for it, others only a text."""
    words = body.get("message")
    return body.get("param") == "max_tokens" or (isinstance(words, str) and "max_completion_tokens" in words)


def _distrusts_certificate(cause: BaseException | None) -> bool:
    import ssl

    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _structured(mode: Mode, reply: ChatReply) -> ChatReply:
    """The reply with its JSON as the content, and without the forced tool call."""
    content = reply.content
    if mode is Mode.FORCED_TOOL and reply.tool_calls:
        content = reply.tool_calls[0].arguments
    finish_reason = "stop" if reply.finish_reason == "tool_calls" else reply.finish_reason
    return replace(reply, content=json_text(content), tool_calls=(), finish_reason=finish_reason)
