"""Upgrades, backs up and prunes the store."""

import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import Final
from uuid import UUID

from taskpilot.config import Settings
from taskpilot.deployment import Deployment
from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.store import copies, creation, pruning
from taskpilot.store.connections import FILE
from taskpilot.store.events import prune_events
from taskpilot.store.notices import prune_notices


def upgrade_store(settings: Settings) -> tuple[str | None, str]:
    """Upgrades the schema to the newest revision; creates the store where there is none. Raises StoreError or StoreBusy.

    Returns the revision before, None where there was no store, and the one after.
    """
    return creation.upgrade(settings.state_dir)


def backup_store(settings: Settings, target: Path | None, *, now: datetime) -> Path:
    """Copies the store into a new file (0600) and returns its path. Raises UsageError where the file exists, NotFound without a store."""
    store = settings.state_dir / FILE
    if not store.exists():
        raise NotFound(f"there is no store at {store} yet: nothing to back up")
    if target is None:
        target = _backups(settings) / f"taskpilot-{now:%Y%m%dT%H%M%SZ}.db"
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists, and a backup never replaces a file", hint="name another file")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a folder", hint=f"mkdir -p {quote(str(target.parent))}")
    copies.backup(settings.state_dir, target)
    return target


def restore_store(settings: Settings, source: Path, *, now: datetime) -> copies.Restored:
    """Gives the store the content of a backup; the former store is kept in the folder `backups`. Raises StoreError or StoreBusy."""
    return copies.restore(settings.state_dir, source, kept=_backups(settings) / f"replaced-{now:%Y%m%dT%H%M%S%fZ}.db")


def _backups(settings: Settings) -> Path:
    creation.prepare_state_dir(settings.state_dir)
    folder = settings.state_dir / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


_FOLDERS_PER_QUERY: Final = 500


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune deleted, or would delete."""

    runs: int = 0
    fires: int = 0
    """Fires and gaps, as rows."""
    kept: int = 0
    """Runs that are old enough and stay."""
    folders: int = 0
    folders_left: int = 0
    """Folders that could not be removed as a whole; the next prune tries again."""
    free_bytes: int = 0
    """Bytes of the store's file that are free now."""
    finished: bool = True
    """False where it ran out of time; the next prune continues."""


def prune_history(deployment: Deployment, older_than: timedelta, *, dry_run: bool = False, seconds: float | None = None) -> Pruned:
    """Deletes runs that ended so long ago, with their steps, tasks, decisions and folders, and fires and gaps of that time.

    Runs that wait for a person stay, as do spans that are not written or not delivered, what `ctx.recall` reads, each job's newest
    run and fire, and every counter. Between its short transactions others write. `seconds` bounds it. Raises UsageError, StoreError
    or StoreBusy.
    """
    if older_than < pruning.YOUNGEST:
        raise UsageError("nothing younger than a day is pruned", hint="give --older-than at least 1d")
    if deployment.store_is_missing:
        return Pruned()
    before = deployment.now() - older_than
    end = None if seconds is None else time.monotonic() + seconds
    transaction = deployment.store.read if dry_run else deployment.store.write
    # Without a configured collector pending traces would keep every run for ever.
    named = any(deployment.settings.sources[name] != "default" for name in ("otel_endpoint", "otel_traces_endpoint"))
    traces = deployment.settings.otel_enabled and named
    position, over, kept, fires = pruning.Position(), False, 0, 0
    deleted: list[str] = []
    while not over and _time_left(end):
        with _Turn(polite=not dry_run), transaction() as connection:
            batch = pruning.prune_runs(connection, before, position, traces=traces, dry_run=dry_run)
        position, over, kept = batch.position, batch.over, kept + batch.kept
        deleted += batch.deleted
    with deployment.store.read() as connection:
        jobs = pruning.recorded_jobs(connection) if over else []
    for job in jobs:
        gone = 1
        while gone and _time_left(end):
            with _Turn(polite=not dry_run), transaction() as connection:
                gone = pruning.prune_fires(connection, job, before, dry_run=dry_run)
            fires += gone
            if dry_run:
                break
    while over and not dry_run and _time_left(end):
        with _Turn(polite=True), deployment.store.write() as connection:
            if not prune_events(connection, before, limit=pruning.ROWS_MAX):
                break
    while over and not dry_run and _time_left(end):
        with _Turn(polite=True), deployment.store.write() as connection:
            if not prune_notices(connection, before, limit=pruning.ROWS_MAX):
                break
    folders = 0, 0
    if not dry_run:
        folders = _remove_folders(deployment, [*deleted, *_orphans(deployment, before)])
    with deployment.store.read() as connection:
        free = pruning.free_bytes(connection)
    return Pruned(len(deleted), fires, kept, *folders, free, finished=over and _time_left(end))


def _time_left(end: float | None) -> bool:
    return end is None or time.monotonic() < end


class _Turn:
    """After one transaction, sleeps as long as it took: SQLite has no queue for processes that wait for its lock."""

    def __init__(self, *, polite: bool) -> None:
        self._polite = polite

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_error: object) -> None:
        if self._polite:
            time.sleep(min(time.monotonic() - self._began, 0.5))


def _orphans(deployment: Deployment, before: datetime) -> Iterable[str]:
    """Folders without a run, created before the instant: a prune that is killed leaves them."""
    folder = deployment.settings.state_dir / "runs"
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else iter(())
    old = (name for name in names if (created := _created_at(name)) is not None and created < before)
    while some := list(islice(old, _FOLDERS_PER_QUERY)):
        with deployment.store.read() as connection:
            yield from pruning.unknown_runs(connection, some)


def _created_at(name: str) -> datetime | None:
    """The time in a UUIDv7; None for any other name."""
    try:
        value = UUID(name)
    except ValueError:
        return None
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC) if value.version == 7 and str(value) == name else None


def _remove_folders(deployment: Deployment, run_ids: Iterable[str]) -> tuple[int, int]:
    """How many were removed, and how many could not be."""
    removed, left = 0, 0
    for run_id in dict.fromkeys(run_ids):
        folder = deployment.run_dir(run_id)
        if folder.exists() or folder.is_symlink():
            # No link in it is followed: the job could write there.
            shutil.rmtree(folder, ignore_errors=True)
            gone = not (folder.exists() or folder.is_symlink())
            removed, left = removed + gone, left + (not gone)
    return removed, left
