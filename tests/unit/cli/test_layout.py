"""Lines and colours: what a terminal of 80 columns shows, and what a pipe gets."""

import io
import os
import pty
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.cli import formatting
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.store.database import Store
from tests import records
from tests.terminal import on_terminal

ESCAPE = re.compile(r"\x1b\[([0-9;]*)m")
RED, GREEN = {"31", "91"}, {"32", "92"}


def test_a_command_between_backticks_stays_on_one_line() -> None:
    sentence = "there is no run of that id here; `taskpilot runs list --limit 5` shows them, the newest first"
    assert formatting.wrapped(sentence, 50) == (
        "there is no run of that id here;\n  `taskpilot runs list --limit 5` shows them, the\n  newest first"
    )


def test_what_is_longer_than_a_line_stands_alone_and_whole() -> None:
    command = "`taskpilot --root /a/rather/long/path runs list`"
    assert formatting.wrapped(f"type {command} now", 20) == f"type\n  {command}\n  now"


def test_without_a_terminal_a_sentence_is_one_line() -> None:
    assert formatting.wrapped("word " * 100, None) == "word " * 100
    assert formatting.width_of(io.StringIO()) is None
    assert formatting.width_of(None) is None


@given(st.lists(st.from_regex(r"`[a-z -]{1,90}`|[a-z`]{1,90}", fullmatch=True), min_size=1), st.integers(8, 200))
def test_wrapping_loses_no_word_and_keeps_the_width_where_it_can(words: list[str], width: int) -> None:
    sentence = " ".join(words)
    lines = formatting.wrapped(sentence, width).split("\n")
    assert " ".join(line.strip() if number else line for number, line in enumerate(lines)) == sentence
    for number, line in enumerate(lines):
        assert len(line) <= width or not re.sub(formatting._PIECE, "", line.strip(), count=1), (number, line)


def test_every_status_has_a_look_that_red_green_blindness_keeps_apart() -> None:
    from rich.color import ColorSystem
    from rich.style import Style

    for system in (ColorSystem.STANDARD, ColorSystem.EIGHT_BIT, ColorSystem.TRUECOLOR):
        codes = [Style.parse(style).render("x", color_system=system) for style in (formatting.GOOD, formatting.BAD, formatting.ATTENTION)]
        assert len(set(codes)) == 3
        for code in codes:
            assert not set(";".join(ESCAPE.findall(code)).split(";")) & (RED | GREEN), code


@pytest.fixture
def deployment(store: Store) -> Store:
    run_id = records.add_run(store)
    records.add_run(store, status=RunStatus.FAILED, reason=records.raised("why " * 100))
    records.add_task(store, run_id, status=TaskStatus.REVIEW)
    return store


def test_a_terminal_shows_colour_and_the_word(root: Path, deployment: Store) -> None:
    shown = on_terminal(root, "runs", TERM="xterm-256color").text
    assert "\x1b[38;5;32msucceeded\x1b[0m" in shown
    assert "\x1b[1;38;5;166mfailed" in shown


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TTY_COMPATIBLE": "0"}, {"TERM": "dumb", "FORCE_COLOR": "1"}], ids=str)
def test_a_terminal_that_knows_no_sequence_gets_none(environment: dict[str, str], root: Path, deployment: Store) -> None:
    for command in ("runs", "tasks", "exit-codes", "nonsense"):
        shown = on_terminal(root, command, **environment).text
        assert "\x1b" not in shown
        assert shown


def test_no_color_leaves_weight_and_no_colour(root: Path, deployment: Store) -> None:
    for environment in ({"NO_COLOR": "1"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}):
        assert set(ESCAPE.findall(on_terminal(root, "runs", **environment).text)) <= {"0", "1"}
    assert "36" in ESCAPE.findall(on_terminal(root, "runs", NO_COLOR="").text)


def test_a_pipe_gets_no_sequence_even_where_colour_is_forced(
    cli: Callable[..., Any], deployment: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    for command in ("runs", "tasks", "exit-codes", "nonsense"):
        said = cli(command)
        assert "\x1b" not in said.out + said.err


@pytest.mark.parametrize("columns", [80, 100])
def test_no_line_is_wider_than_the_terminal(columns: int, root: Path, deployment: Store) -> None:
    for command in (
        ["runs"],
        ["tasks"],
        ["jobs"],
        ["exit-codes"],
        ["policy", "check"],
        ["runs", "show", "x"],
        ["run", "trage"],
        ["--help"],
    ):
        shown = ESCAPE.sub("", on_terminal(root, *command, columns=columns).text)
        assert max(map(len, shown.splitlines())) <= columns, shown


def test_a_long_reason_leaves_room_for_the_other_rows(root: Path, deployment: Store) -> None:
    shown = ESCAPE.sub("", on_terminal(root, "runs").text)
    assert len(shown.splitlines()) <= 1 + 4 + 1
    assert "…" in shown


def test_an_error_breaks_on_a_terminal_and_is_one_line_where_it_is_mailed(root: Path, cli: Callable[..., Any]) -> None:
    (root / "taskpilot.toml").write_text("[policy]\ndefault = false\n")
    shown = on_terminal(root, "run", "triage")
    lines = shown.text.splitlines()
    assert shown.code == 78
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    quiet = on_terminal(root, "run", "triage", "--quiet").text
    assert quiet.count("\n") == 1
    sentence, hint = (line.strip() for line in cli("run", "triage").err.splitlines())
    assert quiet.strip() == f"{sentence}; {hint}"
    assert " ".join(line.strip() for line in lines) == f"{sentence} {hint}"


def test_a_terminal_of_no_size_counts_as_80() -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as screen:
        assert formatting.width_of(screen) == 80
    os.close(ours)
