"""Checks the Host header, the token or session and the body of each request before it is routed."""

import asyncio
import hashlib
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qs, quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskpilot.domain.errors import TaskPilotError
from taskpilot.domain.text import one_line
from taskpilot.web.audit import ANONYMOUS, API, PAGE, Audit
from taskpilot.web.errors import prefers_html, problem, problem_of
from taskpilot.web.repeats import KEY_MOST, KEY_PATTERN, Repeat, Repeats
from taskpilot.web.sessions import LoginLimit, Role, Session, Sessions
from taskpilot.web.templating import refusal_page, reload_page

OPEN_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Answered on every address without a token: monitors need them."""
LOGIN: Final = "/login"
ICON: Final = "/favicon.svg"
CALLER: Final = "taskpilot.caller"
"""The key of a request's scope: its Caller."""
FORM: Final = "taskpilot.form"
"""The key of a request's scope: the fields of its form, each a list of texts."""
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
    public: str = ""
    """The name at which people reach it, as in a URL."""

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.address).is_loopback

    def is_public(self, header: str) -> bool:
        """Whether a Host header has the public name: then a proxy may have sent the request of somebody elsewhere."""
        found = _HOST.fullmatch(header.lower())
        return bool(self.public) and found is not None and found[1] == self.public and self.public not in _ALWAYS

    def knows(self, header: str, *, path: str, local_address: str | None) -> bool:
        """Whether a Host header names this server. The local address of the connection counts: a foreign domain is never an address."""
        found = _HOST.fullmatch(header.lower())
        if found is None:
            return False
        name = found[1]
        own = {in_url(self.name.lower()), self.public} - {""} | ({in_url(_plain(local_address))} if local_address else set())
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

_FIELDS_MAX: Final = 1_000

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CHALLENGE: Final = {"WWW-Authenticate": 'Bearer realm="taskpilot"'}


@dataclass(frozen=True, slots=True)
class Access:
    """The rules: host names, tokens and content policy; and who is logged in."""

    hosts: Hosts
    token: str | None
    content_policy: str
    """The Content-Security-Policy header of every response."""
    read_token: str | None = None
    """It may only read."""
    code: str | None = None
    """In the login link of this start of the server."""
    cookie: str = "taskpilot"
    """The name of the session's cookie. Browsers send the cookies of a host to each of its ports, so each server has its own."""
    secure: bool = False
    """Whether browsers reach the server by https alone."""
    sessions: Sessions = field(default_factory=Sessions)
    limit: LoginLimit = field(default_factory=LoginLimit)

    @property
    def reading_needs_token(self) -> bool:
        """Whether reading needs the token: not on a loopback address."""
        return not self.hosts.is_private

    @property
    def has_token(self) -> bool:
        """Whether anybody can log in."""
        return self.token is not None or self.read_token is not None

    def role_of(self, secret: bytes) -> Role:
        """What the holder of a token may do."""
        for token, role in ((self.token, Role.WRITER), (self.read_token, Role.READER)):
            if token is not None and hmac.compare_digest(secret, token.encode()):
                return role
        return Role.NOBODY

    def caller(self, headers: Headers) -> "Caller":
        """Who sent a request: by its bearer token, else by the session of its cookie."""
        given = headers.getlist("authorization")
        if given:
            scheme, _, secret = given[0].partition(" ")
            # Headers are decoded as Latin-1; the raw bytes are compared.
            valid = len(given) == 1 and scheme.lower() == "bearer"
            return Caller(self.role_of(secret.strip().encode("latin-1")) if valid else Role.NOBODY)
        name = _cookie(headers, self.cookie)
        session = self.sessions.find(name) if name else None
        return Caller() if session is None else Caller(session.role, session, name)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    role: Role = Role.NOBODY
    session: Session | None = None
    session_name: str = ""

    @property
    def may_read(self) -> bool:
        """Whether it may read what is in a run. Prompts, logs and results are for nobody else, on a loopback address too."""
        return self.role >= Role.READER

    @property
    def actor(self) -> str:
        """Its name in the record."""
        return ANONYMOUS if self.role is Role.NOBODY else API if self.session is None else PAGE


def caller_of(request: HTTPConnection) -> Caller:
    """Who sent this request."""
    caller: Caller = request.scope[CALLER]
    return caller


def _cookie(headers: Headers, name: str) -> str:
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


