"""`taskpilot db`: upgrade, back up, restore or prune the database."""

from pathlib import Path
from shlex import quote

import click

from taskpilot.cli import output
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option


@click.group(name="db", cls=Noun)
def command() -> None:
    """Upgrade, back up, restore or prune the database.

    \b
    Examples:
      taskpilot db backup
    """


@command.command()
def upgrade() -> None:
    """Upgrade the database to the schema of this version.

    \b
    Examples:
      taskpilot db backup && taskpilot db upgrade
    """
    from taskpilot.cli import bootstrap
    from taskpilot.services.database import upgrade_store

    settings = bootstrap.settings()
    before, after = upgrade_store(settings)
    change = f"schema {after} is current" if before in (None, after) else f"schema {before} -> {after}"
    output.say(f"database in {settings.state_dir}: {change}")


@command.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@json_option
def backup(*, file: Path | None, as_json: bool) -> None:
    """Copy the database to a new file. Jobs may run meanwhile.

    Without FILE, the copy goes to the folder `backups` in the state folder. The file appears when it is complete. `taskpilot db restore`
    puts it back; do not copy it over the database, whose log (-wal) would damage it.

    \b
    Examples:
      taskpilot db backup
      taskpilot db backup /var/backups/taskpilot.db
    """
    from taskpilot.cli import bootstrap
    from taskpilot.domain.times import utc_now
    from taskpilot.services.database import backup_store

    written = backup_store(bootstrap.settings(), file, now=utc_now())
    if as_json:
        output.print_json({"path": str(written.absolute()), "bytes": written.stat().st_size})
    else:
        output.say(f"wrote {written}; to put it back: taskpilot db restore {quote(str(written))}")


@command.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def restore(*, file: Path, as_json: bool) -> None:
    """Put a backup back, with or without a running server.

    FILE is a backup, made by `taskpilot db backup`. The database gets its content, upgraded to this version. What the database held
    before is kept as a file in the folder `backups` of the state folder.

    A server that is running goes on with the restored content. It ends runs that the backup does not know. Scheduled times since the
    backup count as missed, so a job may run for them again: if its effects must not be repeated, pause the job first.

    If the database is damaged, or a file was copied over it, stop the server and all runs first: it is moved away then.

    \b
    Examples:
      taskpilot db restore /var/backups/taskpilot.db
    """
    from taskpilot.cli import bootstrap, formatting
    from taskpilot.domain.times import utc_now
    from taskpilot.services.database import restore_store

    if not file.exists():
        raise click.UsageError(f"there is no file {file}")
    done = restore_store(bootstrap.settings(), file, now=utc_now())
    if as_json:
        kept = None if done.kept is None else str(done.kept.absolute())
        output.print_json({"restored": str(file.absolute()), "kept": kept, "in_use": done.in_use, "runs": done.runs})
        return
    output.say(f"restored {file} with {formatting.count(done.runs, 'run')}")
    if done.kept is not None:
        output.tell(f"the former database is kept as {done.kept}")
    if done.in_use:
        output.tell("processes that use the database go on with the restored content")


@command.command()
@click.option("--older-than", metavar="TIME", help="Minimum age, like 90d; at least 1d.  [default: history_days]")
@click.option("--dry-run", is_flag=True, help="Show what would be deleted; delete nothing.")
@json_option
def prune(*, older_than: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete old runs with their steps, tasks, decisions and files.

    Also deletes old records of scheduled times. Keeps runs that wait for a person, traces that are not sent yet, values stored by
    ctx.remember, the newest run of each job, and all counters. Jobs may run meanwhile.

    \b
    Examples:
      taskpilot db prune --dry-run
      taskpilot db prune --older-than 365d
    """
    from datetime import timedelta

    from taskpilot.cli import bootstrap, formatting
    from taskpilot.config.load import HISTORY_DAYS
    from taskpilot.domain.errors import UsageError
    from taskpilot.domain.times import parse_duration
    from taskpilot.services.database import prune_history
    from taskpilot.store.connections import FILE

    with bootstrap.deployment() as deployment:
        try:
            age = timedelta(days=deployment.settings.history_days or HISTORY_DAYS) if older_than is None else parse_duration(older_than)
        except ValueError as error:
            raise UsageError(f"--older-than: {error}") from None
        pruned = prune_history(deployment, age, dry_run=dry_run)
        file = deployment.settings.state_dir / FILE
    if as_json:
        counts = {"runs": pruned.runs, "fires": pruned.fires, "kept": pruned.kept, "folders": pruned.folders}
        output.print_json({"dry_run": dry_run, **counts, "folders_left": pruned.folders_left, "free_bytes": pruned.free_bytes})
        return
    verb, most = ("would delete", "at most ") if dry_run else ("deleted", "")
    kept = f"; kept {formatting.count(pruned.kept, 'old run')} that are still needed" if pruned.kept else ""
    output.tell(
        f"{verb} {formatting.count(pruned.runs, 'run')} and {most}{formatting.count(pruned.fires, 'record')} of scheduled times{kept}"
    )
    if pruned.folders_left:
        output.tell(
            f"{formatting.count(pruned.folders_left, 'folder')} below {file.parent / 'runs'} could not be deleted: check who owns them"
        )
    if pruned.runs and not dry_run:
        free = f"the file keeps its size; {pruned.free_bytes // 1_000_000} MB of it are free for new runs"
        output.tell(f"{free}. `sqlite3 {file} VACUUM` shrinks it; stop all runs first")
