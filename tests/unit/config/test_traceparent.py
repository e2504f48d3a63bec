"""Which callers W3C Trace Context names."""

import pytest

from taskpilot.config.caller import parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01"),
        (f"  00-{TRACE}-{SPAN}-00\n", f"00-{TRACE}-{SPAN}-00"),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-adds", f"00-{TRACE}-{SPAN}-01"),
    ],
)
def test_a_caller_is_known_by_its_trace_and_span(text: str, known: str) -> None:
    assert parse_traceparent(text) == known


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "no",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01more",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n-x\0",
        f"00-\u0664{TRACE[1:]}-{SPAN}-01",
    ],
)
def test_anything_else_names_nobody(text: str | None) -> None:
    assert parse_traceparent(text) is None
