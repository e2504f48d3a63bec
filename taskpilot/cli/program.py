"""The program: its commands and global options, and its entry point."""

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from taskpilot.cli import errors
from taskpilot.cli.groups import Program
from taskpilot.cli.options import GlobalOptions

COMMANDS: Final = {
    "status": ("taskpilot.cli.status", "Show what ran, what did not, and what needs you."),
    "run": ("taskpilot.cli.run", "Run a job now and print the result."),
    "serve": ("taskpilot.cli.serve", "Run the scheduler and HTTP API."),
    "open": ("taskpilot.cli.open", "Open the page of the running server, logged in."),
    "jobs": ("taskpilot.cli.jobs", "Show jobs and their schedules; pause and resume them."),
    "runs": ("taskpilot.cli.runs", "Show, cancel and resume runs."),
    "fires": ("taskpilot.cli.fires", "Show what became of each scheduled time."),
    "why": ("taskpilot.cli.why", "Explain why a job did or did not run at a given time."),
    "tasks": ("taskpilot.cli.tasks", "Show, approve and reject the tasks that the model planned."),
    "decisions": ("taskpilot.cli.decisions", "Show, approve and reject tool calls."),
    "incidents": ("taskpilot.cli.incidents", "Show what went wrong and was told; stop its reminders."),
    "notices": ("taskpilot.cli.notices", "Show the notices that were sent, and what became of them."),
    "notify": ("taskpilot.cli.notify", "Try the channels of notices; make a fire drill."),
    "policy": ("taskpilot.cli.policy", "Check the rules for tool calls against sample calls."),
    "health": ("taskpilot.cli.health", "Show health from the database; needs no server."),
    "golden-signals": ("taskpilot.cli.golden_signals", "Show success rate, duration, cost, denials and correctness."),
    "metrics": ("taskpilot.cli.metrics", "Show metrics; push them to a Prometheus Pushgateway."),
    "traces": ("taskpilot.cli.traces", "Show where a run spent its time."),
    "doctor": ("taskpilot.cli.doctor", "Diagnose the setup (read-only)."),
    "export": ("taskpilot.cli.export", "Print crontab lines or systemd units for the jobs."),
    "exit-codes": ("taskpilot.cli.exit_codes", "List the exit codes and their meanings."),
    "init": ("taskpilot.cli.init", "Create a folder with settings and a first job."),
    "docs": ("taskpilot.cli.docs", "Show the documentation."),
    "db": ("taskpilot.cli.db", "Upgrade, back up, restore or prune the database."),
}
"""In the order of the help. The help lines are repeated here so that `--help` imports no module; a test compares them."""

TOPICS: Final = {
    "status": "troubleshooting",
    "run": "start",
    "serve": "deployment",
    "open": "http",
    "jobs": "jobs",
    "runs": "troubleshooting",
    "fires": "schedules",
    "why": "troubleshooting",
    "tasks": "approvals",
    "decisions": "approvals",
    "incidents": "notices",
    "notices": "notices",
    "notify": "notices",
    "policy": "policy",
    "health": "observability",
    "golden-signals": "observability",
    "metrics": "observability",
    "traces": "observability",
    "doctor": "troubleshooting",
    "export": "deployment",
    "exit-codes": "troubleshooting",
    "init": "start",
    "db": "backup",
}
"""The page of the documentation that the `--help` of a command ends with."""

_EPILOG: Final = """\b
Examples:
  taskpilot init night-shift
  taskpilot run triage --model offline
  taskpilot runs --status failed
  taskpilot docs --find budget

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
    topics=TOPICS,
    name="taskpilot",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EPILOG,
)
@click.option("--root", metavar="DIR", help="Folder of taskpilot.toml.  [default: nearest above]")
@click.option("--home", metavar="DIR", help="Folder of the database and logs.  [default: ROOT/.taskpilot]")
@click.option("--jobs", metavar="DIR", help="Folder of the job files.  [default: ROOT/jobs]")
@click.option("--log-level", metavar="LEVEL", help="Log level: debug, info, warning or error.")
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version.")
@click.pass_context
def program(context: click.Context, *, root: str | None, home: str | None, jobs: str | None, log_level: str | None) -> None:
    """Run jobs that use a language model (LLM): on a schedule, within budgets and rules, with approvals and a record of every step."""
    given = context.ensure_object(GlobalOptions)
    given.root, given.home, given.jobs, given.log_level = root, home, jobs, log_level


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code; prints every error as one sentence on stderr."""
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
    if not typed and _in_root():
        typed = ["status"]
    # Not Command.main: it turns a closed pipe into exit code 1, and the run's own exit code would be lost.
    try:
        with program.make_context("taskpilot", list(typed), obj=given) as context:
            result: Any = program.invoke(context)
    except click.exceptions.Exit as end:
        result = end.exit_code
    return int(result or 0)


def _in_root() -> bool:
    """Whether a person at a terminal is inside of a root, and typed no command."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    from pathlib import Path

    from taskpilot.config import find_root

    return find_root(Path.cwd()) is not None
