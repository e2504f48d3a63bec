"""A newcomer's first minute: `taskpilot init`, and the commands that it prints, typed as they stand."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.night_jobs import Command, Done

SHELL_PATH = os.defpath


def next_commands(said: str) -> list[str]:
    """Those of the list that end by themselves."""
    lines = [line.strip() for line in said.partition("in this order:\n")[2].splitlines() if line.startswith("  ")]
    assert lines.pop().endswith("taskpilot serve")
    return lines


def typed(taskpilot: Command, lines: list[str]) -> Done:
    """The lines in a shell that knows no `taskpilot` but the one that they name."""
    done = subprocess.run(
        ["/bin/sh", "-e"], input="\n".join(lines), cwd=taskpilot.folder, env={**taskpilot.environment, "PATH": SHELL_PATH},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def taskpilot(tmp_path: Path) -> Command:
    made = Command(tmp_path)
    made.environment["PATH"] = SHELL_PATH
    return made


def test_the_commands_that_init_prints_work_as_they_stand(taskpilot: Command) -> None:
    made = taskpilot("init", "night shift")
    assert (made.code, made.err) == (0, "")
    lines = next_commands(made.out)
    assert lines[0] == f'export PATH={Path(sys.executable).parent}:"$PATH"'
    assert lines[1:3] == ["cd 'night shift'", "taskpilot run hello --model offline"]
    done = typed(taskpilot, lines)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("wishes handled: 2\n")
    assert "wishes handled: 1\n" in done.out
    assert "Water the plants" in done.out
    assert "offline" in done.out
    inside = Command(taskpilot.folder / "night shift")
    assert {task["status"] for task in inside("tasks", "--json").json} == {"executed"}
    assert inside("jobs", "validate") == Done(0, "ok      hello\nok      policy\n", "")


def test_a_shell_that_finds_us_is_told_of_no_path(taskpilot: Command) -> None:
    taskpilot.environment["PATH"] = f"{Path(sys.executable).parent}:{SHELL_PATH}"
    assert next_commands(taskpilot("init").out)[0] == "taskpilot run hello --model offline"


def test_a_second_time_changes_nothing_and_says_what_it_kept(taskpilot: Command) -> None:
    taskpilot("init")
    (taskpilot.folder / "jobs" / "hello.py").write_text("# mine\n")
    before = {path: path.read_bytes() for path in taskpilot.folder.rglob("*") if path.is_file()}
    again = taskpilot("init")
    assert again.code == 0
    assert "wrote" not in again.out
    assert again.out.startswith("kept  taskpilot.toml (unchanged)\nkept  .gitignore (unchanged)\nkept  jobs/hello.py (unchanged)\n")
    assert {path: path.read_bytes() for path in taskpilot.folder.rglob("*") if path.is_file()} == before


def test_what_must_not_be_committed_is_ignored(taskpilot: Command) -> None:
    subprocess.run(["git", "init", "-q"], cwd=taskpilot.folder, check=True)
    taskpilot("init")
    assert typed(taskpilot, next_commands(taskpilot("init").out)).code == 0
    for secret in (".env", ".env.local", ".taskpilot.env"):
        (taskpilot.folder / secret).write_text("OPENAI_API_KEY=sk-1\n")
    (taskpilot.folder / ".env.example").write_text("OPENAI_API_KEY=\n")
    assert added(taskpilot.folder) == {".gitignore", ".env.example", "taskpilot.toml", "jobs/hello.py"}


def test_a_gitignore_that_is_there_stays_and_the_lines_that_it_lacks_are_a_command(taskpilot: Command) -> None:
    subprocess.run(["git", "init", "-q"], cwd=taskpilot.folder, check=True)
    (taskpilot.folder / ".gitignore").write_text("build/\n.env")  # Without a line end, as some editors leave it.
    lines = next_commands(taskpilot("init").out)
    assert (taskpilot.folder / ".gitignore").read_text() == "build/\n.env"
    assert typed(taskpilot, lines).code == 0
    assert added(taskpilot.folder) == {".gitignore", "taskpilot.toml", "jobs/hello.py"}
    assert not any("gitignore" in line for line in next_commands(taskpilot("init").out))


def added(folder: Path) -> set[str]:
    """What `git add .` would take, without what Python leaves beside a file."""
    listed = subprocess.run(["git", "ls-files", "--others", "--exclude-standard"], cwd=folder, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.splitlines() if "__pycache__" not in name}


def test_the_settings_of_a_pyproject_stay_the_only_ones(taskpilot: Command) -> None:
    (taskpilot.folder / "pyproject.toml").write_text('[tool.taskpilot]\njobs = "nights/jobs"\n')
    made = taskpilot("init")
    assert made.out.startswith(
        "wrote .gitignore\nwrote .taskpilot/.gitignore\nwrote nights/jobs/hello.py\nkept  pyproject.toml (unchanged)\n"
    )
    assert not (taskpilot.folder / "taskpilot.toml").exists()
    assert typed(taskpilot, next_commands(made.out)).code == 0


def test_a_pyproject_of_another_project_is_left_alone(taskpilot: Command) -> None:
    (taskpilot.folder / "pyproject.toml").write_text('[project]\nname = "x"\n')
    made = taskpilot("init")
    assert made.out.startswith("wrote taskpilot.toml\n")
    assert typed(taskpilot, next_commands(made.out)).code == 0


def test_beside_jobs_of_ones_own_no_first_job_is_put(taskpilot: Command) -> None:
    (taskpilot.folder / "jobs").mkdir()
    (taskpilot.folder / "jobs" / "mine.py").write_text("from taskpilot import job\n\n\n@job\ndef mine(ctx):\n    return 1\n")
    made = taskpilot("init")
    assert [path.name for path in (taskpilot.folder / "jobs").iterdir()] == ["mine.py"]
    done = typed(taskpilot, next_commands(made.out))
    assert done.code == 0
    assert "mine" in done.out


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_may_write_what_init_made(umask: int, taskpilot: Command) -> None:
    before = os.umask(umask)
    try:
        made = taskpilot("init", "new")
    finally:
        os.umask(before)
    assert made.code == 0
    for path in [taskpilot.folder / "new", *(taskpilot.folder / "new").rglob("*")]:
        folder, file = (0o700, 0o600) if ".taskpilot" in path.parts else (0o755 & ~umask, 0o644 & ~umask)
        assert path.stat().st_mode & 0o777 == (folder if path.is_dir() else file), path


def test_a_folder_that_everybody_can_change_is_refused_before_anything_is_written(taskpilot: Command) -> None:
    (taskpilot.folder / "open").mkdir()
    (taskpilot.folder / "open").chmod(0o777)
    made = taskpilot("init", "open")
    assert (made.code, made.out) == (78, "")
    assert "chmod o-w" in made.err
    assert list((taskpilot.folder / "open").iterdir()) == []


def test_a_place_that_cannot_be_a_folder_is_a_usage_error_in_a_sentence(taskpilot: Command) -> None:
    (taskpilot.folder / "file").write_text("")
    (taskpilot.folder / "odd").mkdir()
    (taskpilot.folder / "odd" / "jobs").write_text("")
    for target, code in (("file", 2), ("file/below", 2), ("odd", 78), ("/proc/new", 2)):
        made = taskpilot("init", target)
        assert made.code == code, made
        assert "Traceback" not in made.err
        assert made.err.startswith("taskpilot: ")


def test_jobs_that_the_environment_puts_elsewhere_are_named(taskpilot: Command, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    taskpilot.environment["TASKPILOT_JOBS"] = str(elsewhere)
    made = taskpilot("init", "new")
    assert made.code == 2
    assert "TASKPILOT_JOBS" in made.err
    assert list(elsewhere.iterdir()) == []
