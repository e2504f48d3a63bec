"""`taskpilot init`: write settings, .gitignore and a first job."""

import os
import shlex
import sys
from pathlib import Path

import click

from taskpilot.cli import output


@click.command(name="init")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--stack", is_flag=True, help="Prepare the monitoring containers instead of a job.")
def command(folder: Path, *, stack: bool) -> None:
    """Create a folder with settings and a first job.

    Writes taskpilot.toml, .gitignore and jobs/hello.py, and prints what to
    type next. Existing files are not changed.

    With --stack it creates no job. It creates what docker-compose.observability.yml needs: the
    state folder of the project in DIR, and an .env file with random
    passwords beside the compose file.

    \b
    Examples:
      taskpilot init night-shift
      taskpilot init
      taskpilot init --stack
    """
    if stack:
        _stack(folder)
        return
    from taskpilot.setup.first_job import FIRST_JOB, make_starting_point

    made = make_starting_point(folder)
    for name in made.wrote:
        output.say_line(f"wrote {os.path.normpath(folder / name)}")
    for name in made.kept:
        output.say_line(f"kept  {os.path.normpath(folder / name)} (unchanged)")
    commands = [*_to_path(), *([] if folder == Path() else [f"cd {shlex.quote(str(folder))}"])]
    if made.not_ignored:
        lines = "".join(f"\\n{line}" for line in made.not_ignored)
        commands.append(f"printf '{lines}\\n' >> .gitignore")
    if made.has_first_job:
        commands += [f"taskpilot run {FIRST_JOB} --model offline", f"taskpilot run {FIRST_JOB} --model offline -p wish='Water the plants'"]
    else:
        commands.append("taskpilot jobs")
    output.say("\nType next, in this order:\n")
    for line in [*commands, "taskpilot runs"]:
        output.say_line(f"  {line}")


def _stack(folder: Path) -> None:
    from taskpilot.cli import bootstrap
    from taskpilot.setup.stack_files import make_stack_files

    settings = bootstrap.settings() if folder == Path() else bootstrap.settings_of(folder)
    made = make_stack_files(settings)
    if made.wrote_env:
        output.say_line(f"wrote {made.env_file} with random passwords")
    else:
        output.say_line(f"kept  {made.env_file} (unchanged)")
    output.say_line(f"logs  {made.state_dir}: Filebeat ships its logs and decisions")
    if made.other_home is not None:
        output.say_line(f"!     TASKPILOT_HOME in that .env is {made.other_home}: logs of that folder are shipped instead")
    compose = shlex.quote(str(made.compose_file))
    output.say("\nType next, in this order:\n")
    for line in (
        f"docker compose -f {compose} up -d",
        "export TASKPILOT_PUSHGATEWAY_URL=http://127.0.0.1:9091",
        "taskpilot metrics push",
    ):
        output.say_line(f"  {line}")
    output.say("\nThen open http://127.0.0.1:3000 and log in as admin with GRAFANA_ADMIN_PASSWORD from .env.")


def _to_path() -> list[str]:
    """The command that puts `taskpilot` on the PATH, if it is not there."""
    import shutil

    beside = Path(sys.executable).parent
    if shutil.which("taskpilot") or not (beside / "taskpilot").is_file():
        return []
    return [f'export PATH={shlex.quote(str(beside))}:"$PATH"']
