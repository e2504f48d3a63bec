"""The stack's files in a root of one's own."""

import os
from pathlib import Path

import pytest

from taskpilot.config import Settings, load
from taskpilot.setup.stack_files import COMPOSE_FILE, make_stack_files

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    root = tmp_path / "root"
    root.mkdir()
    (root / "taskpilot.toml").touch()
    return load(root=root, environ={})


def test_the_root_gets_the_files_readable_for_the_containers_and_an_env_file_for_us_alone(settings: Settings) -> None:
    before = os.umask(0o077)
    try:
        made = make_stack_files(settings, password=lambda _size: "secret")
    finally:
        os.umask(before)
    assert (made.wrote, made.kept, made.wrote_env) == ((COMPOSE_FILE, ".env.example", "observability"), (), True)
    for folder in ("observability", COMPOSE_FILE, ".env.example"):
        for file in [settings.root / folder, *(settings.root / folder).rglob("*")]:
            ours = REPOSITORY / file.relative_to(settings.root)
            assert file.is_dir() or file.read_bytes() == ours.read_bytes()
            assert file.stat().st_mode & 0o777 == (0o755 if ours.stat().st_mode & 0o100 else 0o644)
    assert made.env_file.stat().st_mode & 0o777 == 0o600
    assert f"TASKPILOT_HOME='{settings.state_dir}'\n" in made.env_file.read_text()
    again = make_stack_files(settings)
    assert (again.wrote, again.kept, again.wrote_env) == ((), (), False)


def test_a_file_that_a_user_changed_stays_and_is_told_of(settings: Settings) -> None:
    (settings.root / "observability" / "otel").mkdir(parents=True)
    (settings.root / "observability" / "otel" / "collector.yml").write_text("mine")
    made = make_stack_files(settings)
    assert made.kept == ("observability/otel/collector.yml",)
    assert (settings.root / made.kept[0]).read_text() == "mine"
    assert (settings.root / "observability" / "jaeger" / "jaeger.yml").is_file()


@pytest.mark.parametrize(
    ("env", "other"),
    [
        ("", None),
        ("TASKPILOT_HOME=\n", None),
        ("TASKPILOT_HOME=other\n", "other"),
        ("TASKPILOT_HOME=/var/lib/other\n", "/var/lib/other"),
        ("# TASKPILOT_HOME=/no\nTASKPILOT_HOME='/var/lib/other'\n", "/var/lib/other"),
    ],
)
def test_an_older_env_file_that_ships_the_logs_of_another_root_is_told_of(settings: Settings, env: str, other: str | None) -> None:
    (settings.root / ".env").write_text(env)
    made = make_stack_files(settings)
    assert (made.wrote_env, made.other_home) == (False, other)
    assert (settings.root / ".env").read_text() == env
