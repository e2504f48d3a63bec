"""Help: cheap, whole, and true."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

from taskpilot.cli.program import COMMANDS, program

HEAVY = ("pydantic", "sqlalchemy", "openai", "rich", "loguru", "cronsim", "taskpilot.settings", "taskpilot.store", "taskpilot.operations")


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command) as context:
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from every_command(found, (*path, name))


EVERY = dict(every_command(program))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_help_is_the_one_of_the_module(name: str) -> None:
    module, line = COMMANDS[name]
    command = import_module(module).command
    assert command.get_short_help_str(limit=200).rstrip(".") == line.rstrip(".")
    assert command.name == name


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_each_help_fits_80_columns_and_shows_an_example(path: tuple[str, ...], cli: Callable[..., Any]) -> None:
    said = cli(*path, "--help")
    assert said.code == 0
    assert said.err == ""
    assert max(map(len, said.out.splitlines())) <= 80
    if not isinstance(EVERY[path], click.Group):
        assert "Example" in said.out
        assert f"taskpilot {' '.join(path)}" in said.out.split("Example", 1)[1]


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


@pytest.mark.parametrize("word", ["export"])
def test_nothing_is_named_before_it_works(word: str, cli: Callable[..., Any]) -> None:
    assert cli(word).code == 2
    assert word not in COMMANDS
