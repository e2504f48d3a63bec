"""`taskpilot db`: the store as a file."""

from pathlib import Path

import click

from taskpilot.cli import output
from taskpilot.cli.groups import Noun


@click.group(name="db", cls=Noun)
def command() -> None:
    """Upgrade or back up the store.

    \b
    Examples:
      taskpilot db backup
    """


@command.command()
def upgrade() -> None:
    """Bring the store's schema to this version's.

    \b
    Examples:
      taskpilot db backup && taskpilot db upgrade
    """
    from taskpilot.cli import opened
    from taskpilot.operations.database import upgrade_store

    settings = opened.settings()
    output.say(f"the store in {settings.state_dir} has schema {upgrade_store(settings)}, the newest of this version")


@command.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path | None) -> None:
    """Copy the store into a new file, also while runs write.

    Without FILE the copy is made in the state dir's folder `backups`.

    \b
    Examples:
      taskpilot db backup
      taskpilot db backup /var/backups/taskpilot.db
    """
    from taskpilot.cli import opened
    from taskpilot.domain.moments import utc_now
    from taskpilot.operations.database import backup_store

    output.say(f"wrote {backup_store(opened.settings(), file, now=utc_now())}")
