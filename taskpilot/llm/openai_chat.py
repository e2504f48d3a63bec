"""A model at any OpenAI-compatible server: the SDK sends the requests; retries and structured replies are our own."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from taskpilot.domain.chat import ChatReply, ChatRequest
from taskpilot.domain.text import one_line
from taskpilot.llm.retries import Failure, RetryState, retry_after
from taskpilot.llm.structured import CapabilityCache, Mode, json_text, payload_in
from taskpilot.llm.wire import ReplyUnreadable, payload_of, reply_of

OPENAI_URL: Final = "https://api.openai.com/v1"
MAX_REPLY_BYTES: Final = 8 * 1024 * 1024
"""More than any real reply (a million tokens are about 4 MB), and little enough for the memory of a process."""
_PROBE_SECONDS: Final = 10.0
"""How long a thread waits while another one finds out what the server supports, before it calls by itself."""
_UNREADABLE_TRIES: Final = 3
"""Fewer than `TRIES`, since an unreadable reply costs money too."""
_NO_KEY: Final = "none"
"""The SDK requires a key; servers without one ignore it."""


class OpenAIModel:
    """A model at an OpenAI-compatible server. Threads may share one; openai is imported and the client made by the first call.

    `attempt_seconds` limits one HTTP exchange, from connecting to the last byte. `sleep`, `monotonic` and `jitter` (0 to 1) are for the
    waits between tries.
    """

    def __init__(
        self,
        name: str,
        *,
        api_key: str | None,
        base_url: str | None,
        attempt_seconds: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._name = name
        self._api_key = api_key
        self._base_url = base_url or OPENAI_URL
        self._attempt_seconds = attempt_seconds
        self._sleep = sleep
        self._monotonic = monotonic
        self._jitter = jitter
        # OpenAI's newer models accept only the one key, most compatible servers only the other.
        self._limit_key = "max_tokens" if base_url else "max_completion_tokens"
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

    def chat(self, request: ChatRequest, *, seconds_left: float) -> ChatReply:
        """One reply within `seconds_left`, with the failed tries before it.

        A structured reply's `content` is JSON text if the model gave any; it is not validated here. Raises ModelUnavailable if the server
        cannot be reached, stays overloaded or asks to wait past the deadline; ModelRefused if it would refuse again or if its reply is
        larger than 8 MiB.
        """
        retry = RetryState(seconds_left, sleep=self._sleep, monotonic=self._monotonic, jitter=self._jitter)
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
                if self._capabilities.may_be_unsupported(mode, failure.status):
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
        """One HTTP exchange. Raises Failure."""
        limit = payload.get("max_tokens")
        if limit is not None and self._limit_key != "max_tokens":
            # Another try found out that the server wants the newer key.
            payload = {key: value for key, value in payload.items() if key != "max_tokens"} | {self._limit_key: limit}
        try:
            return self._exchange(payload, retry.left())
        except Failure as failure:
            if not failure.wants_newer_limit or "max_tokens" not in payload:
                raise
            self._limit_key = "max_completion_tokens"
            retry.gave_up(failure, reason="unsupported")
            return self._try(payload, retry)

    def _exchange(self, payload: dict[str, Any], seconds_left: float) -> ChatReply:
        client = self._open_client()
        import httpx2
        import openai

        from taskpilot.llm.transport import ReplyRefused, timeout_of

        seconds = max(0.001, min(self._attempt_seconds, seconds_left))
        try:
            # Not `chat.completions.create`: walking the payload by its type hints takes a third of a call's CPU, and changes nothing in it.
            response = client.post("/chat/completions", cast_to=httpx2.Response, body=payload, options={"timeout": timeout_of(seconds)})
            return reply_of(response.content)
        except openai.APIStatusError as error:
            raise self._status_failure(error) from error
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

    def _status_failure(self, error: Any) -> Failure:
        status: int = error.status_code
        body = error.body if isinstance(error.body, dict) else {"message": error.body}
        said, code = self._safe(body.get("message")), body.get("code")
        wait = retry_after(error.response.headers)
        if status == 429 and code != "insufficient_quota":
            return Failure("rate_limit", f"{self.server}: rate limit exceeded (429){said}", status, retry_after=wait)
        if status == 408:
            return Failure("timeout", f"{self.server} timed out (408){said}", status, retry_after=wait)
        if status == 409:
            return Failure("conflict", f"{self.server} reported a conflict (409){said}", status, retry_after=wait)
        if status >= 500:
            return Failure("server_error", f"{self.server} failed ({status}){said}", status, retry_after=wait)
        explanation, hint = self._refusal(status, said, error.response.headers.get("location"))
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
            return Failure("connection", f"{self.server} cannot be reached{text}")
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
                    http_client=http_client(max_reply_bytes=MAX_REPLY_BYTES),
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
