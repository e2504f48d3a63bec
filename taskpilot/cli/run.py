"""`taskpilot run`: run a job now, for a person, cron or a systemd timer."""

import sys
from pathlib import Path

import click

from taskpilot.cli import completion
from taskpilot.cli.options import global_options


def _pairs(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    for text in given:
        if not text.partition("=")[0] or "=" not in text:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
    return tuple((text.partition("=")[0], text.partition("=")[2]) for text in given)


@click.command(name="run")
@click.argument("job", shell_complete=completion.jobs)
@click.option(
    "-p", "--param", "parameters", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Set a parameter of the job. Can be repeated."
)
@click.option(
    "--params-file",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    metavar="FILE",
    help="Read parameters from a JSON object in FILE; -p wins.",
)
@click.option("--scheduled-for", metavar="ISO|auto", help="The scheduled time that this run is for; auto: the latest one.")
@click.option("--model", metavar="NAME", help="Model to use; `offline` needs no key and no network.")
@click.option("-f", "--follow", is_flag=True, help="Print the log and the output of the run to stderr as they come.")
@click.option("--json", "as_json", is_flag=True, help="Print only a summary, as one line of JSON.")
@click.option("--quiet", is_flag=True, help="For cron: print one line if something is wrong, else nothing.")
@click.option("--skip-ok", is_flag=True, help="Exit with 0 instead of 10 or 11 if the run is skipped.")
def command(
    job: str,
    *,
    parameters: tuple[tuple[str, str], ...],
    params_file: Path | None,
    scheduled_for: str | None,
    model: str | None,
    follow: bool,
    as_json: bool,
    quiet: bool,
    skip_ok: bool,
) -> int:
    """Run a job now and print the result.

    The exit code says how the run ended; `taskpilot exit-codes` lists them.

    \b
    Examples:
      taskpilot run triage --model offline
      taskpilot run triage -p inbox=other.jsonl --json
      taskpilot run triage --scheduled-for auto --quiet     # in a crontab
    """
    given = global_options()
    given.subject = job
    if follow and quiet:
        raise click.UsageError("--follow and --quiet exclude each other")
    from taskpilot.app.wiring import App
    from taskpilot.cli import bootstrap, run_pages
    from taskpilot.cli.progress import display_for
    from taskpilot.config.caller import caller_traceparent
    from taskpilot.services.planning import RunRequest

    app = App(bootstrap.settings())
    try:
        request = RunRequest(
            job=job,
            parameters=parameters,
            parameters_file=params_file,
            scheduled_for=scheduled_for,
            model=model,
            stdin=getattr(sys.stdin, "buffer", None),
            traceparent=caller_traceparent(),
        )
        finished = app.run(request, display_for(quiet=quiet, followed=app.deployment if follow else None))
        given.exit_code = int(finished.exit_code)
        return run_pages.tell(app.deployment, finished, as_json=as_json, quiet=quiet, skip_ok=skip_ok)
    finally:
        app.deployment.close()
