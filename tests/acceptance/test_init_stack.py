"""`taskpilot init --stack`: what the containers need, made once and never again."""

import re
import shutil
from pathlib import Path

import pytest

from tests.command import TaskPilot

REPOSITORY = Path(__file__).parents[2]
COMPOSE = "docker-compose.observability.yml"


@pytest.fixture
def checkout(taskpilot: TaskPilot) -> TaskPilot:
    """The command in a root that has the compose file, as this repository is."""
    shutil.copy(REPOSITORY / COMPOSE, taskpilot.root)
    return taskpilot


def pairs(env: Path) -> dict[str, str]:
    lines = [line for line in env.read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_it_writes_what_the_example_names_with_passwords_that_nobody_knows(checkout: TaskPilot) -> None:
    done = checkout("init", "--stack")
    assert (done.code, done.err) == (0, "")
    env = checkout.root / ".env"
    assert env.stat().st_mode & 0o777 == 0o600
    wrote = pairs(env)
    assert set(wrote) == set(pairs_of_example())
    assert wrote.pop("TASKPILOT_HOME") == f"'{checkout.state_dir}'"
    assert wrote.pop("ALERT_WEBHOOK_URL") == ""
    assert len(set(wrote.values())) == 4
    for password in wrote.values():
        assert re.fullmatch(r"[A-Za-z0-9_-]{32}", password)
        assert password not in done.out
    assert not (checkout.root / "jobs" / "hello.py").exists()
    assert f"docker compose -f {checkout.root / COMPOSE} up -d\n" in done.out


def pairs_of_example() -> dict[str, str]:
    return {line.rstrip("="): "" for line in (REPOSITORY / ".env.example").read_text().splitlines() if line and not line.startswith("#")}


def test_the_folders_that_are_mounted_are_ours_alone_and_a_run_accepts_them(checkout: TaskPilot) -> None:
    assert checkout("init", "--stack").code == 0
    for folder in (checkout.state_dir, checkout.state_dir / "logs"):
        assert folder.stat().st_mode & 0o777 == 0o700
    checkout.job("from taskpilot import job\n\n\n@job(model='offline')\ndef one(ctx):\n    return 1\n")
    assert checkout("run", "one", "--quiet").code == 0
    assert (checkout.state_dir / "logs" / "taskpilot.log").stat().st_mode & 0o777 == 0o600


def test_a_second_time_keeps_every_password(checkout: TaskPilot) -> None:
    checkout("init", "--stack")
    before = (checkout.root / ".env").read_bytes()
    again = checkout("init", "--stack")
    assert again.code == 0
    assert f"kept  {checkout.root / '.env'} (unchanged)" in again.out
    assert "another state dir" not in again.out
    assert (checkout.root / ".env").read_bytes() == before


def test_a_link_in_the_place_of_the_file_is_not_followed(checkout: TaskPilot, tmp_path: Path) -> None:
    (checkout.root / ".env").symlink_to(tmp_path / "elsewhere")
    assert checkout("init", "--stack").code != 0
    assert not (tmp_path / "elsewhere").exists()


def test_the_state_dir_in_force_is_the_one_that_is_named(checkout: TaskPilot, tmp_path: Path) -> None:
    home = tmp_path / "state of mine"
    done = checkout("init", "--stack", environment={"TASKPILOT_HOME": str(home)})
    assert done.code == 0
    assert pairs(checkout.root / ".env")["TASKPILOT_HOME"] == f"'{home}'"
    assert (home / "logs").is_dir()
    # With another state dir later, the file stays and says so.
    other = checkout("init", "--stack")
    assert f"TASKPILOT_HOME in that .env is {home}" in other.out


def test_a_state_dir_that_an_env_file_cannot_hold_is_refused(checkout: TaskPilot, tmp_path: Path) -> None:
    done = checkout("init", "--stack", environment={"TASKPILOT_HOME": str(tmp_path / "it's")})
    assert done.code == 2
    assert "TASKPILOT_HOME" in done.err
    assert not (checkout.root / ".env").exists()


def test_outside_of_any_root_it_is_refused(checkout: TaskPilot, tmp_path: Path) -> None:
    (tmp_path / "nowhere").mkdir()
    done = checkout("init", "--stack", str(tmp_path / "nowhere"))
    assert done.code == 78
    assert "taskpilot init" in done.err


def test_a_root_is_named_by_its_folder(checkout: TaskPilot, tmp_path: Path) -> None:
    done = checkout("init", "--stack", str(checkout.root / "jobs"), cwd=tmp_path)
    assert done.code == 0
    assert (checkout.root / ".env").is_file()
