"""`taskpilot docs`: the documentation, which comes with the program."""

import click

from taskpilot.cli import output
from taskpilot.domain.errors import UsageError


@click.command(name="docs")
@click.argument("topic", required=False)
@click.option("--find", "word", metavar="WORD", help="Show the lines that hold WORD, in TOPIC or in all pages.")
def command(topic: str | None, *, word: str | None) -> None:
    """Show the documentation.

    Without TOPIC, lists the topics.

    \b
    Examples:
      taskpilot docs
      taskpilot docs schedules
      taskpilot docs --find budget
    """
    from taskpilot.views import documentation

    if word is not None:
        name = None if topic is None else documentation.topic(topic).name
        places = [place for place in documentation.find(word) if name in (None, place.topic)]
        if not word.strip() or not places:
            raise UsageError(f"no page holds {word!r}", hint="taskpilot docs")
        for place in places:
            output.say_line(f"{place.topic}, {place.heading}: {place.line}")
    elif topic is not None:
        _show(documentation.topic(topic).text)
    else:
        rows = [(page.name, page.title) for page in documentation.topics()]
        output.print_table(("topic", "what"), rows, empty="there is no page")
        output.echo_err("begin with `taskpilot docs start`; if something is wrong: `taskpilot docs troubleshooting`")


def _show(text: str) -> None:
    if not output.on_terminal():
        output.say(text.rstrip("\n"))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    console.print(Markdown(text, hyperlinks=False), width=min(console.width, 100))
