"""Checks the Host header, the token and the body of each request before it is routed."""

import asyncio
import hmac
import json
import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.text import one_line
from taskpilot.web.audit import Audit
from taskpilot.web.errors import problem, problem_of

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered on every address without a token: monitors need them."""
TRUSTED: Final = "taskpilot.trusted"
"""The key of a request's scope: whether it holds the token. Prompts, logs and results are for nobody else, on a loopback address too."""
CONTAINER_HOST: Final = "host.docker.internal"
"""The name of this machine for a Prometheus in a container."""

_ALWAYS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names of this server."""

    name: str
    """The name or address given by --host."""
    address: str
    """The address that it listens on."""

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.address).is_loopback

    def knows(self, header: str, *, path: str, local_address: str | None) -> bool:
        """Whether a Host header names this server. The local address of the connection counts: a foreign domain is never an address."""
        found = _HOST.fullmatch(header.lower())
        if found is None:
            return False
        name = found[1]
        own = {in_url(self.name.lower())} | ({in_url(_plain(local_address))} if local_address else set())
        return name in _ALWAYS or name in own or (name == CONTAINER_HOST and path in OPEN_PATHS)


def in_url(host: str) -> str:
    """The host as written in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _plain(address: str) -> str:
    """The address, with an IPv4-mapped IPv6 address as IPv4."""
    try:
        return str(getattr(ip_address(address), "ipv4_mapped", None) or address)
    except ValueError:
        return address


BODY_MAX: Final = 64 * 1024
BODY_SECONDS: Final = 10.0
"""The body must arrive within this; until then the request uses no thread."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="taskpilot"'}


@dataclass(frozen=True, slots=True)
class Access:
    """The rules: host names, token and content policy."""

    hosts: Hosts
    token: str | None
    content_policy: str
    """The Content-Security-Policy header of every response."""

    @property
    def reading_needs_token(self) -> bool:
        """Whether reading needs the token: not on a loopback address."""
        return not self.hosts.is_private


class AuthMiddleware:
    """Wraps the application; its refusals have the same shape (Problem) as those of the application."""

    def __init__(self, app: ASGIApp, access: Access, audit: Audit) -> None:
        self._app = app
        self._access = access
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return
        send = _with_headers(send, self._access.content_policy)
        if scope["method"] not in _SAFE:
            await self._write(scope, receive, send)
        elif (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
        else:
            # HEAD is answered as GET; the server leaves the body out.
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await self._app({**scope, "method": method, TRUSTED: self._is_trusted(scope)}, receive, send)

    def _is_trusted(self, scope: Scope) -> bool:
        return _holds(Headers(scope=scope), self._access.token)

    def _refusal(self, scope: Scope) -> Response | None:
        """The refusal of a request; None where it is let in."""
        headers, path = Headers(scope=scope), scope["path"]
        server = scope.get("server")
        host = headers.getlist("host")
        if len(host) != 1 or not self._access.hosts.knows(host[0], path=path, local_address=server[0] if server else None):
            return problem(421, "the Host header does not name this server; `taskpilot serve --host NAME` adds a name")
        if scope["method"] in _SAFE and (path in OPEN_PATHS or not self._access.reading_needs_token):
            return None
        if self._access.token is None:
            what = "this address serves only /livez, /readyz and /metrics" if self._access.reading_needs_token else "writing is off"
            return problem(403, f"{what}, because no token is set", hint="set TASKPILOT_API_TOKEN and restart `taskpilot serve`")
        if not _holds(headers, self._access.token):
            return problem(401, "send the token as `Authorization: Bearer ...`", CHALLENGE)
        return _cross_site(headers, host[0]) if scope["method"] not in _SAFE else None

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        refusal = self._refusal(scope)
        anonymous = refusal is not None and not _holds(Headers(scope=scope), self._access.token)
        body: bytes | None = None
        if refusal is None:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    body = await read_body(receive)
            except (TimeoutError, ConnectionResetError):
                refusal = problem(408, f"the body did not arrive within {BODY_SECONDS:.0f} s")
            else:
                refusal = _invalid(Headers(scope=scope), body)
        audit_id = ""
        if refusal is None:
            try:
                audit_id = await run_in_threadpool(self._audit.begin, method, path)
            except TaskPilotError as error:
                refusal = problem_of(error)
        if refusal is not None:
            await run_in_threadpool(self._audit.refused, method, path, refusal.status_code, anonymous=anonymous)
            await refusal(scope, receive, send)
            return
        response = _BufferedResponse()
        try:
            await self._app(scope, _replayed(body or b"", receive), response)
        finally:
            # The answer is recorded before the client gets it.
            await run_in_threadpool(self._audit.end, audit_id, response.status, response.body)
            for message in response.messages:
                await send(message)


class _BufferedResponse:
    """Holds a response until it is sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        """The HTTP status; 500 where there is no response."""
        return next((int(message["status"]) for message in self.messages if "status" in message), 500)

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(message.get("body", b"") for message in self.messages)


def _holds(headers: Headers, token: str | None) -> bool:
    given = headers.getlist("authorization")
    if token is None or len(given) != 1:
        return False
    scheme, _, secret = given[0].partition(" ")
    # Headers are decoded as Latin-1; the raw bytes are compared.
    return scheme.lower() == "bearer" and hmac.compare_digest(secret.strip().encode("latin-1"), token.encode())


def _cross_site(headers: Headers, host: str) -> Response | None:
    """Refuses a request that a page of another site made the browser send; its Origin header shows that."""
    origins = headers.getlist("origin")
    if all(origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}") for origin in origins):
        return None
    return problem(403, f"a page of {one_line(', '.join(origins), limit=80)} may not write here")


def _invalid(headers: Headers, body: bytes | None) -> Response | None:
    if body is None:
        return problem(413, f"the body is larger than {BODY_MAX // 1024} KiB")
    if not body:
        return None
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return problem(415, "send the body as application/json")
    try:
        json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return problem(422, "the body is not valid JSON")
    return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None where it is too large. Raises ConnectionResetError where the client disconnects first."""
    found = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        found += message.get("body", b"")
        if len(found) > BODY_MAX:
            return None
        if not message.get("more_body", False):
            return bytes(found)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body that was read, then what follows."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _with_headers(send: Send, content_policy: str) -> Send:
    added = [
        (b"content-security-policy", content_policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return guarded
