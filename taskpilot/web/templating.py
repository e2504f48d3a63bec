"""Renders pages from templates: every value is escaped, and the Content-Security-Policy allows only our style and script by digest."""

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from taskpilot.domain.runs import Run, RunStatus
from taskpilot.domain.text import one_line, printable
from taskpilot.domain.usage import nano_to_usd
from taskpilot.messages.attention import attention_sentence
from taskpilot.messages.reasons import reason_line, reason_sentence
from taskpilot.messages.times import paused
from taskpilot.web.charts import place, tone

TEXT_MOST: Final = 20_000
"""Characters of a text of several lines on a page, at most."""


@dataclass(frozen=True, slots=True)
class Shell:
    """What every page shows around its content: who looks at it."""

    deployment: str = ""
    logged_in: bool = False
    may_read: bool = False
    may_write: bool = False
    csrf: str = ""
    """In each form of a session."""
    key: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    """In each form too: one that is sent twice acts once."""
    told: tuple[str, ...] = ()
    """What came of the last action."""
    path: str = ""
    questions: int = 0
    """How many wait for a person."""


def render(template: str, *, shell: Shell | None = None, **values: Any) -> str:
    """The page. Untrusted text goes through a filter that makes control and bidirectional characters visible: `line`, or `text`."""
    shown = shell or Shell()
    return _environment().get_template(template).render(values, style=_asset("style.css"), script=_asset("page.js"), shell=shown)


def refusal_page(status: int, detail: str, *, shell: Shell | None = None, hint: str = "", back: str = "/") -> Response:
    """An error for people."""
    title = HTTPStatus(status).phrase
    return HTMLResponse(render("refusal.html", shell=shell, title=title, detail=detail, hint=hint, back=back), status)


def reload_page(scope: Scope) -> Response:
    """A page that leads to the same address at once, as a link of our own."""
    query = scope["query_string"].decode("latin-1")
    return HTMLResponse(render("reload.html", address=quote(scope["path"]) + (f"?{query}" if query else "")))


def content_policy() -> str:
    """The Content-Security-Policy: only our own style, script, pictures, forms and requests; no frames or other resources."""
    own = f"style-src {_digest('style.css')}; script-src {_digest('page.js')}; connect-src 'self'; img-src 'self'; form-action 'self'"
    return f"default-src 'none'; {own}; base-uri 'none'; frame-ancestors 'none'"


def link_policy() -> str:
    """The same for the page of a link: no script."""
    return f"default-src 'none'; style-src {_digest('style.css')}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("taskpilot.web", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "line": one_line,
        "text": _text,
        "as_json": _as_json,
        "why": _why,
        "sentence": attention_sentence,
        "paused": paused,
        "reason": reason_sentence,
        "when": _when,
        "in_zone": _in_zone,
        "duration": _duration,
        "seconds": lambda seconds: "" if seconds is None else _duration(round(seconds * 1_000_000)),
        "usd": _usd,
        "bytes": _bytes,
        "tone": tone,
        "words": lambda word: word.replace("_", " "),
    }
    environment.globals |= {"place": place}
    return environment


@cache
def _asset(name: str) -> str:
    return (files("taskpilot.web") / "templates" / name).read_text(encoding="utf-8")


def _digest(name: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(_asset(name).encode()).digest()).decode()}'"


def _text(text: str) -> str:
    """A text of several lines."""
    cut = text if len(text) <= TEXT_MOST else f"{text[:TEXT_MOST]}… ({len(text):,} characters)"
    return printable(cut, keep_newlines=True)


def _as_json(value: Any) -> str:
    return _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2))


def _why(run: Run) -> str:
    return reason_line(run.reason, now=run.status is RunStatus.WAITING)


def _when(moment: datetime | None) -> Markup | str:
    """The instant in UTC; the script of the page writes it in the viewer's zone."""
    if moment is None:
        return "-"
    return Markup(f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M:%S} UTC</time>')  # noqa: S704


def _in_zone(moment: datetime, zone: str) -> str:
    """The instant in the zone of a schedule."""
    return f"{moment.astimezone(ZoneInfo(zone)):%a %Y-%m-%d %H:%M} {zone}"


def _duration(micros: int) -> str:
    seconds = micros / 1_000_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _usd(nano: int | None) -> str:
    return "unknown" if nano is None else f"{nano_to_usd(nano):.4f}"


def _bytes(number: int) -> str:
    return f"{number:,} B" if number < 10_000 else f"{number / 1024:,.0f} KiB"
