"""Houses for the doctor: the real command over a root of its own, each look proved to leave no trace."""

import hashlib
import json
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.command import Said, TaskPilot

JOB = '''
from taskpilot import RunContext, cron, job


@job(schedule=cron("0 7 * * 1-5"))
def good(ctx: RunContext, number: int = 1) -> int:
    """Adds one."""
    return number + 1


@job
def by_hand(ctx: RunContext) -> str:
    """Has no schedule."""
    return "done"
'''
ASKING = '''
from taskpilot import Budget, RunContext, job


@job(model="{model}"{options})
def asking(ctx: RunContext) -> str:
    """Asks."""
    return ctx.ask("agent", "hello")
'''


def traces_of(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything that a look could leave: files, their content, owners, modes and times."""

    def one(path: Path) -> tuple[Any, ...]:
        status = path.lstat()
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        return stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime_ns, status.st_size, digest

    return {str(path.relative_to(folder)): one(path) for path in [folder, *folder.rglob("*")]}


@dataclass(frozen=True)
class Diagnosis:
    """What `taskpilot doctor --json` said."""

    code: int
    document: dict[str, Any]

    @property
    def findings(self) -> dict[str, list[dict[str, Any]]]:
        """By code."""
        found: dict[str, list[dict[str, Any]]] = {}
        for one in self.document["findings"]:
            found.setdefault(one["code"], []).append(one)
        return found

    @property
    def bad(self) -> set[str]:
        """The codes of errors and warnings."""
        return {one["code"] for one in self.document["findings"] if one["level"] in {"error", "warning"}}

    def one(self, code: str) -> dict[str, Any]:
        """The only finding of that code."""
        assert code in self.findings, json.dumps(self.document["findings"], indent=1)
        (found,) = self.findings[code]
        return found


class Patient(TaskPilot):
    """A deployment that the doctor looks at; each look is proved to leave no trace."""

    @property
    def bin(self) -> Path:
        """Stands first in PATH."""
        return Path(self.environment["PATH"].split(os.pathsep)[0])

    def crontab(self, text: str) -> None:
        """What `crontab -l` prints."""
        (self.bin / "lines").write_text(text)

    def look(self, *arguments: str, environment: Mapping[str, str | None] | None = None, cwd: Path | None = None) -> Said:
        """`taskpilot doctor` as a person types it."""
        home = Path(self.environment["HOME"])
        before = traces_of(self.root), traces_of(home)
        said = self(*arguments, "doctor", environment=environment, cwd=cwd)
        assert (traces_of(self.root), traces_of(home)) == before
        return said

    def sql(self, statement: str) -> None:
        """Changes the record."""
        with closing(sqlite3.connect(self.state_dir / "taskpilot.db")) as connection, connection:
            connection.execute(statement)

    def diagnose(
        self, *arguments: str, environment: Mapping[str, str | None] | None = None, cwd: Path | None = None, stack: bool = False
    ) -> Diagnosis:
        """`taskpilot doctor --json`, or with `--stack`."""
        home = Path(self.environment["HOME"])
        before = traces_of(self.root), traces_of(home)
        said = self(*arguments, "doctor", "--json", *(["--stack"] if stack else []), environment=environment, cwd=cwd)
        assert (traces_of(self.root), traces_of(home)) == before
        assert said.err == ""
        assert said.code == said.json["exit_code"]
        return Diagnosis(said.code, said.json)


def patient(folder: Path) -> Patient:
    """A root without a store, and a `crontab` that is empty."""
    root, home, programs = folder / "root", folder / "home", folder / "bin"
    for each in (root / "jobs", home, programs):
        each.mkdir(parents=True)
    (root / "taskpilot.toml").write_text("")
    (programs / "crontab").write_text('#!/bin/sh\ncat "${0%/*}/lines"\n')
    (programs / "crontab").chmod(0o755)
    made = Patient(root, home, TASKPILOT_MODEL="offline", TASKPILOT_LEASE_SECONDS="6")
    made.environment["PATH"] = f"{programs}{os.pathsep}{made.environment['PATH']}"
    made.crontab("")
    made.job(JOB, name="good")
    return made
