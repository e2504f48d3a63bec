"""Untrusted text on its way out."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.text import one_line, printable

ANYTHING = st.text(st.characters(codec=None))


@given(ANYTHING)
def test_nothing_that_moves_a_cursor_or_reorders_text_gets_through(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert printable(shown) == shown


@given(ANYTHING, st.integers(1, 300))
def test_one_line_is_one_and_not_longer_than_its_limit(text: str, limit: int) -> None:
    line = one_line(text, limit=limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


def test_escapes_are_shown_as_text() -> None:
    assert printable("\x1b[31mred\x1b[0m\x07") == "\\x1b[31mred\\x1b[0m\\x07"
    assert printable("abc\u202edcba\u2066") == "abc\\u202edcba\\u2066"
    assert printable("a\u2028b\ud800") == "a\\u2028b\\ud800"


def test_what_people_write_is_left_alone() -> None:
    for text in ("Grüße, 東京! ñ é 👍", "[link=x] [/foo] {name} %s", "", "non\u00a0breaking"):
        assert printable(text) == text


def test_newlines_are_kept_only_where_asked_for() -> None:
    assert printable("a\nb\r\nc", keep_newlines=True) == "a\nb\\r\nc"
    assert printable("a\nb") == "a\\nb"


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert one_line("a\n b\t\tc") == "a b c"
    assert one_line("x" * 500, limit=10) == "xxxxxxxxx…"
    assert one_line("x" * 10, limit=10) == "x" * 10
