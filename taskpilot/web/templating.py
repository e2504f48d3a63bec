"""Renders pages from templates: every value is escaped, and the Content-Security-Policy allows only our style by its digest."""

import base64
import hashlib
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from taskpilot.domain.runs import Run, RunStatus
from taskpilot.domain.text import one_line
from taskpilot.domain.usage import nano_to_usd
from taskpilot.messages.attention import attention_sentence
from taskpilot.messages.reasons import reason_line
from taskpilot.messages.times import paused

_TONES: Final = {
    "good": ("pass", "succeeded"),
    "bad": (
        *("fail", "failed", "timed_out", "denied", "budget_exceeded", "lost", "outcome_failed"),
        *("blocked", "missed", "broken", "never_succeeded", "success_too_old"),
    ),
    "mind": ("warn", "waiting", "cancelled", "uncertain", "paused", "clock"),
}


def render(template: str, **values: Any) -> str:
    """The page. Untrusted text goes through the filter `line`, which makes control and bidirectional characters visible."""
    return _environment().get_template(template).render(values, style=_style())


def content_policy() -> str:
    """The Content-Security-Policy: only our own style; pictures of ours; no scripts, forms, frames or other resources."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; img-src 'self'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def link_policy() -> str:
    """The same for the page of a link, with its one form."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("taskpilot.web", "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "line": one_line,
        "why": _why,
        "sentence": attention_sentence,
        "paused": paused,
        "instant": _instant,
        "duration": _duration,
        "usd": _usd,
        "tone": _tone,
    }
    return environment


@cache
def _style() -> str:
    return (files("taskpilot.web") / "templates" / "style.css").read_text(encoding="utf-8")


def _why(run: Run) -> str:
    return reason_line(run.reason, now=run.status is RunStatus.WAITING)


def _instant(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"


def _duration(micros: int) -> str:
    seconds = micros / 1_000_000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _usd(nano: int | None) -> str:
    return "unknown" if nano is None else f"{nano_to_usd(nano):.4f}"


def _tone(word: str) -> str:
    return next((tone for tone, words in _TONES.items() if word in words), "soft")
