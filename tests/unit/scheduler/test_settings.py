"""The settings are read again while a server runs; what needs a restart, or cannot be read, is said until it is settled."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from taskpilot.config import SETTINGS_FILE
from taskpilot.views.health import health
from tests.unit.scheduler.test_scheduler import Ticked

RULES = 'package taskpilot.tools\ndeny contains "no" if input.tool == "x"\n'


@pytest.fixture
def ticked(tmp_path: Path) -> Iterator[Ticked]:
    opened = Ticked(tmp_path)
    opened.tick(after=0)
    yield opened
    opened.spine.close()


def write(ticked: Ticked, text: str) -> None:
    (ticked.spine.deployment.settings.root / SETTINGS_FILE).write_text(text, encoding="utf-8")


def findings(ticked: Ticked) -> str:
    return "\n".join(one.text for one in health(ticked.spine.deployment).findings)


def test_a_changed_file_is_followed_within_the_regular_work(ticked: Ticked) -> None:
    write(ticked, 'model = "gpt-4o"\nmax_concurrent_runs = 9\n')
    ticked.tick(after=6)
    settings = ticked.spine.deployment.settings
    assert (settings.model, settings.max_concurrent_runs) == ("gpt-4o", 9)
    assert any("the settings changed: model, " in line for line in ticked.log.lines)
    ticked.log.lines.clear()
    ticked.tick(after=6)
    assert not ticked.log.lines


def test_a_signal_makes_it_read_them_at_once_and_also_what_no_file_says(ticked: Ticked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKPILOT_MODEL", "from-the-environment")
    ticked.tick(after=6)
    assert ticked.spine.deployment.settings.model is None
    ticked.scheduler.reload()
    ticked.tick(after=0)
    assert ticked.spine.deployment.settings.model == "from-the-environment"


@pytest.mark.parametrize(
    ("text", "named"),
    [("port = 9999\n", "port"), ("drain_timeout = 5\n", "drain_timeout"), ('home = "other"\n', "home"), ('jobs = "other"\n', "jobs")],
)
def test_a_setting_that_needs_a_restart_is_named_until_it_is_put_back(ticked: Ticked, text: str, named: str) -> None:
    before = ticked.spine.deployment.settings
    write(ticked, text + 'model = "gpt-4o"\n')
    ticked.tick(after=6)
    now = ticked.spine.deployment.settings
    assert (now.port, now.drain_timeout, now.state_dir, now.jobs_dir) == (
        before.port,
        before.drain_timeout,
        before.state_dir,
        before.jobs_dir,
    )
    assert now.model == "gpt-4o", "the others are followed"
    assert any(line.endswith(f"need a restart of the server: {named}") for line in ticked.log.lines)
    assert f"restart the server: it does not follow the changed {named} before" in findings(ticked)
    assert health(ticked.spine.deployment).scheduler.restart == (named,)
    write(ticked, 'model = "gpt-4o"\n')
    ticked.tick(after=6)
    assert "restart the server" not in findings(ticked)


@pytest.mark.parametrize("broken", ["model = \n", "no_such_key = 1\n", '[policy]\nfiles = ["missing.rego"]\n', "port = 99999999\n"])
def test_settings_that_cannot_be_read_are_said_and_the_former_ones_stay(ticked: Ticked, broken: str) -> None:
    write(ticked, 'model = "gpt-4o"\n')
    ticked.tick(after=6)
    write(ticked, broken)
    ticked.tick(after=6)
    ticked.tick(after=6)
    assert ticked.spine.deployment.settings.model == "gpt-4o"
    assert "taskpilot.toml" in findings(ticked)
    assert len([line for line in ticked.log.lines if "the server keeps the former ones" in line]) == 1
    write(ticked, 'model = "gpt-5"\n')
    ticked.tick(after=6)
    assert ticked.spine.deployment.settings.model == "gpt-5"
    assert "taskpilot.toml" not in findings(ticked)


def test_a_policy_file_that_comes_later_ends_the_problem_without_a_change_of_the_settings_file(ticked: Ticked) -> None:
    write(ticked, '[policy]\nfiles = ["ours.rego"]\n')
    ticked.tick(after=6)
    assert ticked.spine.deployment.settings.policy_files == ()
    root = ticked.spine.deployment.settings.root
    (root / "ours.rego").write_text(RULES)
    ticked.tick(after=6)
    assert ticked.spine.deployment.settings.policy_files == (root / "ours.rego",)
    (root / "ours.rego").write_text(RULES.replace("no", "never"))
    ticked.tick(after=6)
    assert any("files that the settings name changed" in line for line in ticked.log.lines)
