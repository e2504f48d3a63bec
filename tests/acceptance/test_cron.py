"""An exported line under a real cron daemon: it runs in cron's empty environment, and its fire is claimed once."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.command import TaskPilot
from tests.servers.debian import require

TICK = '''
import os

from taskpilot import RunContext, cron, job


@job(schedule=cron("* * * * *"))
def tick(ctx: RunContext) -> str:
    """Say what the environment is."""
    return " ".join(sorted(os.environ))
'''
PRIVATE = """\
mount --make-rprivate /
mount --bind "$1/spool" /var/spool/cron/crontabs
mount --bind "$1/none" /etc/cron.d
mount --bind "$1/empty" /etc/crontab
mount -t tmpfs none /run
exec "$2" -f
"""
"""A cron that sees our crontab and nothing else; its mounts end with it."""
MINUTE_SECONDS = 75
"""A minute begins within 60 s; then the run has as long as a busy machine needs."""


@contextmanager
def cron_daemon(crontab: str, folder: Path) -> Iterator[None]:
    """A cron daemon of the test's own, ended at the end, that has this crontab for root."""
    binary = require("cron", "cron")
    if os.geteuid() != 0:
        pytest.skip("a cron daemon of the test's own needs root: sudo .venv/bin/pytest tests/acceptance/test_cron.py")
    may_mount = subprocess.run(["unshare", "-m", "true"], capture_output=True, timeout=30).returncode == 0
    with ExitStack() as stack:
        if may_mount:
            command = private_cron(crontab, folder, binary)
        else:
            # A container without mounts: a file of our own beside the host's crontabs, for as long as the test runs.
            file = Path(f"/etc/cron.d/taskpilot-test-{os.getpid()}")
            stack.callback(file.unlink, missing_ok=True)
            file.write_text(re.sub(r"^((?:[\d*,/-]+ +){5})", r"\1root ", crontab, flags=re.MULTILINE))
            command = [binary, "-f"]
        daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        stack.callback(daemon.communicate, timeout=30)
        stack.callback(daemon.terminate)
        yield
        # Beside a cron of the host, which has the lock, ours ends at once and that one starts the line.
        assert not may_mount or daemon.poll() is None, (daemon.stderr.read() if daemon.stderr else b"").decode()


def private_cron(crontab: str, folder: Path, binary: str) -> list[str]:
    """The command of a daemon that sees nothing of the host's crontabs."""
    for name in ("spool", "none"):
        (folder / name).mkdir()
    (folder / "empty").touch()
    spooled = folder / "spool" / "root"
    spooled.write_text(crontab)
    spooled.chmod(0o600)
    return ["unshare", "-m", "sh", "-eu", "-c", PRIVATE, "sh", str(folder), binary]


def first_end(taskpilot: TaskPilot) -> dict[str, Any]:
    """The first run that ended, waited for."""
    until = time.monotonic() + MINUTE_SECONDS
    while time.monotonic() < until:
        if (taskpilot.state_dir / "taskpilot.db").exists():
            ended = [run for run in taskpilot("runs", "list", "--json").json if run["ended_at"]]
            if ended:
                return dict(ended[0])
        time.sleep(0.5)
    pytest.fail(f"cron started nothing in {MINUTE_SECONDS} s; {sorted(taskpilot.root.iterdir())}")


# The slowest test of its kind: cron starts what is due when a minute begins, so it takes up to 60 s.
def test_a_line_runs_under_cron_and_its_fire_is_claimed_once(taskpilot: TaskPilot, tmp_path: Path) -> None:
    (taskpilot.root / "jobs" / "tick.py").write_text(TICK)
    exported = taskpilot("export", "crontab", "tick")
    assert exported.code == 0, exported.err
    home = Path(taskpilot.environment["HOME"])
    (taskpilot.root / ".env").write_text("OTEL_ENABLED=false\nFROM_THE_FILE='yes it is'\n")
    (taskpilot.root / ".env").chmod(0o600)
    with cron_daemon(f'HOME={home}\nMAILTO=""\n{exported.out}', tmp_path):
        run = first_end(taskpilot)
    assert (run["status"], run["trigger"]) == ("succeeded", "schedule"), run
    fire = datetime.fromisoformat(run["scheduled_for"])
    assert (fire.second, fire.microsecond) == (0, 0)
    names = set(run["result"].split())
    assert "FROM_THE_FILE" in names
    assert {"VIRTUAL_ENV", "PYTHONPATH", "TASKPILOT_HOME"} & names == set()
    again = taskpilot("run", "tick", "--scheduled-for", run["scheduled_for"], "--quiet")
    assert (again.code, again.out, again.err) == (11, "", "")
    auto = taskpilot("run", "tick", "--scheduled-for", "auto", "--quiet")
    if datetime.now(UTC).replace(second=0, microsecond=0) == fire:
        assert (auto.code, auto.out, auto.err) == (11, "", "")
    assert str(Path(sys.executable).with_name("taskpilot")) in exported.out, "the line names the command itself"
