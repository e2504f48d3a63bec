"""The state dir and the store in it: whose they are, whether there is room, and whether the record can be read."""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Final

from taskpilot.diagnostics.context import CheckContext
from taskpilot.diagnostics.findings import Code, Finding, unchecked
from taskpilot.store.inspection import Condition, Inspection

FULL_BYTES: Final = 16 * 1024 * 1024
"""Less than what one busy night's log of the store takes."""
LOW_BYTES: Final = 256 * 1024 * 1024
LOG_BYTES: Final = 64 * 1024 * 1024
"""SQLite folds its log into the file at 4 MB; one that is so much larger is held open by somebody."""

_HOME: Final = "give another state dir by TASKPILOT_HOME or --home"


def examine_store(context: CheckContext) -> Iterator[Finding]:
    """What stands in the way of a run's record."""
    if why := context.unsound("state_dir"):
        yield unchecked("store", why)
        return
    state_dir = context.settings.state_dir
    found = list(_folder(state_dir))
    yield from found
    if any(one.code is Code.STORE_DIR_UNUSABLE for one in found):
        return
    yield from _room(state_dir)
    seen = context.inspection
    of_file = _file(seen.path) if seen.path.exists() else ()
    yield from (replace(one, facts={"path": str(seen.path)}) for one in (*of_file, *_record(context, seen)))


def _folder(state_dir: Path) -> Iterator[Finding]:
    nearest = _nearest(state_dir)
    if nearest != state_dir or not state_dir.is_dir():
        if not nearest.is_dir():
            yield Finding(Code.STORE_DIR_UNUSABLE, f"{nearest} is not a folder, so {state_dir} cannot be the state dir", _HOME)
        elif not os.access(nearest, os.W_OK | os.X_OK):
            fix = f"make it writable for us, or {_HOME}"
            yield Finding(Code.STORE_DIR_UNUSABLE, f"the state dir {state_dir} cannot be made: {nearest} is read-only for us", fix)
        return
    status = state_dir.stat()
    if status.st_uid not in {0, os.geteuid()}:
        fix = f"chown -R {os.geteuid()} {quote(str(state_dir))}, or run as that user, or {_HOME}"
        yield Finding(Code.STORE_DIR_OWNER, f"the state dir {state_dir} belongs to uid {status.st_uid}, not to us", fix)
    if (mode := stat.S_IMODE(status.st_mode)) & 0o077:
        sentence = f"the state dir {state_dir} is open to other users (mode {mode:04o}): prompts and results are in it"
        yield Finding(Code.STORE_DIR_MODE, sentence, f"chmod 700 {quote(str(state_dir))}")
    if not os.access(state_dir, os.R_OK | os.X_OK):
        yield Finding(
            Code.STORE_DIR_UNUSABLE, f"the state dir {state_dir} cannot be read by us", f"chmod it to 700 as its owner, or {_HOME}"
        )
    elif not os.access(state_dir, os.W_OK):
        sentence = f"the state dir {state_dir} is read-only for us: no run can be recorded"
        yield Finding(Code.STORE_READ_ONLY, sentence, f"make it (and its disk) writable for us, or {_HOME}")


def _room(state_dir: Path) -> Iterator[Finding]:
    disk = os.statvfs(_nearest(state_dir))
    free = disk.f_bavail * disk.f_frsize
    fix = f"free some space on the disk of {state_dir}, or {_HOME}"
    if free < FULL_BYTES:
        yield Finding(Code.STORE_DISK_FULL, f"the disk of the state dir is full: {size_in_words(free)} are left", fix)
    elif free < LOW_BYTES:
        yield Finding(Code.STORE_DISK_LOW, f"the disk of the state dir is nearly full: {size_in_words(free)} are left", fix)


def _file(path: Path) -> Iterator[Finding]:
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        sentence = f"the store {path} belongs to uid {status.st_uid}, not to us"
        yield Finding(Code.STORE_FILE_OWNER, sentence, f"chown {os.geteuid()} {quote(str(path))}*, or run as that user")
    if mode & 0o077:
        sentence = f"the store {path} is open to other users (mode {mode:04o})"
        yield Finding(Code.STORE_FILE_MODE, sentence, f"chmod 600 {quote(str(path))}*")
    if not os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        yield Finding(
            Code.STORE_READ_ONLY, f"the store {path} is read-only for us: no run can be recorded", f"chmod u+w {quote(str(path))}*"
        )


