"""Groups of commands: the program, which loads a command's module when that command is used, and the nouns below it."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class Program(click.Group):
    """Knows each command's line in `--help` without its module, so that help and a refused run load nothing heavy."""

    def __init__(self, *arguments: Any, modules: Mapping[str, tuple[str, str]], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.modules = modules
        """Of each command: the module that has it as `command`, and its line in the help."""

    def answer_shell(self) -> None:
        """Where a shell's Tab asks (`_TASKPILOT_COMPLETE`), ends the process with the answer; never with an error on the terminal."""
        try:
            self._main_shell_completion({}, "taskpilot")
        except Exception:
            raise SystemExit(1) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the help: what one uses first stands first."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, its module imported; None where there is none of that name."""
        if cmd_name not in self.modules:
            return None
        found = import_module(self.modules[cmd_name][0]).command
        if not isinstance(found, click.Command):
            raise TypeError(f"{self.modules[cmd_name][0]}.command is no click command")
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with our names as what may have been meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand:
            raise click.NoSuchCommand(args[0], possibilities=self.modules, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands and their lines, as written beside their names."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_module, line) in self.modules.items()])


class Noun(click.Group):
    """A group that does the usual thing when it is called alone: `taskpilot runs --json` is `taskpilot runs list --json`."""

    def __init__(self, *arguments: Any, alone: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.alone = alone

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with the usual command put in where none is named."""
        # A shell that completes `taskpilot runs` is offered the commands, not what the usual one takes.
        empty = not args and not ctx.resilient_parsing
        if self.alone and (empty or (args and args[0].startswith("-") and args[0] not in ctx.help_option_names)):
            args = [self.alone, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order in which the module defines them."""
        return list(self.commands)