class AuthMiddleware:
    """Wraps the application; its refusals have the same shape (Problem) as those of the application."""

    def __init__(self, app: ASGIApp, access: Access, audit: Audit) -> None:
        self._app = app
        self._access = access
        self._audit = audit
        self._repeats = Repeats()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return
        send = _with_headers(send, self._access.content_policy)
        headers = Headers(scope=scope)
        caller = self._access.caller(headers)
        if scope["method"] not in _SAFE:
            await self._write(scope, receive, send, headers, caller)
        elif (refusal := self._unreadable(scope, headers, caller)) is not None:
            await refusal(scope, receive, send)
        else:
            # HEAD is answered as GET; the server leaves the body out.
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await self._app({**scope, "method": method, CALLER: caller}, receive, send)

    def _foreign(self, scope: Scope, headers: Headers) -> Response | None:
        server = scope.get("server")
        host = headers.getlist("host")
        if len(host) == 1 and self._access.hosts.knows(host[0], path=scope["path"], local_address=server[0] if server else None):
            return None
        return problem(421, "the Host header does not name this server; `taskpilot serve --host NAME` adds a name")

    def _unreadable(self, scope: Scope, headers: Headers, caller: Caller) -> Response | None:
        """The refusal of a request that reads; None where it is let in."""
        foreign, path = self._foreign(scope, headers), scope["path"]
        if foreign is not None or path in OPEN_PATHS:
            return foreign
        if caller.session is None and _came_by_link(headers):
            # A browser leaves the session's cookie out where a link of another site, or of a mail, leads to us: asked again by our own
            # page, it sends the cookie. The login link comes this way too.
            return None if path == LOGIN else reload_page(scope)
        if (
            path in (LOGIN, ICON)
            or caller.may_read
            or not (self._access.reading_needs_token or self._access.hosts.is_public(headers["host"]))
        ):
            return None
        return self._unknown(headers, "this address serves only /livez, /readyz, /metrics and /login", scope)

    def _unknown(self, headers: Headers, limits: str, scope: Scope) -> Response:
        """The refusal of a request without a valid token."""
        if not self._access.has_token:
            return problem(403, f"{limits}, because no token is set", hint="set TASKPILOT_API_TOKEN and restart `taskpilot serve`")
        if is_page(scope["path"]) and prefers_html(headers.get("accept", "")):
            return to_login(scope["path"] if scope["method"] in _SAFE else "/")
        return problem(401, "send the token as `Authorization: Bearer ...`", CHALLENGE)

    def _unwritable(self, scope: Scope, headers: Headers, caller: Caller) -> Response | None:
        """The refusal of a request that writes, as far as its head shows; None where it is let in."""
        foreign = self._foreign(scope, headers)
        if foreign is not None:
            return foreign
        if scope["path"] != LOGIN:
            if caller.role is Role.NOBODY:
                return self._unknown(headers, "writing is off", scope)
            if caller.role < Role.WRITER and scope["path"] != "/logout":
                return _refused(scope, headers, 403, "this token may only read", hint="log in with TASKPILOT_API_TOKEN")
        return _cross_site(scope, headers, headers["host"])

    def _key(
        self, scope: Scope, headers: Headers, caller: Caller, form: Mapping[str, Sequence[str]], body: bytes
    ) -> tuple[tuple[str, ...] | None, Response | None]:
        """What names the request where it is sent again; None where it has no key."""
        if is_page(scope["path"]):
            # The forms of a page share its key.
            given = list(form.get("key", ()))
            more = hashlib.sha256(body).hexdigest()
        else:
            given, more = headers.getlist("idempotency-key"), ""
        if not given or scope["path"] == LOGIN:
            return None, None
        if len(given) > 1 or not 0 < len(given[0]) <= KEY_MOST or not re.fullmatch(KEY_PATTERN, given[0]):
            return None, problem(422, f"an Idempotency-Key has 1 to {KEY_MOST} printable ASCII characters, and no space")
        return (caller.session_name, caller.role.name, scope["method"], scope["path"], given[0], more), None

    def _forget(self, key: tuple[str, ...] | None) -> None:
        if key is not None:
            self._repeats.end(key, (), keep=False)

    async def _write(self, scope: Scope, receive: Receive, send: Send, headers: Headers, caller: Caller) -> None:
        method, path = scope["method"], scope["path"]
        refusal: Response | Repeat | None = self._unwritable(scope, headers, caller)
        body: bytes | None = None
        form: dict[str, list[str]] = {}
        if refusal is None:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    body = await read_body(receive)
            except (TimeoutError, ConnectionResetError):
                refusal = problem(408, f"the body did not arrive within {BODY_SECONDS:.0f} s")
        if refusal is None and is_page(path):
            form, refusal = _form(headers, body)
        elif refusal is None:
            refusal = _invalid(headers, body)
        if refusal is None and caller.session is not None and path != LOGIN:
            given = form.get("csrf", headers.getlist("x-csrf-token"))
            if len(given) != 1 or not hmac.compare_digest(given[0].encode(), caller.session.csrf.encode()):
                detail = "this form is not of your session; load the page again"
                refusal = _refused(scope, headers, 403, detail, hint="the API takes the session's token in X-CSRF-Token")
        key = None
        if refusal is None:
            key, refusal = self._key(scope, headers, caller, form, body or b"")
            if refusal is None and key is not None and (earlier := self._repeats.begin(key, body or b"")) is not None:
                refusal = _repeated(earlier, body or b"")
                key = None
        audit_id = ""
        # Logins are recorded after the answer, as many a minute as refused requests.
        if refusal is None and path != LOGIN:
            try:
                audit_id = await run_in_threadpool(self._audit.begin, method, path, caller.actor)
            except TaskPilotError as error:
                refusal = problem_of(error)
                self._forget(key)
        if isinstance(refusal, Repeat):
            for message in refusal.messages or ():
                await send(message)
            return
        if refusal is not None:
            await run_in_threadpool(
                self._audit.refused, method, path, refusal.status_code, anonymous=caller.role is Role.NOBODY, actor=caller.actor
            )
            await refusal(scope, receive, send)
            return
        response = _BufferedResponse()
        try:
            await self._app({**scope, CALLER: caller, FORM: form}, _replayed(body or b"", receive), response)
        finally:
            if key is not None:
                self._repeats.end(key, response.messages, keep=response.status < 500)
            # The answer is recorded before the client gets it.
            if audit_id:
                await run_in_threadpool(self._audit.end, audit_id, response.status, response.body)
            else:
                await run_in_threadpool(self._audit.refused, method, path, response.status, anonymous=True)
            for message in response.messages:
                await send(message)


