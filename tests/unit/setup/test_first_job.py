"""The first folder that `taskpilot init` makes."""

from pathlib import Path

from taskpilot.config import load
from taskpilot.setup.first_job import StartingPoint, make_starting_point
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
