"""Help: cheap, whole, and true."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from taskpilot.cli.program import COMMANDS, program
from tests.typed_commands import parse, typed_in

HEAVY = ("pydantic", "sqlalchemy", "openai", "rich", "loguru", "cronsim", "taskpilot.config", "taskpilot.store", "taskpilot.services")


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from every_command(found, (*path, name))


def examples(page: str) -> list[list[str]]:
    """What each example of a help page types after `taskpilot`: comments, pipes and other programs are left out."""
    _before, found, after = page.partition("Examples:\n")
    block = after.partition("\n\n")[0] if found else ""
    return typed_in(block)


EVERY = dict(every_command(program))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_help_is_the_one_of_the_module(name: str) -> None:
    module, line = COMMANDS[name]
    command = import_module(module).command
    assert command.get_short_help_str(limit=200).rstrip(".") == line.rstrip(".")
    assert command.name == name


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_help_says_in_one_sentence_what_the_command_does_and_explains_each_option(path: tuple[str, ...]) -> None:
    command = EVERY[path]
    summary = (command.help or "").partition("\n\n")[0]
    assert re.fullmatch(r"[A-Z][a-z]+,? .+\.", summary, re.DOTALL)
    shown = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    assert [option.name for option in shown if not (option.help or "").strip()] == []


def test_each_command_has_one_line_in_the_help(cli: Callable[..., Any]) -> None:
    listed = cli("--help").out.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_help_fits_80_columns_and_shows_an_example(path: tuple[str, ...], cli: Callable[..., Any]) -> None:
    said = cli(*path, "--help")
    assert said.code == 0
    assert said.err == ""
    assert max(map(len, said.out.splitlines())) <= 80
    if not isinstance(EVERY[path], click.Group):
        assert any(typed[: len(path)] == list(path) for typed in examples(said.out))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_example_is_a_command_line_that_click_accepts(path: tuple[str, ...], cli: Callable[..., Any]) -> None:
    found = examples(cli(*path, "--help").out)
    assert found
    for typed in found:
        parse(typed)


@pytest.mark.parametrize("typed", ["runs lst", "runs --no-such-option", "run", "jobs next -n none", "decisions --status open"])
def test_an_example_that_is_wrong_would_be_found(typed: str) -> None:
    with pytest.raises(click.UsageError):
        parse(typed.split())


def test_what_is_in_an_example_beside_our_command_is_left_out() -> None:
    first = "  taskpilot runs \\\n    --json | jq .\n"
    page = f"Examples:\n{first}  taskpilot db backup && taskpilot db upgrade   # at night\n\nOptions:\n  taskpilot x\n"
    assert examples(page) == [["runs", "--json"], ["db", "backup"], ["db", "upgrade"]]


def test_help_is_spelled_h_too(cli: Callable[..., Any]) -> None:
    assert cli("-h").out == cli("--help").out
    assert cli("runs", "list", "-h").code == 0


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["runs", "--help"], ["jobs", "--help"], ["--version"]], ids=" ".join)
def test_help_wakes_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from taskpilot.cli.program import main; code = main(sys.argv[1:]);"
        f"print(code, *sorted(set({HEAVY!r}) & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.split() == ["0"]


def test_no_command_says_what_there_is(cli: Callable[..., Any]) -> None:
    said = cli()
    assert said.code == 2
    assert "Commands:" in said.err


def test_a_command_that_is_mistyped_is_answered_by_the_one_that_was_meant(cli: Callable[..., Any]) -> None:
    said = cli("rnu", "triage")
    assert said.code == 2
    assert "No such command 'rnu'" in said.err
    assert "'run'" in said.err
