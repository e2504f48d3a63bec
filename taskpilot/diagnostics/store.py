"""Checks the state dir and the store in it: owner, permissions, free space, integrity, schema."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Final

from taskpilot.diagnostics.context import CheckContext
from taskpilot.diagnostics.findings import Code, Finding, found, unchecked
from taskpilot.store.inspection import Condition, Inspection

FULL_BYTES: Final = 16 * 1024 * 1024
"""Less than what one busy night's log of the store takes."""
LOW_BYTES: Final = 256 * 1024 * 1024
LOG_BYTES: Final = 64 * 1024 * 1024
"""SQLite folds its log into the file at 4 MB; one that is so much larger is held open by a process."""
_UNUSABLE: Final = {
    Condition.NONE: Code.STORE_NONE,
    Condition.HALF_MADE: Code.STORE_HALF_MADE,
    Condition.LONE_LOG: Code.STORE_LONE_LOG,
    Condition.NOT_A_DATABASE: Code.STORE_NOT_A_DATABASE,
    Condition.CORRUPT: Code.STORE_CORRUPT,
    Condition.FOREIGN: Code.STORE_FOREIGN,
    Condition.UNREADABLE: Code.STORE_UNREADABLE,
}


def examine_store(context: CheckContext) -> Iterator[Finding]:
    """What would prevent a run from being recorded."""
    if why := context.unsound("state_dir"):
        yield unchecked("store", why)
        return
    state_dir = context.settings.state_dir
    of_folder = list(_folder(state_dir))
    yield from of_folder
    if any(one.code is Code.STORE_DIR_UNUSABLE for one in of_folder):
        return
    free = _free_bytes(_nearest(state_dir))
    if free < LOW_BYTES:
        yield found(Code.STORE_DISK_FULL if free < FULL_BYTES else Code.STORE_DISK_LOW, path=state_dir, free=size_in_words(free))
    seen = context.inspection
    if seen.path.exists():
        yield from _file(seen.path)
    yield from _record(context, seen)


def _folder(state_dir: Path) -> Iterator[Finding]:
    if not state_dir.is_dir():
        nearest = _nearest(state_dir)
        if not nearest.is_dir():
            yield found(Code.STORE_DIR_UNUSABLE, path=state_dir, why=f"{nearest} is not a folder")
        elif not os.access(nearest, os.W_OK | os.X_OK):
            yield found(Code.STORE_DIR_UNUSABLE, path=state_dir, why=f"{nearest} is read-only for this user")
        return
    status = state_dir.stat()
    if status.st_uid not in {0, os.geteuid()}:
        yield found(Code.STORE_DIR_OWNER, path=state_dir, owner=status.st_uid, uid=os.geteuid())
    if (mode := stat.S_IMODE(status.st_mode)) & 0o077:
        yield found(Code.STORE_DIR_MODE, path=state_dir, mode=f"{mode:04o}")
    if not os.access(state_dir, os.R_OK | os.X_OK):
        yield found(Code.STORE_DIR_UNUSABLE, path=state_dir, why="this user may not read it")
    elif not os.access(state_dir, os.W_OK):
        fix = "make it (and its disk) writable for this user, or give another state dir by TASKPILOT_HOME or --home"
        yield found(Code.STORE_READ_ONLY, path=state_dir, fix=fix)


def _file(path: Path) -> Iterator[Finding]:
    status = path.stat()
    if status.st_uid != os.geteuid():
        yield found(Code.STORE_FILE_OWNER, path=path, owner=status.st_uid, uid=os.geteuid())
    if (mode := stat.S_IMODE(status.st_mode)) & 0o077:
        yield found(Code.STORE_FILE_MODE, path=path, mode=f"{mode:04o}")
    if not os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        yield found(Code.STORE_READ_ONLY, path=path, fix=f"chmod u+w {quote(str(path))}*")


def _record(context: CheckContext, seen: Inspection) -> Iterator[Finding]:
    match seen.condition:
        case Condition.READ:
            yield from _contents(context, seen)
        case Condition.LOCKED:
            yield _locked(seen)
        case Condition.LOG_WITHOUT_INDEX:
            why = f"the log {seen.path.name}-wal holds rows that cannot be read without writing"
            yield unchecked("store", why, "`taskpilot runs` takes them up; then run the doctor again")
        case Condition.OTHER_SCHEMA:
            older = seen.schema is not None and seen.schema.isdigit() and seen.schema < seen.newest_schema
            code = Code.STORE_SCHEMA_OLDER if older else Code.STORE_SCHEMA_NEWER
            yield found(code, path=seen.path, schema=str(seen.schema), newest=seen.newest_schema)
        case condition:
            yield found(_UNUSABLE[condition], path=seen.path, detail=seen.detail)


def _locked(seen: Inspection) -> Finding:
    holder = f"process {seen.locked_by}" if seen.locked_by and seen.locked_by > 0 else "another process"
    return found(Code.STORE_LOCKED, path=seen.path, holder=holder)


def _contents(context: CheckContext, seen: Inspection) -> Iterator[Finding]:
    path, log = seen.path, size_in_words(seen.log_bytes)
    flaws = []
    if seen.damage:
        flaws.append(found(Code.STORE_CORRUPT, path=path, detail="; ".join(seen.damage)))
    if seen.locked_by is not None:
        flaws.append(_locked(seen))
    wanted = context.settings.deployment
    if wanted is not None and seen.deployment not in (None, wanted):
        flaws.append(found(Code.STORE_DEPLOYMENT, path=path, deployment=seen.deployment, wanted=wanted))
    if not seen.wal:
        flaws.append(found(Code.STORE_NOT_WAL, path=path))
    if seen.log_bytes > LOG_BYTES:
        flaws.append(found(Code.STORE_LOG_LARGE, path=path, log=log))
    if seen.check_cut:
        flaws.append(found(Code.STORE_PARTLY_CHECKED, path=path))
    yield from flaws
    if not flaws:
        yield found(Code.STORE_OK, path=path, schema=seen.schema, runs=seen.runs, log=log, free=size_in_words(_free_bytes(path)))


def _free_bytes(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def size_in_words(size: int) -> str:
    """Bytes in a short form: "812 kB", "12.3 GB"."""
    number, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
