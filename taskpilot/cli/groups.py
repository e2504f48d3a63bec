"""Click groups: the program, which imports a command's module when it is used, and the nouns."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class Program(click.Group):
    """Has each command's help line without its module, so that `--help` is fast."""

    def __init__(self, *arguments: Any, modules: Mapping[str, tuple[str, str]], topics: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.modules = modules
        """By command name: the module that has it as `command`, and its help line."""
        self.topics = topics
        """By command name: the page of the documentation."""

    def answer_shell(self) -> None:
        """Answers Tab completion (`_TASKPILOT_COMPLETE`) and ends the process; prints no error."""
        try:
            self._main_shell_completion({}, "taskpilot")
        except Exception:
            raise SystemExit(1) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the help."""
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns the command; None for an unknown name."""
        if cmd_name not in self.modules:
            return None
        found = import_module(self.modules[cmd_name][0]).command
        if not isinstance(found, click.Command):
            raise TypeError(f"{self.modules[cmd_name][0]}.command is not a click command")
        if topic := self.topics.get(cmd_name):
            for one in (found, *(found.commands.values() if isinstance(found, click.Group) else ())):
                one.epilog = f"More: taskpilot docs {topic}"
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with suggestions from our names."""
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand:
            raise click.NoSuchCommand(args[0], possibilities=self.modules, ctx=ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands and their help lines."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_module, line) in self.modules.items()])


class Noun(click.Group):
    """A group with a default command: `taskpilot runs --json` is `taskpilot runs list --json`."""

    def __init__(self, *arguments: Any, default: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with the default command where none is named."""
        # Completion of `taskpilot runs` offers the commands, not the options of the default one.
        empty = not args and not ctx.resilient_parsing
        if self.default and (empty or (args and args[0].startswith("-") and args[0] not in ctx.help_option_names)):
            args = [self.default, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order in which the module defines them."""
        return list(self.commands)
