"""Where the passwords of the stack are put for a root that has no compose file."""

from pathlib import Path

import pytest

from taskpilot.config import Settings, load
from taskpilot.domain.errors import ConfigurationError
from taskpilot.setup.stack_files import COMPOSE_FILE, make_stack_files


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "root"
    root.mkdir()
    (root / "taskpilot.toml").touch()
    return load(root=root, environ={})


def test_the_checkout_that_the_program_runs_from_has_the_stack_of_a_root_elsewhere(tmp_path: Path, settings: Settings) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / COMPOSE_FILE).touch()
    made = make_stack_files(settings, beside=checkout, password=lambda _size: "secret")
    assert made.compose_file == checkout / COMPOSE_FILE
    assert made.wrote_env
    assert f"TASKPILOT_HOME='{settings.state_dir}'\n" in made.env_file.read_text()
    assert not (settings.root / ".env").exists()


def test_the_roots_own_compose_file_goes_first(tmp_path: Path, settings: Settings) -> None:
    (settings.root / COMPOSE_FILE).touch()
    assert make_stack_files(settings, beside=tmp_path).env_file == settings.root / ".env"


def test_with_no_compose_file_at_all_nothing_is_made(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match=COMPOSE_FILE):
        make_stack_files(settings, beside=tmp_path)
    assert not settings.state_dir.exists()


@pytest.mark.parametrize(
    ("env", "other"),
    [
        ("", ".taskpilot"),
        ("TASKPILOT_HOME=\n", ".taskpilot"),
        ("TASKPILOT_HOME=/var/lib/other\n", "/var/lib/other"),
        ("# TASKPILOT_HOME=/no\nTASKPILOT_HOME='/var/lib/other'\n", "/var/lib/other"),
    ],
)
def test_an_older_env_file_that_ships_the_logs_of_another_root_is_reported(
    tmp_path: Path, settings: Settings, env: str, other: str
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / COMPOSE_FILE).touch()
    (checkout / ".env").write_text(env)
    made = make_stack_files(settings, beside=checkout)
    assert (made.wrote_env, made.other_home) == (False, other)
    assert (checkout / ".env").read_text() == env