def _repeated(earlier: Repeat, body: bytes) -> Response | Repeat:
    """The answer to a request whose key was sent before."""
    if earlier.digest != hashlib.sha256(body).digest():
        return problem(409, "this Idempotency-Key was sent with another body")
    return earlier if earlier.messages is not None else problem(409, "the request with this Idempotency-Key is being executed")


def is_page(path: str) -> bool:
    """Whether a path is one of the pages for people, with their forms, and not of the API."""
    return not path.startswith("/api/")


def to_login(path: str) -> Response:
    """Leads to the login, and from there to a page of ours."""
    return RedirectResponse(f"{LOGIN}?next={quote(path)}" if path != "/" else LOGIN, 303)


def _came_by_link(headers: Headers) -> bool:
    return headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") == "navigate"


def _refused(scope: Scope, headers: Headers, status: int, detail: str, *, hint: str | None) -> Response:
    if is_page(scope["path"]) and prefers_html(headers.get("accept", "")):
        return refusal_page(status, detail)
    return problem(status, detail, hint=hint)


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


def _cross_site(scope: Scope, headers: Headers, host: str) -> Response | None:
    """Refuses a request that a page of another site made the browser send; its Origin header shows that."""
    origins = headers.getlist("origin")
    if all(origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}") for origin in origins):
        return None
    return _refused(scope, headers, 403, f"a page of {one_line(', '.join(origins), limit=80)} may not write here", hint=None)


def _form(headers: Headers, body: bytes | None) -> tuple[dict[str, list[str]], Response | None]:
    """The fields of a form, or its refusal."""
    if body is None:
        return {}, problem(413, f"the form is larger than {BODY_MAX // 1024} KiB")
    if body and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return {}, problem(415, "send the form as application/x-www-form-urlencoded")
    try:
        return parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict"), None
    except ValueError:
        return {}, problem(422, "the body is not a valid form")


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
        # With "no-referrer" browsers would send `Origin: null` with our own forms.
        (b"referrer-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cache-control", b"no-store"),
    ]

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        await send(message)

    return guarded