def _record(context: CheckContext, seen: Inspection) -> Iterator[Finding]:
    backup = "restore it from a backup (those of `taskpilot db backup` are in its folder `backups`), or move it away to begin anew"
    upgrade = "taskpilot db backup && taskpilot db upgrade"
    older = seen.schema is not None and seen.schema.isdigit() and seen.schema < seen.newest_schema
    match seen.condition:
        case Condition.NONE:
            yield Finding(Code.STORE_NONE, f"there is no store at {seen.path} yet: the first run makes it")
        case Condition.HALF_MADE:
            yield Finding(Code.STORE_HALF_MADE, f"the store {seen.path} is empty: its making was interrupted; the next run ends it")
        case Condition.LONE_LOG:
            sentence = f"{seen.path.name}-wal holds rows, but {seen.path} is gone or empty"
            yield Finding(Code.STORE_LONE_LOG, sentence, f"put {seen.path.name} back beside it from a backup, or move the log away")
        case Condition.LOG_WITHOUT_INDEX:
            why = f"the log {seen.path.name}-wal holds rows that cannot be read without writing"
            yield unchecked("store", why, "`taskpilot runs` takes them up; then ask the doctor again")
        case Condition.NOT_A_DATABASE:
            yield Finding(Code.STORE_NOT_A_DATABASE, f"{seen.path} is not a database", backup)
        case Condition.CORRUPT:
            yield Finding(Code.STORE_CORRUPT, f"the store {seen.path} is damaged: {seen.detail}", backup)
        case Condition.FOREIGN:
            sentence = f"{seen.path} is a database, but not one of TaskPilot's"
            yield Finding(Code.STORE_FOREIGN, sentence, f"move it away, or {_HOME}")
        case Condition.OTHER_SCHEMA if older:
            sentence = f"the store {seen.path} has schema {seen.schema}, this version needs {seen.newest_schema}"
            yield Finding(Code.STORE_SCHEMA_OLDER, sentence, upgrade)
        case Condition.OTHER_SCHEMA:
            sentence = f"the store {seen.path} has schema {seen.schema}, newer than this version's {seen.newest_schema}"
            yield Finding(Code.STORE_SCHEMA_NEWER, sentence, f"install the TaskPilot that wrote it, or {_HOME}")
        case Condition.LOCKED:
            yield _locked(seen)
        case Condition.UNREADABLE:
            yield Finding(
                Code.STORE_UNREADABLE,
                f"the store {seen.path} cannot be read: {seen.detail}",
                "look at the rights of that folder and at the disk",
            )
        case Condition.READ:
            yield from _contents(context, seen)


def _locked(seen: Inspection) -> Finding:
    who = f"process {seen.locked_by}" if seen.locked_by and seen.locked_by > 0 else "another process"
    sentence = f"{who} holds the lock of {seen.path} for more than a second: runs end with 75"
    return Finding(Code.STORE_LOCKED, sentence, f"`fuser {quote(str(seen.path))}` shows who; end it, or wait for its end")


def _contents(context: CheckContext, seen: Inspection) -> Iterator[Finding]:
    path = seen.path
    flaws = []
    if seen.damage:
        fix = f"taskpilot db backup refuses a damaged store: copy {path}* away, then restore the newest backup"
        flaws.append(Finding(Code.STORE_CORRUPT, f"the store {path} is damaged: {'; '.join(seen.damage)}", fix))
    if seen.locked_by is not None:
        flaws.append(_locked(seen))
    wanted = context.settings.deployment
    if wanted is not None and seen.deployment not in (None, wanted):
        sentence = f"the store {path} belongs to deployment {seen.deployment}, not to {wanted}"
        flaws.append(Finding(Code.STORE_DEPLOYMENT, sentence, "unset TASKPILOT_DEPLOYMENT, or give another TASKPILOT_HOME"))
    if not seen.wal:
        sentence = f"the store {path} has no write-ahead log: readers and writers wait for each other"
        flaws.append(Finding(Code.STORE_NOT_WAL, sentence, "taskpilot db upgrade"))
    if seen.log_bytes > LOG_BYTES:
        sentence = f"the log of the store has grown to {size_in_words(seen.log_bytes)}: a reader keeps it from being folded in"
        flaws.append(Finding(Code.STORE_LOG_LARGE, sentence, f"`fuser {quote(str(path))}` shows who holds it open; end that process"))
    if seen.check_cut:
        flaws.append(
            Finding(
                Code.STORE_PARTLY_CHECKED,
                "its integrity was not checked to the end: it is large",
                f"sqlite3 -readonly {quote(str(path))} 'PRAGMA quick_check'",
            )
        )
    yield from flaws
    if not flaws:
        sizes = f"log {size_in_words(seen.log_bytes)}, {_free(path)} free"
        yield Finding(Code.STORE_OK, f"{path}: schema {seen.schema}, runs recorded: {seen.runs:,}, integrity sound, {sizes}")


def _free(path: Path) -> str:
    disk = os.statvfs(path)
    return size_in_words(disk.f_bavail * disk.f_frsize)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def size_in_words(size: int) -> str:
    """Bytes as people say them: "812 kB", "12.3 GB"."""
    number, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if number < 1000 or unit == "TB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
