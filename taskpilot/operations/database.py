"""The store as a file: brought to the newest schema, or copied while runs write."""

from datetime import datetime
from pathlib import Path

from taskpilot.domain.errors import NotFound, UsageError
from taskpilot.settings import Settings
from taskpilot.store import creation
from taskpilot.store.engine import FILE


def upgrade_store(settings: Settings) -> str:
    """Brings the schema to the newest revision and gives its name; makes the store where there is none. Raises StoreError or StoreBusy."""
    return creation.upgrade(settings.state_dir)


def backup_store(settings: Settings, target: Path | None, *, now: datetime) -> Path:
    """Copies the store into a new file (0600) and gives its path. Raises UsageError where the file exists, NotFound without a store."""
    store = settings.state_dir / FILE
    if not store.exists():
        raise NotFound(f"there is no store at {store} yet: nothing to back up")
    if target is None:
        folder = settings.state_dir / "backups"
        folder.mkdir(mode=0o700, exist_ok=True)
        target = folder / f"taskpilot-{now:%Y%m%dT%H%M%SZ}.db"
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists; a backup never goes over a file: name another one")
    if not target.parent.is_dir():
        raise UsageError(f"{target.parent} is not a folder: make it, or name another file")
    creation.backup(settings.state_dir, target)
    return target
