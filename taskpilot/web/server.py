"""Assembles the routes into one application and serves it with uvicorn in a thread."""

import errno
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Security
from starlette.types import ASGIApp

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.domain.version import version
from taskpilot.store.creation import prepare_state_dir
from taskpilot.web.audit import Audit
from taskpilot.web.auth import LOGIN, Access, AuthMiddleware, Hosts, in_url
from taskpilot.web.connections import Places, TimedProtocol
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import Problem, install_error_handlers
from taskpilot.web.forms import form_routes
from taskpilot.web.job_pages import job_page_routes
from taskpilot.web.links import LinkPages
from taskpilot.web.live import Changes, live_routes
from taskpilot.web.login import login_routes
from taskpilot.web.pages import page_routes
from taskpilot.web.probes import guarded_routes, open_routes
from taskpilot.web.reading import reading_routes
from taskpilot.web.record_pages import record_page_routes
from taskpilot.web.run_contents import run_content_routes
from taskpilot.web.run_pages import run_page_routes
from taskpilot.web.templating import content_policy
from taskpilot.web.tokens import new_token, own_token
from taskpilot.web.writing import BEARER, writing_routes

_DESCRIPTION = (
    "Jobs, runs, tasks and decisions of one TaskPilot deployment. Lists are pages, newest first; `next` is the path of the next page. "
    "Writing, and reading the steps, logs, artifacts and results of runs, needs the token in TASKPILOT_API_TOKEN of the server, or in "
    "the file `api_token` of its state folder where none is set, as `Authorization: Bearer ...`; all reading does if the server listens on "
    "an address that other machines can reach. TASKPILOT_READ_TOKEN may only read. All errors have the shape Problem."
)


def make_application(services: Services, access: Access, changes: Changes) -> ASGIApp:
    """The ASGI application."""
    app = _Application(
        title="TaskPilot",
        version=version(),
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    install_error_handlers(app)
    reads = [Security(BEARER)] if access.reading_needs_token else []
    app.include_router(open_routes(services))
    app.include_router(guarded_routes(services), dependencies=reads)
    app.include_router(login_routes(access))
    app.include_router(page_routes(services, app.version), dependencies=reads)
    app.include_router(job_page_routes(services))
    app.include_router(run_page_routes(services))
    app.include_router(record_page_routes(services))
    app.include_router(form_routes(services))
    app.include_router(live_routes(changes))
    app.include_router(reading_routes(services), dependencies=reads)
    app.include_router(run_content_routes(services))
    app.include_router(writing_routes(services))
    return Places(LinkPages(AuthMiddleware(app, access, Audit(services)), services, access))


class _Application(FastAPI):
    """Makes its description when it is first asked for: that takes four times as long as the rest of a start."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._describing = threading.Lock()

    def openapi(self) -> dict[str, Any]:
        with self._describing:
            if self.openapi_schema is None:
                described = super().openapi()
                # No route declares it as its response model.
                described["components"]["schemas"]["Problem"] = Problem.model_json_schema()
            return super().openapi()


_START_SECONDS: Final = 30.0
"""Enough for a very busy machine; usually it takes a tenth of a second."""
_BACKLOG: Final = 512


class HttpServer:
    """Serves until it is stopped."""

    def __init__(self, services: Services, *, host: str, port: int) -> None:
        self._services = services
        self._host = host
        self._port = port
        self._code: str | None = None
        self._changes = Changes(services)
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts to listen and to answer. Raises StoreError, or ConfigurationError where the port is taken or the address is foreign."""
        self._socket = listening = self._bind()
        try:
            access = self._access(*listening.getsockname()[:2])
        except BaseException:
            self.stop(0)
            raise
        config = uvicorn.Config(
            make_application(self._services, access, self._changes),
            http=TimedProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            # None: its log lines go through our handlers.
            log_config=None,
            access_log=False,
            server_header=False,
            # X-Forwarded-For is not trusted.
            proxy_headers=False,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="taskpilot-http", daemon=True)
        self._thread.start()
        give_up = time.monotonic() + _START_SECONDS
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() >= give_up:
                self.stop(1)
                raise ConfigurationError("the HTTP server did not start", hint="the log of `taskpilot serve` shows the cause")
            time.sleep(0.005)

    def _access(self, address: str, port: int) -> Access:
        """The rules; a server that only this machine reaches has a token of its own where none is set, and a login link."""
        deployment = self._services.deployment
        public = urlsplit(deployment.settings.public_url or "")
        hosts = Hosts(self._host, address, in_url((public.hostname or "").lower()))
        token, read_token = (
            None if held is None else held.get_secret_value() for held in (deployment.settings.api_token, deployment.settings.read_token)
        )
        if hosts.is_private:
            self._code = new_token()
            if token is None:
                prepare_state_dir(deployment.settings.state_dir)
                token = own_token(deployment.settings.state_dir)
            deployment.keep_secret(token, self._code)
        cookie = f"taskpilot-{port}"
        return Access(
            hosts, token, content_policy(), read_token=read_token, code=self._code, cookie=cookie, secure=public.scheme == "https"
        )

    @property
    def login_link(self) -> str | None:
        """The link that logs a browser on this machine in; None on an address that others can reach."""
        return None if self._code is None else f"{self.url}{LOGIN}?code={self._code}"

    @property
    def url(self) -> str:
        """The URL for a client on this machine."""
        host, port = self._listening_at()
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not bound to
        return f"http://{in_url(anywhere.get(host, self._host))}:{port}"

    def stop(self, seconds: float) -> None:
        """Accepts no more requests and waits at most `seconds` for active ones."""
        self._changes.close()
        server, thread = self._server, self._thread
        if server is not None and thread is not None:
            server.should_exit = True
            thread.join(max(seconds, 0.0))
            if thread.is_alive():
                server.force_exit = True
                thread.join(1.0)
        if self._socket is not None:
            self._socket.close()
        self._socket = self._server = self._thread = None

    def _listening_at(self) -> tuple[str, int]:
        if self._socket is not None:
            with suppress(OSError):
                address, port = self._socket.getsockname()[:2]
                return str(address), int(port)
        return self._host, self._port

    def _bind(self) -> socket.socket:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ConfigurationError(f"--host {one_line(self._host)} cannot be resolved: {error.strerror}") from None
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(self._host != "::"))
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise self._unbound(error) from None
        return listening

    def _unbound(self, error: OSError) -> ConfigurationError:
        at = f"{in_url(one_line(self._host))}:{self._port}"
        if error.errno == errno.EADDRINUSE:
            hint = f"stop that process (`ss -ltnp sport = :{self._port}` shows which), or choose another port with --port"
            return ConfigurationError(f"{at} is in use by another process", hint=hint)
        if error.errno == errno.EADDRNOTAVAIL:
            hint = "choose another one with --host; 127.0.0.1 accepts only connections from this machine"
            return ConfigurationError(f"{at} is not an address of this machine", hint=hint)
        if error.errno in (errno.EACCES, errno.EPERM):
            return ConfigurationError(f"{at} is not permitted: ports below 1024 need root", hint="choose another port with --port")
        return ConfigurationError(f"{at} cannot be listened on: {error.strerror}")
