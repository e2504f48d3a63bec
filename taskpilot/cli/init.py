"""`taskpilot init`: write settings, .gitignore and a first job."""

import os
import shlex
import sys
from pathlib import Path

import click

from taskpilot.cli import output
from taskpilot.domain.errors import UsageError
from taskpilot.setup.first_job import FIRST_JOB, REPO_DIGEST, TRIAGE, StartingPoint, check_job_name, make_starting_point


@click.command(name="init")
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--job", "jobs", multiple=True, metavar="NAME", help="Write this job; may be given several times.  [default: hello]")
@click.option("--stack", is_flag=True, help="Write the files of the monitoring containers instead of a job.")
def command(folder: Path, *, jobs: tuple[str, ...], stack: bool) -> None:
    """Create a folder with settings and a first job.

    Writes taskpilot.toml, .gitignore, the state folder and a job, and prints
    what to type next. Existing files are not changed. The jobs: triage turns
    an inbox into tasks; repo_digest reports what changed in a git repository;
    any other NAME is a job of your own, short and to be changed.

    With --stack it creates no job. For the project in DIR it writes
    docker-compose.observability.yml, observability/, the state folder, and
    an .env file with random passwords.

    \b
    Examples:
      taskpilot init night-shift
      taskpilot init night-shift --job tidy_up
      taskpilot init --job triage --job repo_digest
      taskpilot init --stack
    """
    if stack and jobs:
        raise UsageError("--stack writes no job: leave --job out, or call init twice")
    if stack:
        _stack(folder)
        return
    for job in jobs:
        check_job_name(job)
    made = make_starting_point(folder, jobs)
    for name in made.wrote:
        output.say_line(f"wrote {os.path.normpath(folder / name)}")
    for name in made.kept:
        output.say_line(f"kept  {os.path.normpath(folder / name)} (unchanged)")
    commands = [*_to_path(), *([] if folder == Path() else [f"cd {shlex.quote(str(folder))}"])]
    if made.not_ignored:
        lines = "".join(f"\\n{line}" for line in made.not_ignored)
        commands.append(f"printf '{lines}\\n' >> .gitignore")
    commands += _runs_of(folder, made) or ["taskpilot jobs"]
    output.say("\nType next, in this order:\n")
    # The shipped jobs name a model of their own.
    model = "" if {REPO_DIGEST, TRIAGE} & set(made.jobs) else "TASKPILOT_MODEL=offline "
    for line in [*commands, "taskpilot jobs next", f"{model}taskpilot serve"]:
        output.say_line(f"  {line}")
    output.say()
    if REPO_DIGEST in made.jobs and not _in_git(folder):
        output.say("For a git repository: `taskpilot run repo_digest --model offline -p repository=FOLDER`.")
    output.say("`serve` runs the jobs at their times until Ctrl-C. For a real model put OPENAI_API_KEY, or OPENAI_BASE_URL for a server of")
    output.say("your own, into .env. `taskpilot jobs validate` checks a job that you write; `taskpilot docs start` explains all this.")


def _runs_of(folder: Path, made: StartingPoint) -> list[str]:
    """The commands that run each job once, without a key and at no cost."""
    lines = []
    for job in made.jobs:
        line = f"taskpilot run {job} --model offline"
        if job == TRIAGE:
            inbox = f"{made.jobs_folder}/inbox.jsonl"
            lines.append(line if inbox == "jobs/inbox.jsonl" else f"{line} -p inbox={shlex.quote(inbox)}")
        elif job == FIRST_JOB:
            lines += [line, f"{line} -p wish='Water the plants'"]
        elif job != REPO_DIGEST or _in_git(folder):
            lines.append(line)
    return lines


def _in_git(folder: Path) -> bool:
    return any((each / ".git").exists() for each in (folder.resolve(), *folder.resolve().parents))


def _stack(folder: Path) -> None:
    from taskpilot.cli import bootstrap
    from taskpilot.setup.stack_files import make_stack_files

    settings = bootstrap.settings() if folder == Path() else bootstrap.settings_of(folder)
    made = make_stack_files(settings)
    for name in made.wrote:
        output.say_line(f"wrote {os.path.normpath(made.compose_file.parent / name)}")
    if made.kept:
        output.say_line(f"kept  {len(made.kept)} of the stack's files, as they were: {', '.join(made.kept)}")
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
