"""What the tests of the stack share: the command over a root of its own, a job, and rules that wait for nothing."""

import re
from pathlib import Path

from tests.command import TaskPilot

RULES = Path(__file__).parents[3] / "observability" / "prometheus" / "rules"
NIGHTLY = '''
from taskpilot import RunContext, cron, job


@job(schedule=cron("0 3 * * *"), deadline="10m", model="offline")
def nightly(ctx: RunContext, poet: bool = False, fail: bool = False) -> str:
    """One request; a poem where it is asked for."""
    ctx.workflow("Renew the certificate of the mail server")
    if poet:
        ctx.ask("poet", "a rhyme")
    if fail:
        raise RuntimeError("told to fail")
    return "done"
'''


def command_in(folder: Path, gateway_url: str) -> TaskPilot:
    """The command over a root with the job `nightly`, that pushes to a gateway."""
    root, home = folder / "root", folder / "home"
    (root / "jobs").mkdir(parents=True)
    home.mkdir()
    (root / "taskpilot.toml").write_text("")
    command = TaskPilot(root, home, TASKPILOT_PUSHGATEWAY_URL=gateway_url)
    command.job(NIGHTLY, name="nightly")
    return command


def impatient_rules(folder: Path) -> list[Path]:
    """The shipped rules, but an alert waits for nothing: a copy of each file without its `for`.

    Only that the gateway is absent waits a little: a Prometheus may take 5 s to its first scrape.
    """
    copies = []
    for path in sorted(RULES.glob("*.yml")):
        copy = folder / path.name
        patient = path.read_text().replace("for: 2m\n", "for: 10s  # kept\n")
        copy.write_text(re.sub(r"^ +for: \w+\n", "", patient, flags=re.MULTILINE))
        copies.append(copy)
    return copies


def all_delivered(command: TaskPilot) -> None:
    """Pushes what a busy machine left pending, as the next run would."""
    if command.rows("SELECT job FROM job_state WHERE version > pushed_version OR push_timed_out_at IS NOT NULL"):
        assert command("metrics", "push").code == 0
