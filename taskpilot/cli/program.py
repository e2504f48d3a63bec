"""The program: its commands and global options, and how every command ends."""

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from taskpilot.cli import errors
from taskpilot.cli.groups import Program
from taskpilot.cli.options import GlobalOptions

COMMANDS: Final = {
    "run": ("taskpilot.cli.run", "Run a job now and print what it came to."),
    "serve": ("taskpilot.cli.serve", "Run the scheduler and HTTP API."),
    "jobs": ("taskpilot.cli.jobs", "What is defined, and when it is due."),
    "runs": ("taskpilot.cli.runs", "What ran, how it ended, and what it waits for."),
    "why": ("taskpilot.cli.why", "Why a fire did or did not happen."),
    "tasks": ("taskpilot.cli.tasks", "What the planner proposed, and your yes or no to it."),
    "decisions": ("taskpilot.cli.decisions", "Verdicts on tool calls, and your yes or no to them."),
    "policy": ("taskpilot.cli.policy", "Compile the policies and try them on known calls."),
    "health": ("taskpilot.cli.health", "Whether all is well, as the record says it; works with no server."),
    "golden-signals": ("taskpilot.cli.golden_signals", "Five figures on success, time, cost, policy and correctness."),
    "metrics": ("taskpilot.cli.metrics", "The numbers as Prometheus reads them."),
    "traces": ("taskpilot.cli.traces", "Where a run spent its time."),
    "doctor": ("taskpilot.cli.doctor", "Say what is wrong and what fixes it; change nothing."),
    "export": ("taskpilot.cli.export", "Crontab lines and systemd units for the jobs."),
    "exit-codes": ("taskpilot.cli.exit_codes", "What each exit status means."),
    "init": ("taskpilot.cli.init", "Make a folder with a first job."),
    "db": ("taskpilot.cli.db", "Upgrade, back up or prune the store."),
}
"""In the order of the help. The lines stand here so that help needs no module; a test holds them equal to the modules' own."""

_EPILOG: Final = """\b
Examples:
  taskpilot init night-shift
  taskpilot run triage --model offline
  taskpilot runs --status failed

\b
Tab completion: the line for ~/.bashrc (zsh: zsh_source), and for fish:
  eval "$(_TASKPILOT_COMPLETE=bash_source taskpilot)"
  _TASKPILOT_COMPLETE=fish_source taskpilot | source
"""


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from taskpilot import __version__

        click.echo(f"taskpilot {__version__}")
        context.exit()


@click.command(
    cls=Program,
    modules=COMMANDS,
    name="taskpilot",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.option("--root", metavar="DIR", help="Where taskpilot.toml is.  [default: nearest above]")
@click.option("--home", metavar="DIR", help="Where state is kept.  [default: ROOT/.taskpilot]")
@click.option("--jobs", metavar="DIR", help="Where the job files are.  [default: ROOT/jobs]")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
@click.pass_context
def program(context: click.Context, *, root: str | None, home: str | None, jobs: str | None, log_level: str | None) -> None:
    """Run LLM jobs that are planned, reviewed, decided by policy and recorded."""
    given = context.ensure_object(GlobalOptions)
    given.root, given.home, given.jobs, given.log_level = root, home, jobs, log_level


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and gives its exit code; prints every error as one sentence on stderr."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    given = GlobalOptions()
    errors.prepare_streams()
    try:
        program.answer_shell()
        code = _invoke(typed, given)
    except BaseException as error:
        code = errors.exit_code_of(error, given, typed)
    return errors.flush(code)


def _invoke(typed: list[str], given: GlobalOptions) -> int:
    # Not Command.main: it turns a reader that went away into exit 1, and a run's own exit code would be lost.
    try:
        with program.make_context("taskpilot", list(typed), obj=given) as context:
            result: Any = program.invoke(context)
    except click.exceptions.Exit as end:
        result = end.exit_code
    return int(result or 0)
