"""Where the root is, and whose it must be."""

import os
from pathlib import Path

import pytest

from taskpilot.config import check_trusted, find_root, load
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.exits import ExitCode
from tests.errors import saying


def test_the_nearest_parent_with_a_settings_file_is_the_root(root: Path) -> None:
    deep = root / "a" / "b"
    deep.mkdir(parents=True)
    assert find_root(deep, None) == root
    (root / "a" / "taskpilot.toml").write_text("")
    assert find_root(deep, None) == root / "a"


def test_a_pyproject_is_a_root_only_with_our_table(root: Path) -> None:
    inner = root / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text('[project]\nname = "taskpilot-user"\n')
    assert find_root(inner, None) == root
    (inner / "pyproject.toml").write_text("[tool.taskpilot]\n")
    assert find_root(inner, None) == inner


def test_a_broken_pyproject_of_a_stranger_does_not_stop_the_search(root: Path) -> None:
    inner = root / "inner"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("this is = = not toml")
    assert find_root(inner, None) == root


def test_without_a_root_the_message_says_how_to_get_one(tmp_path: Path) -> None:
    if find_root(tmp_path, None) is not None:
        pytest.skip("the folder for temporary files lies inside a TaskPilot root")
    with pytest.raises(ConfigurationError, check=saying(r"--root .*taskpilot init")) as caught:
        load(cwd=tmp_path, environ={})
    assert caught.value.exit_code is ExitCode.CONFIGURATION


def test_an_explicit_root_is_taken_from_the_current_folder_on(root: Path) -> None:
    settings = load(root=Path("project"), cwd=root.parent, environ={})
    assert settings.root == root
    assert settings.sources["root"] == "--root"


def test_an_explicit_root_that_is_no_folder_is_refused(root: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not a folder"):
        load(root=Path("taskpilot.toml"), cwd=root, environ={})


@pytest.mark.parametrize("name", [".", "taskpilot.toml", "jobs", "prices.toml"])
def test_what_every_user_could_change_is_refused_with_the_command_that_closes_it(root: Path, name: str) -> None:
    (root / "jobs").mkdir()
    (root / "prices.toml").write_text("")
    load(cwd=root, environ={})
    path = (root / name).resolve()
    path.chmod(path.stat().st_mode | 0o002)
    with pytest.raises(ConfigurationError, check=saying(f"chmod o-w {path}")):
        load(cwd=root, environ={})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away: run the tests as root to see this one")
@pytest.mark.parametrize("name", [".", "taskpilot.toml", "jobs"])
def test_what_belongs_to_another_user_is_refused(root: Path, name: str) -> None:
    (root / "jobs").mkdir()
    path = (root / name).resolve()
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigurationError, check=saying(f"belongs to uid 12345.*chown 0 {path}")):
        load(cwd=root, environ={})


def test_a_link_is_judged_by_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "open"
    target.mkdir()
    target.chmod(0o777)
    (root / "jobs").symlink_to(target)
    with pytest.raises(ConfigurationError, check=saying("chmod o-w")):
        load(cwd=root, environ={})


def test_a_file_that_is_gone_is_an_error_and_no_crash(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        check_trusted(tmp_path / "gone")


def test_a_current_folder_that_is_gone_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = root / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigurationError, match="current folder does not exist any more"):
        load(environ={})
