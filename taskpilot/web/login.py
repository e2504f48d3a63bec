"""Login and logout: by the login link of this start of the server, or by a token."""

import hmac
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from taskpilot.web.auth import FORM, ICON, LOGIN, Access, caller_of
from taskpilot.web.sessions import Role
from taskpilot.web.templating import render

_ICON: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="3" fill="#0550ae"/>'
    '<path d="M3 12V8h2v4zm4 0V4h2v8zm4 0V6h2v6z" fill="#fff"/></svg>'
)


def login_routes(access: Access) -> APIRouter:
    """The routes."""
    router = APIRouter(include_in_schema=False)

    def logged_in(role: Role, target: str) -> Response:
        response = RedirectResponse(target, 303)
        response.set_cookie(access.cookie, access.sessions.begin(role), httponly=True, samesite="strict", secure=access.secure)
        return response

    def refused(request: Request, target: str) -> Response:
        address = _address(request)
        if access.limit.is_reached(address):
            detail = "Too many wrong logins from this address: wait a minute."
            return HTMLResponse(render("login.html", target=target, problem=detail), 429, {"Retry-After": "60"})
        access.limit.count(address)
        return HTMLResponse(render("login.html", target=target, problem="This is not a token or login link of this server."), 401)

    @router.get(LOGIN)
    def show(request: Request, code: str = "", target: Annotated[str, Query(alias="next")] = "/") -> Response:
        """The form; with the code of the login link, a session."""
        # The code has 256 random bits: a right one is let in whatever others tried.
        if code and access.code is not None and hmac.compare_digest(code.encode(), access.code.encode()):
            return logged_in(Role.WRITER, _ours(target))
        return refused(request, _ours(target)) if code else HTMLResponse(render("login.html", target=_ours(target), problem=""))

    @router.get(ICON)
    def icon() -> Response:
        return Response(_ICON, media_type="image/svg+xml")

    @router.post(LOGIN)
    def log_in(request: Request) -> Response:
        form: dict[str, list[str]] = request.scope[FORM]
        target = _ours(form.get("next", ["/"])[0])
        if not access.limit.is_reached(_address(request)):
            role = access.role_of(form.get("token", [""])[0].strip().encode())
            if role is not Role.NOBODY:
                return logged_in(role, target)
        return refused(request, target)

    @router.post("/logout")
    def log_out(request: Request) -> Response:
        access.sessions.end(caller_of(request).session_name)
        response = RedirectResponse("/", 303)
        response.delete_cookie(access.cookie)
        return response

    return router


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _ours(target: str) -> str:
    """The path to go to after the login; a browser would read "//host" and "/\\host" as another site."""
    return target if target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() else "/"
