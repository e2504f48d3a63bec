"""The first folder that `taskpilot init` makes."""

from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.domain.errors import UsageError
from taskpilot.setup.first_job import StartingPoint, check_job_name, make_starting_point
from tests.loading import read_folder


def test_a_first_folder_loads_and_is_never_written_twice(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "place"
    made = make_starting_point(folder)
    assert made == StartingPoint(
        ("taskpilot.toml", ".gitignore", ".taskpilot/.gitignore", "jobs/hello.py"), (), jobs_folder="jobs", jobs=("hello",), not_ignored=()
    )
    catalog = read_folder(folder / "jobs")
    assert (list(catalog.jobs), catalog.broken) == (["hello"], ())
    assert load(root=folder).root == folder
    (folder / ".gitignore").write_text("mine\n/.taskpilot\n")
    (folder / "jobs" / "hello.py").unlink()
    (folder / "jobs" / "hello.py").symlink_to("nowhere")
    again = make_starting_point(folder)
    assert again.wrote == ()
    assert again.not_ignored == (".env", ".env.*", "*.env")
    assert (folder / ".gitignore").read_text() == "mine\n/.taskpilot\n"
    assert (folder / "jobs" / "hello.py").is_symlink()


def test_a_job_of_ones_own_has_its_name_everywhere_and_loads(tmp_path: Path) -> None:
    made = make_starting_point(tmp_path, ["tidy_up", "triage"])
    assert made.jobs == ("tidy_up", "triage")
    assert "hello" not in (tmp_path / "jobs" / "tidy_up.py").read_text()
    catalog = read_folder(tmp_path / "jobs")
    assert (set(catalog.jobs), catalog.broken) == ({"tidy_up", "triage"}, ())


@pytest.mark.parametrize("name", ["Tidy", "tidy-up", "9to5", "", "a" * 64, "../x", "import", "housekeeping", "x\n"])
def test_what_cannot_name_a_job_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_job_name(name)


def test_a_state_folder_that_is_in_use_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".taskpilot").mkdir()
    (tmp_path / ".taskpilot" / "metrics.json").write_text("{}")
    assert ".taskpilot/.gitignore" not in make_starting_point(tmp_path).wrote
    assert [path.name for path in (tmp_path / ".taskpilot").iterdir()] == ["metrics.json"]
