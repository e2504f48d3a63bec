"""First jobs, settings and .gitignore in a folder: something that runs at once and is a model to copy."""

import keyword
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from taskpilot.config import SETTINGS_FILE, check_trusted, find_root, load
from taskpilot.domain.errors import UsageError
from taskpilot.domain.specs import is_job_name
from taskpilot.domain.text import one_line
from taskpilot.files import write_new
from taskpilot.setup.shipped import shipped
from taskpilot.store.creation import prepare_state_dir

_SETTINGS: Final = """\
# TaskPilot works in this folder and all below it. The environment wins over
# this file.

jobs = "jobs"
# home = ".taskpilot"            # where state is kept

# The model of jobs that name none. Without a key or your own server:
# `taskpilot run JOB --model offline`.
# model = "gpt-4o-mini"

# pushgateway_url = "http://localhost:9091"

# [notify.channels.ops]          # `notify` sends to what is named here
# url = "https://chat.example.org/hooks/..."
"""

_SECRET_LINES: Final = (".taskpilot/", ".env", ".env.*", "*.env")
"""What must not reach a repository: the record with its prompts and replies, and files of keys."""
_GITIGNORE: Final = """\
# What TaskPilot records and logs.
.taskpilot/
# Keys and tokens.
.env
.env.*
*.env
!.env.example
__pycache__/
"""

_JOB: Final = '''\
"""A first job: wishes become tasks that are planned, reviewed and carried out."""

from taskpilot import Budget, RunContext, cron, job

WISHES = (
    "Find out why the report of last week is late",
    "Order new batteries for the door sensor",
)


@job(
    # When it is due: `taskpilot jobs next hello` lists the times.
    schedule=cron("0 7 * * mon-fri", timezone="UTC"),
    # A run that works for longer is ended: exit 124.
    deadline="10m",
    # A call past this ceiling is not made, and the run is stopped: exit 12.
    budget=Budget(llm_calls=60),
)
def hello(ctx: RunContext, wish: str = "") -> str:
    """Plan, review and carry out a few wishes, or the one of -p wish=TEXT."""
    wishes = [wish] if wish else WISHES
    # Each wish goes from the planner over the reviewer to the executor, four
    # at a time. What is recorded is not paid or done again in a later attempt.
    results = ctx.map(ctx.workflow, wishes, concurrency=4)
    return f"wishes handled: {len(results)}"
'''

FIRST_JOB: Final = "hello"
TRIAGE: Final = "triage"
REPO_DIGEST: Final = "repo_digest"
_FILES: Final = {TRIAGE: ("triage.py", "inbox.jsonl"), REPO_DIGEST: ("repo_digest.py", "_repository.py")}
JOBS: Final = (FIRST_JOB, *_FILES)
"""The jobs that are offered; any other name is a job of the user's own, which begins as the first one does."""


BUILT_IN: Final = "housekeeping"


def check_job_name(name: str) -> None:
    """Raises UsageError for what cannot be the name of a new job."""
    if not is_job_name(name) or keyword.iskeyword(name):
        raise UsageError(f"'{one_line(name, limit=80)}' cannot name a job: a to z, 0 to 9 and _, a letter first, no word of Python")
    if name == BUILT_IN:
        raise UsageError(f"{name} is a built-in job, which every installation has", hint="choose another name")


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """What was written into a folder; paths are relative to it."""

    wrote: tuple[str, ...]
    kept: tuple[str, ...]
    jobs_folder: str
    jobs: tuple[str, ...]
    """Those of ours that are there; none where the folder had jobs of its own and none was asked for."""
    not_ignored: tuple[str, ...]
    """Lines that an existing .gitignore does not have."""


def make_starting_point(folder: Path, wanted: Sequence[str] = ()) -> StartingPoint:
    """Makes a folder a root with the jobs that are wanted, else with a first one; what is there stays as it is.

    Raises UsageError or StoreError where a file cannot be written, ConfigurationError where the folder is not a safe root or its settings
    are broken.
    """
    wrote: list[str] = []
    kept: list[str] = []
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Before anything is written: a run would refuse such a folder afterwards.
        check_trusted(folder)
        if find_root(folder) != folder.resolve():
            _write(folder, SETTINGS_FILE, _SETTINGS, wrote, kept)
        else:
            kept.append(SETTINGS_FILE if (folder / SETTINGS_FILE).is_file() else "pyproject.toml")
        _write(folder, ".gitignore", _GITIGNORE, wrote, kept)
        settings = load(root=folder)
        jobs = _jobs_folder(folder, settings.jobs_dir)
        if settings.state_dir.is_relative_to(folder.resolve()):
            ignore = settings.state_dir / ".gitignore"
            new = not ignore.exists()
            prepare_state_dir(settings.state_dir)
            if new and ignore.exists():
                wrote.append(str(ignore.relative_to(folder.resolve())))
        (folder / jobs).mkdir(mode=0o755, parents=True, exist_ok=True)
        own = [job for job in wanted if job not in _FILES]
        if not wanted and ((folder / jobs / f"{FIRST_JOB}.py").exists() or not any((folder / jobs).glob("*.py"))):
            own = [FIRST_JOB]
        for job in own:
            _write(folder, f"{jobs}/{job}.py", _JOB.replace(FIRST_JOB, job), wrote, kept)
        for name in (file for job in wanted for file in _FILES.get(job, ())):
            _write(folder, f"{jobs}/{name}", shipped(f"jobs/{name}").read_text(encoding="utf-8"), wrote, kept)
        there = tuple(name for name in dict.fromkeys(wanted or JOBS[:1]) if (folder / jobs / f"{name}.py").exists())
        lines = {line.strip().strip("/") for line in (folder / ".gitignore").read_text(encoding="utf-8", errors="replace").splitlines()}
    except OSError as error:
        raise UsageError(
            f"{error.filename or folder} cannot be written: {error.strerror}", hint="name another folder: taskpilot init DIR"
        ) from error
    missing = tuple(line for line in _SECRET_LINES if line.strip("/") not in lines)
    return StartingPoint(tuple(wrote), tuple(kept), jobs, there, missing)


def _jobs_folder(folder: Path, jobs: Path) -> str:
    """The folder of the jobs, relative to this one. Raises UsageError where it is outside of this folder."""
    try:
        return str(jobs.relative_to(folder.resolve()))
    except ValueError:
        raise UsageError(
            f"the settings name {jobs} for jobs, outside of {folder}", hint="unset TASKPILOT_JOBS, or write the job there"
        ) from None


def _write(folder: Path, name: str, text: str, wrote: list[str], kept: list[str]) -> None:
    (wrote if write_new(folder / name, text, mode=0o644) else kept).append(name)
