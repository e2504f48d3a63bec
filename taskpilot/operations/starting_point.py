"""A first job, settings and .gitignore in a folder: something that runs at once and is a model to copy."""

import os
from pathlib import Path
from typing import Final

from taskpilot.domain.errors import UsageError

_SETTINGS: Final = """\
# TaskPilot works in this folder and all below it. The environment wins over this file.
# home = ".taskpilot"            # where state is kept
jobs = "jobs"

# The model of jobs that name none. Without a key or a server of your own: --model offline.
# model = "gpt-4o-mini"

# pushgateway_url = "http://localhost:9091"

# [notify.channels.ops]          # `notify` sends to channels that are named here
# url = "https://chat.example.org/hooks/..."
"""

_GITIGNORE: Final = """\
# What TaskPilot records and logs.
.taskpilot/
__pycache__/
"""

_JOB: Final = '''\
"""A first job: some wishes become tasks that are planned, reviewed and carried out."""

from taskpilot import Budget, RunContext, cron, job

WISHES = """\\
Find out why the report of last week is late.
Order new batteries for the door sensor.
"""


@job(
    schedule=cron("0 7 * * mon-fri", timezone="UTC"),  # for a scheduler, or a crontab line with --scheduled-for auto
    deadline="10m",
    budget=Budget(llm_calls=60),
)
def hello(ctx: RunContext, wishes: str = "") -> str:
    """Plans, reviews and carries out the tasks of a few wishes, one a line."""
    lines = [line for line in (wishes or WISHES).splitlines() if line.strip()]
    results = ctx.map(ctx.workflow, lines, concurrency=4)
    return f"{len(results)} wishes handled"
'''

FILES: Final = {"taskpilot.toml": _SETTINGS, ".gitignore": _GITIGNORE, "jobs/hello.py": _JOB}
FIRST_JOB: Final = "hello"


def make_starting_point(folder: Path) -> list[Path]:
    """Writes the files of a new root and gives their paths. Raises UsageError, before it writes any, where one is there already."""
    there = [name for name in FILES if (folder / name).exists() or (folder / name).is_symlink()]
    if there:
        raise UsageError(f"{folder} has {', '.join(there)} already, and nothing is overwritten; name a new folder: `taskpilot init DIR`")
    try:
        (folder / "jobs").mkdir(mode=0o755, parents=True, exist_ok=True)
        for name, text in FILES.items():
            with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise UsageError(f"{error.filename or folder} cannot be written: {error.strerror}; name another folder") from error
    return [folder / name for name in FILES]
