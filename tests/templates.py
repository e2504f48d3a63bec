"""Empty stores, copied from one that was migrated once in this process: Alembic takes 130 ms, a copy less than one."""

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, event

from taskpilot.store import creation
from taskpilot.store.connections import FILE, BusyTimeout, make_engine


def put_store(state_dir: Path) -> None:
    """Puts an empty store into a state dir. It has no identity: whoever opens it first gives it one of its own."""
    creation.prepare_state_dir(state_dir)
    write_store(state_dir / FILE, 0.0)


def write_store(path: Path, _busy_seconds: float) -> None:
    """The same, in the place of `creation.create`, in a folder that is there."""
    written = path.with_name(f"{path.name}.{os.getpid()}")
    written.touch(mode=0o600)
    written.write_bytes(_migrated())
    written.replace(path)


def quick_engine(path: Path, busy_timeout: BusyTimeout) -> Engine:
    """The same engine without a wait for the disk at each commit, in the place of `database.make_engine`."""
    engine = make_engine(path, busy_timeout)
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    return engine


@cache
def _migrated() -> bytes:
    with TemporaryDirectory() as folder:
        creation.upgrade(Path(folder))
        return (Path(folder) / FILE).read_bytes()
