"""Draws inline SVG: the last runs of a job as bars, durations and cost, and the place of a span in a waterfall."""

from collections.abc import Callable, Sequence
from typing import Final

from markupsafe import Markup, escape

from taskpilot.store.page_queries import Bar

_STEP: Final = 8
_WIDE: Final = 6
_HIGH: Final = 30
_LEAST: Final = 4.0
TONES: Final = {
    "good": ("pass", "succeeded", "executed", "approved", "allow", "started", "delivered", "closed"),
    "bad": (
        *("fail", "failed", "timed_out", "denied", "budget_exceeded", "lost", "outcome_failed", "deny", "rejected"),
        *("blocked", "missed", "broken", "never_succeeded", "success_too_old", "blocked_config", "blocked_budget", "open"),
    ),
    "mind": (
        "warn",
        "waiting",
        "cancelled",
        "uncertain",
        "paused",
        "clock",
        "pending",
        "review",
        "require_approval",
        "unknown",
        "diverged",
    ),
    "busy": ("running", "queued", "begun", "buffered"),
}
"""How a state looks: by colour and, for those who cannot tell colours apart, by shape."""


def tone(word: str) -> str:
    """The class of a state's colour and shape."""
    return next((name for name, words in TONES.items() if word in words), "soft")


def bars(found: Sequence[Bar], number: int, label: str) -> Markup:
    """The last runs as bars: state by colour and shape, duration as height. The newest is at the right."""
    highest = max((bar.active_micros for bar in found), default=1) or 1
    shapes: dict[str, list[str]] = {}
    for place, bar in enumerate(found, start=number - len(found)):
        high = _LEAST + (_HIGH - _LEAST) * bar.active_micros / highest
        name = tone(bar.status.value)
        shapes.setdefault(name, []).append(_shape(name, place * _STEP, high))
    paths = "".join(f'<path class="{name}" d="{"".join(drawn)}"/>' for name, drawn in shapes.items())
    return Markup(  # noqa: S704  numbers, our own words, and an escaped label
        f'<svg class="bars" viewBox="0 0 {number * _STEP} {_HIGH}" role="img" aria-label="{escape(label)}">'
        f'<path class="base" d="M0 {_HIGH}h{number * _STEP}"/>{paths}</svg>'
    )


def _shape(name: str, left: int, high: float) -> str:
    """A full bar; one with a point for what ended badly; a hollow one for what waits, runs or was cancelled."""
    top = f"{_HIGH - high:.1f}"
    if name == "bad":
        return f"M{left} {_HIGH}V{top}l{_WIDE / 2:g} 4l{_WIDE / 2:g} -4V{_HIGH}z"
    if name in ("mind", "busy"):
        return f"M{left + 1} {_HIGH - 1}V{_HIGH - high + 1:.1f}h{_WIDE - 2}V{_HIGH - 1}z"
    return f"M{left} {_HIGH}V{top}h{_WIDE}V{_HIGH}z"


def history(found: Sequence[Bar], value: Callable[[Bar], float | None], words: Callable[[Bar], str], label: str) -> Markup:
    """One value of the last runs, with the exact value of each in its title."""
    numbers = [value(bar) or 0.0 for bar in found]
    highest = max(numbers, default=0.0) or 1.0
    drawn = []
    for place, (bar, number) in enumerate(zip(found, numbers, strict=True)):
        high = 1 + 58 * number / highest
        outline = f"M{place * 10} 60v-{high:.1f}h8v{high:.1f}z"
        drawn.append(f'<path class="{tone(bar.status.value)}" d="{outline}"><title>{escape(words(bar))}</title></path>')
    width = max(len(found), 12) * 10
    inside = f'<path class="base" d="M0 60h{width}"/>{"".join(drawn)}'
    head = f'<svg class="history" viewBox="0 0 {width} 61" role="img" aria-label="{escape(label)}">'
    return Markup(f"{head}{inside}</svg>")  # noqa: S704  numbers, our own words, and escaped texts


def place(left: int, width: int, name: str) -> Markup:
    """Where a span lies within its attempt, in thousandths."""
    return Markup(  # noqa: S704  numbers and our own words
        '<svg class="place" viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<path class="base" d="M0 5h1000"/><rect class="{name}" x="{left}" y="1" width="{width}" height="8"/></svg>'
    )
