"""The real command over a root in a temporary folder, and a model server on localhost."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.command import TaskPilot
from tests.servers.openai_server import OpenAIServer
from tests.templates import put_store

QUICK = {"test_cli.py", "test_resume.py"}
"""What the README's test command runs of this folder; the others start too many processes for its five minutes."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and item.path.name not in QUICK:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root: settings and a folder for jobs."""
    folder = tmp_path / "root"
    (folder / "jobs").mkdir(parents=True)
    (folder / "taskpilot.toml").write_text("")
    return folder


@pytest.fixture
def model_server() -> Iterator[OpenAIServer]:
    """A chat completions server that plays planner, reviewer and executor; a test may exchange its `handler`."""
    with OpenAIServer() as server:
        yield server


@pytest.fixture
def taskpilot(root: Path, tmp_path: Path, request: pytest.FixtureRequest) -> TaskPilot:
    """The command in that root: no key, no server, no gateway, no collector, until a test names them in `environment`.

    There is an empty store already, unless the test is marked `real_creation`.
    """
    home = tmp_path / "home"
    home.mkdir()
    made = TaskPilot(root, home)
    if request.node.get_closest_marker("real_creation") is None:
        put_store(made.state_dir)
    return made


@pytest.fixture
def asking(taskpilot: TaskPilot, model_server: OpenAIServer) -> TaskPilot:
    """The command with the model server as its provider."""
    taskpilot.environment["OPENAI_BASE_URL"] = model_server.url
    return taskpilot


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, str], Path]]:
    """Makes a folder a disk of its own, such as `small_disk(folder, "1m")`."""
    with ExitStack() as mounted:

        def mount(folder: Path, size: str) -> Path:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            line = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "taskpilot-test", str(folder)]
            if shutil.which("mount") is None or subprocess.run(line, capture_output=True).returncode:
                pytest.skip("mounting is refused here; run as root, or in a container with CAP_SYS_ADMIN")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder)], capture_output=True)
            return folder

        yield mount
