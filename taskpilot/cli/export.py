"""`taskpilot export`: crontab lines and systemd units for the jobs of this root."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import click

from taskpilot.cli import output
from taskpilot.cli.groups import Noun
from taskpilot.domain.errors import UsageError
from taskpilot.domain.exits import ExitCode


@click.group(name="export", cls=Noun)
def command() -> None:
    """Print crontab lines or systemd units for the jobs.

    \b
    Examples:
      taskpilot export crontab triage
      taskpilot export systemd --output units triage
    """


@command.command()
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
def crontab(jobs: tuple[str, ...]) -> int:
    """Print crontab lines for jobs.

    Without JOB, prints a line for each job that has a schedule. If cron
    cannot do what a job asks for, names that job, prints the lines of the
    others, and exits with 1.

    \b
    Examples:
      taskpilot export crontab triage   # then `crontab -e`
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.times import utc_now
    from taskpilot.setup.crontab import crontab as lines_of
    from taskpilot.setup.places import exported, places_of

    with bootstrap.deployment() as deployment:
        catalog, places = deployment.catalog, places_of(deployment.settings)
        known = [catalog.get(name) for name in jobs] or list(catalog.jobs.values())
    for file in catalog.broken:
        output.echo_err(f"broken: {file}")
    text, refused = lines_of(exported(known, jobs), places, now=utc_now())
    if text:
        output.say(text)
        _warn_of_environment(places.environment, places.root)
    for error in refused:
        output.echo_err(f"not exported: {error}", command=error.hint)
    return ExitCode.FAILED if refused else ExitCode.SUCCEEDED


@command.command()
@click.argument("jobs", metavar="[JOB]...", nargs=-1)
@click.option("--serve", is_flag=True, help="Print one service that runs `taskpilot serve` instead of timers.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --serve: address to listen on.")
@click.option("--port", type=click.IntRange(1, 65_535), help="With --serve: port to listen on.  [default: from the settings]")
@click.option("--name", default="taskpilot", show_default=True, help="Prefix of the unit names; choose another one for a second project.")
@click.option("--output", "folder", metavar="DIR", help="Write the units to DIR, e.g. /etc/systemd/system.  [default: print them]")
@click.option("--force", is_flag=True, help="Overwrite existing units.")
def systemd(*, jobs: tuple[str, ...], serve: bool, host: str, port: int | None, name: str, folder: str | None, force: bool) -> None:
    """Print or write systemd units for jobs.

    Makes a timer and a service for each JOB; without JOB, for each job that has a schedule. If a timer cannot do what a
    job asks for, writes nothing and exits with 2.

    \b
    Examples:
      taskpilot export systemd --output /etc/systemd/system triage
      systemctl daemon-reload && systemctl enable --now taskpilot-triage.timer
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.times import utc_now
    from taskpilot.setup.places import exported, places_of
    from taskpilot.setup.systemd import job_units, serve_unit

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise UsageError("--name: at most 64 letters, digits, - and _, beginning with a letter or digit")
    if serve and jobs:
        raise UsageError("--serve runs all jobs: leave out the job names or --serve")
    with bootstrap.deployment() as deployment:
        settings = deployment.settings
        places = places_of(settings)
        if serve:
            units = serve_unit(places, name=name, host=host, port=port or settings.port)
        else:
            catalog = deployment.catalog
            known = [catalog.get(each) for each in jobs] or list(catalog.jobs.values())
            for file in catalog.broken:
                output.echo_err(f"broken: {file}")
            units = job_units(exported(known, jobs), places, name=name, now=utc_now())
    if folder is None:
        output.say("\n".join(f"# {file}\n{text}" for file, text in units.items()).rstrip("\n"))
    else:
        _write(Path(folder), units, force=force)
        starts = [file for file in units if serve or file.endswith(".timer")]
        output.say("\n".join(f"wrote {Path(folder) / file}" for file in units))
        output.say(f"\nnext: systemctl daemon-reload && systemctl enable --now {' '.join(starts)}")
    _warn_of_environment(places.environment, places.root)


def _write(folder: Path, units: Mapping[str, str], *, force: bool) -> None:
    """Writes all units, or none if one exists already. Raises UsageError."""
    there = [file for file in units if os.path.lexists(folder / file)]
    if there and not force:
        raise UsageError(f"{folder} has {', '.join(there)} already; nothing was written", hint="overwrite with --force")
    from taskpilot.files import atomic_write

    try:
        for file, text in units.items():
            atomic_write(folder / file, text.encode(), mode=0o644)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from None


def _warn_of_environment(names: tuple[str, ...], root: Path) -> None:
    if names:
        output.echo_err(f"note: cron and systemd do not get your environment; write {', '.join(names)} to {root / '.env'} (chmod 600)")
