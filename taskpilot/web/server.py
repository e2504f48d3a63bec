"""Routes, errors and access put together, and served by uvicorn in a thread of its own."""

import errno
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

import uvicorn
from fastapi import FastAPI, Security
from starlette.types import ASGIApp

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.domain.version import version
from taskpilot.web.audit import Audit
from taskpilot.web.auth import Access, AuthMiddleware, Hosts, in_url
from taskpilot.web.dependencies import Services
from taskpilot.web.errors import Problem, install_error_handlers
from taskpilot.web.pages import page_routes
from taskpilot.web.probes import guarded_routes, open_routes
from taskpilot.web.reading import reading_routes
from taskpilot.web.templating import content_policy
from taskpilot.web.writing import BEARER, writing_routes

_DESCRIPTION = (
    "What this deployment of TaskPilot runs, ran and waits for. Lists are pages, the newest first; `next` is where the following page is. "
    "Writing needs the token that the server was started with (TASKPILOT_API_TOKEN) as `Authorization: Bearer ...`, and so does reading "
    "where the server listens on another address than this machine's own. Refusals have one shape, Problem."
)


def make_application(services: Services, access: Access) -> ASGIApp:
    """What the server serves."""
    app = FastAPI(
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
    app.include_router(page_routes(services, app.version), dependencies=reads)
    app.include_router(reading_routes(services), dependencies=reads)
    app.include_router(writing_routes(services))
    _describe_problems(app)
    return AuthMiddleware(app, access, Audit(services))


def _describe_problems(app: FastAPI) -> None:
    """Adds the shape of refusals to the description: no route returns it by itself, so that FastAPI would not know it."""
    described: dict[str, Any] = app.openapi()
    described["components"]["schemas"]["Problem"] = Problem.model_json_schema()


_START_SECONDS: Final = 30.0
"""On a machine that is very busy; usual is a tenth of a second."""
_BACKLOG: Final = 512
_CONNECTIONS_MAX: Final = 512
"""More at once are answered 503 at the door."""


class HttpServer:
    """Serves until it is stopped."""

    def __init__(self, services: Services, *, host: str, port: int) -> None:
        self._services = services
        self._host = host
        self._port = port
        self._socket: socket.socket | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listens, and answers from here on. Raises ConfigurationError where the port is taken or the address is not ours."""
        self._socket = listening = self._bind()
        token = self._services.deployment.settings.api_token
        access = Access(
            hosts=Hosts(self._host, listening.getsockname()[0]),
            token=token.get_secret_value() if token is not None else None,
            content_policy=content_policy(),
        )
        config = uvicorn.Config(
            make_application(self._services, access),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            # Its lines go where all of ours go, and its signal handlers are never set outside of the main thread.
            log_config=None,
            access_log=False,
            server_header=False,
            # Who says in a header that he is another one is not believed.
            proxy_headers=False,
            limit_concurrency=_CONNECTIONS_MAX,
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
                raise ConfigurationError("the HTTP server did not start", hint="the log says why")
            time.sleep(0.005)

    @property
    def url(self) -> str:
        """Where it answers, for a person on this machine."""
        host, port = self._listening_at()
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not bound to
        return f"http://{in_url(anywhere.get(host, self._host))}:{port}"

    def stop(self, seconds: float) -> None:
        """Takes no more requests, lets those that go on end for `seconds`, and then leaves them."""
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
            raise ConfigurationError(f"--host {one_line(self._host)} is no address: {error.strerror}") from None
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
            hint = f"stop that process (`ss -ltnp sport = :{self._port}` shows which), or give another port by --port"
            return ConfigurationError(f"{at} is in use by another process", hint=hint)
        if error.errno == errno.EADDRNOTAVAIL:
            hint = "give another one by --host; 127.0.0.1 is for this machine alone"
            return ConfigurationError(f"{at} is no address of this machine", hint=hint)
        if error.errno in (errno.EACCES, errno.EPERM):
            return ConfigurationError(f"{at} may not be used by us: ports below 1024 are for uid 0", hint="give another one by --port")
        return ConfigurationError(f"{at} cannot be listened on: {error.strerror}")
