"""A store or state dir that is full, read-only, corrupt, locked or gone: 74 or 75, one sentence, and nothing is overwritten."""

import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.stores import JOBS, contents, refused
from tests.command import Said, TaskPilot

pytestmark = pytest.mark.real_creation

NOBODY = 65534
DB = "taskpilot.db"


@pytest.fixture
def good(taskpilot: TaskPilot) -> TaskPilot:
    """A root with the jobs above and an impatient command: a lease of 6 s makes it wait a second for a lock."""
    taskpilot.job(JOBS)
    taskpilot.environment |= {"TASKPILOT_MODEL": "offline", "TASKPILOT_LEASE_SECONDS": "6"}
    return taskpilot


def text(path: Path) -> None:
    path.write_text("this was a database once\n" * 500)


def torn(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE photos (name TEXT)")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")


def lone_log(path: Path) -> None:
    path.unlink()
    path.with_name(f"{path.name}-wal").write_bytes(b"rows that were recorded last")


def log_of_an_empty_file(path: Path) -> None:
    path.write_bytes(b"")
    path.with_name(f"{path.name}-wal").write_bytes(b"rows that were recorded last")


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (text, 74, ["not a database", "backup", "Nothing was overwritten"]),
        (torn, 74, ["malformed", "backup", "Nothing was overwritten"]),
        (foreign, 74, ["not one of TaskPilot's", "move it away", "Nothing was overwritten"]),
        (newer, 78, ["schema 0999", "install the TaskPilot that wrote it", "Nothing was overwritten"]),
        (lone_log, 74, ["taskpilot.db-wal is there", "is gone", "Nothing was overwritten"]),
        (log_of_an_empty_file, 74, ["taskpilot.db-wal is there", "is empty", "Nothing was overwritten"]),
    ],
)
def test_a_store_that_cannot_be_ours_is_left_as_it_is(good: TaskPilot, spoil: Callable[[Path], None], code: int, words: list[str]) -> None:
    assert good("db", "upgrade").code == 0
    spoil(good.state_dir / DB)
    before = contents(good.state_dir)
    for arguments in (["run", "good", "--quiet", "--skip-ok"], ["runs", "--json"], ["db", "upgrade"]):
        refused(good(*arguments), code, *words)
    assert contents(good.state_dir) == before


def test_a_store_that_is_locked_for_long_is_75_and_reading_goes_on(good: TaskPilot) -> None:
    assert good("run", "good", "--quiet").code == 0
    with closing(sqlite3.connect(good.state_dir / DB, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(good("run", "good"), 75, "locked by another process", "try again; `fuser")
        assert good("runs", "--json").code == 0
        other.execute("ROLLBACK")
    assert good("run", "good", "--quiet").code == 0
    assert [run["status"] for run in good.rows("SELECT status FROM runs")] == ["succeeded"] * 2


@pytest.mark.parametrize("home", ["file/home", "file", "/proc/home", "/dev/null"])
def test_a_state_dir_that_cannot_be_made_is_74(good: TaskPilot, home: str) -> None:
    (good.root / "file").write_text("")
    refused(good("--home", home, "run", "good"), 74, "the state dir cannot be used", "TASKPILOT_HOME or --home")
    assert (good.root / "file").read_text() == ""


@pytest.mark.parametrize("name", ["runs", "taskpilot.db", "taskpilot.db.lock"])
def test_something_in_the_place_of_what_has_to_be_there_is_74(good: TaskPilot, name: str) -> None:
    there = good.state_dir / name
    there.parent.mkdir(mode=0o700)
    if name == "runs":
        there.write_text("")
    else:
        there.mkdir()
    refused(good("run", "good"), 74, name)


class TestAnotherUsersStateDir:
    @pytest.fixture
    def as_nobody(self, good: TaskPilot) -> Iterator[Callable[..., Said]]:
        """Runs the command as nobody, over a copy of the root that nobody can read."""
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            pytest.skip("only root can run as another user, by setpriv (apt-get install util-linux)")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            place.chmod(0o755)
            shutil.copytree(good.root, place / "root", dirs_exist_ok=True)
            open_to_all(place / "root")

            def run(*arguments: str, store: Callable[[Path], None]) -> Said:
                state_dir = place / "root" / ".taskpilot"
                store(state_dir)
                line = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *good.line(*arguments)]
                done = subprocess.run(line, cwd=place / "root", env=good.environment, capture_output=True, text=True, timeout=60)
                if "Permission denied" in done.stderr and "taskpilot" not in done.stderr:
                    pytest.skip("nobody cannot read the program itself")
                return Said(done.returncode, done.stdout, done.stderr, 0.0)

            yield run

    def test_a_closed_folder_of_root_is_74(self, as_nobody: Callable[..., Said]) -> None:
        refused(as_nobody("run", "good", store=lambda folder: folder.mkdir(mode=0o700)), 74, "Permission denied")

    def test_a_folder_where_we_may_only_read_is_74(self, as_nobody: Callable[..., Said]) -> None:
        refused(as_nobody("run", "good", store=lambda folder: folder.mkdir(mode=0o755)), 74, "Permission denied", "Check its rights")

    def test_a_store_that_we_may_only_read_is_74_and_kept(self, good: TaskPilot, as_nobody: Callable[..., Said]) -> None:
        assert good("run", "good", "--quiet").code == 0
        digests: list[dict[str, str]] = []

        def copied(folder: Path) -> None:
            shutil.copytree(good.state_dir, folder)
            open_to_all(folder)
            digests.append(contents(folder))
            copies.append(folder)

        copies: list[Path] = []
        refused(as_nobody("run", "good", store=copied), 74, "read-only for us", "give us the right to write it")
        assert contents(copies[0]) == digests[0]

    def test_a_folder_of_a_third_one_is_74(self, as_nobody: Callable[..., Said]) -> None:
        def strangers(folder: Path) -> None:
            folder.mkdir()
            os.chown(folder, NOBODY - 1, NOBODY - 1)

        refused(as_nobody("run", "good", store=strangers), 74, f"belongs to uid {NOBODY - 1}", "TASKPILOT_HOME or --home")


def open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_store_that_is_moved_away_under_a_run_is_74_and_not_replaced(good: TaskPilot) -> None:
    assert good("run", "good", "--quiet").code == 0
    for _ in range(20):
        said = good("run", "moves_the_store_away")
        assert not (good.state_dir / DB).exists()
        (good.state_dir / "away.db").rename(good.state_dir / DB)
        if said.code:
            break
        # On a busy machine the supervisor may look at the run before the job moves the file, and has it open then too.
    refused(said, 74, "the file is gone", "put it back")
    # The job's process had the file open, and its end went along with it.
    assert {run["status"] for run in good.rows("SELECT status FROM runs")} == {"succeeded"}
    assert good("run", "good", "--quiet").code == 0


def test_a_backup_is_a_store_to_go_on_with(good: TaskPilot, tmp_path: Path) -> None:
    assert good("run", "good", "--quiet").code == 0
    copy = tmp_path / "copy.db"
    assert good("db", "backup", str(copy)).code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    refused(good("db", "backup", str(copy)), 2, "exists")
    for path in good.state_dir.glob(f"{DB}*"):
        path.unlink()
    copy.rename(good.state_dir / DB)
    assert good("run", "good", "--quiet").code == 0
    assert [run["status"] for run in good.rows("SELECT status FROM runs")] == ["succeeded"] * 2


def test_a_backup_of_a_damaged_store_is_74_and_leaves_no_file(good: TaskPilot, tmp_path: Path) -> None:
    assert good("run", "good", "--quiet").code == 0
    torn(good.state_dir / DB)
    refused(good("db", "backup", str(tmp_path / "copy.db")), 74, "damaged", "no copy is left")
    assert not (tmp_path / "copy.db").exists()
