"""Planted faults of the state dir and the store: each found by its code, each fix named, the store as it was."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.doctor.deployments import Diagnosis, Patient, traces_of
from tests.command import Said

DB = "taskpilot.db"
NOBODY = 65534
WRITER = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE store_info SET created_at = created_at + 1")
if sys.argv[2] == "dies":
    connection.execute("COMMIT")
    os.kill(os.getpid(), 9)
print("ready", flush=True)
sys.stdin.read()
"""


def wide_folder(state_dir: Path) -> None:
    state_dir.chmod(0o777)


def wide_file(state_dir: Path) -> None:
    (state_dir / DB).chmod(0o644)


def text(state_dir: Path) -> None:
    (state_dir / DB).write_text("this was a database once\n" * 500)


def torn(state_dir: Path) -> None:
    with (state_dir / DB).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * ((state_dir / DB).stat().st_size - 4096))


def foreign(state_dir: Path) -> None:
    (state_dir / DB).unlink()
    with closing(sqlite3.connect(state_dir / DB)) as connection, connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    (state_dir / DB).chmod(0o600)


def schema(revision: str) -> Callable[[Path], None]:
    def change(state_dir: Path) -> None:
        with closing(sqlite3.connect(state_dir / DB)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))

    return change


def no_log(state_dir: Path) -> None:
    with closing(sqlite3.connect(state_dir / DB, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def lone_log(state_dir: Path) -> None:
    (state_dir / DB).unlink()
    (state_dir / f"{DB}-wal").write_bytes(b"rows that were recorded last")


def emptied(state_dir: Path) -> None:
    (state_dir / DB).write_bytes(b"")


def no_index(state_dir: Path) -> None:
    dead_writer(state_dir)
    (state_dir / f"{DB}-shm").unlink()


def dead_writer(state_dir: Path) -> None:
    """A process that was killed leaves a log with rows and its index."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(state_dir / DB), "dies"], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (state_dir / f"{DB}-wal").stat().st_size > 0


@pytest.mark.parametrize(
    ("spoil", "code", "exit_code", "fix"),
    [
        (wide_folder, "store.dir-mode", 0, "chmod 700 "),
        (wide_file, "store.file-mode", 0, "chmod 600 "),
        (text, "store.not-a-database", 1, "restore it from a backup"),
        (torn, "store.corrupt", 1, "restore"),
        (foreign, "store.foreign", 1, "move it away, or give another state dir by TASKPILOT_HOME"),
        (schema("0000"), "store.schema-older", 78, "taskpilot db backup && taskpilot db upgrade"),
        (schema("0999"), "store.schema-newer", 78, "install the TaskPilot that wrote it"),
        (no_log, "store.not-wal", 0, "taskpilot db upgrade"),
        (lone_log, "store.lone-log", 1, "put taskpilot.db back beside it"),
        (no_index, "store.unchecked", 0, "`taskpilot runs` takes them up"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_store_that_is_not_as_it_should_be(
    deployment: Patient, spoil: Callable[[Path], None], code: str, exit_code: int, fix: str
) -> None:
    spoil(deployment.state_dir)
    found = deployment.diagnose()
    assert (found.code, found.bad) == (exit_code, {code})
    assert fix in found.one(code)["fix"]


@pytest.mark.parametrize("spoil", [dead_writer, emptied])
def test_what_a_kill_leaves_is_no_fault(deployment: Patient, spoil: Callable[[Path], None]) -> None:
    spoil(deployment.state_dir)
    found = deployment.diagnose()
    assert (found.code, found.bad) == (0, set())


def test_a_lock_that_is_held_is_reported_with_its_holder(deployment: Patient) -> None:
    line = [sys.executable, "-c", WRITER, str(deployment.state_dir / DB), "holds"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        found = deployment.diagnose()
        assert (found.code, found.bad) == (1, {"store.locked"})
        assert f"process {holder.pid} holds the lock" in found.one("store.locked")["sentence"]
        assert found.one("store.locked")["fix"].startswith("`fuser ")
        holder.communicate(b"")


def test_another_deployments_name_is_78(deployment: Patient) -> None:
    found = deployment.diagnose(environment={"TASKPILOT_DEPLOYMENT": "day"})
    assert (found.code, found.bad) == (78, {"store.deployment"})
    assert "belongs to deployment night, not to day" in found.one("store.deployment")["sentence"]
    assert found.one("store.deployment")["fix"] == "unset TASKPILOT_DEPLOYMENT, or give another TASKPILOT_HOME"


@pytest.mark.parametrize("home", ["taskpilot.toml", "taskpilot.toml/home"])
def test_a_state_dir_that_cannot_be_made_is_1(deployment: Patient, home: str) -> None:
    found = deployment.diagnose("--home", home)
    assert (found.code, found.bad) == (1, {"store.dir-unusable"})
    assert "TASKPILOT_HOME or --home" in found.one("store.dir-unusable")["fix"]


class TestADisk:
    @pytest.fixture
    def disk(self, deployment: Patient) -> Iterator[Callable[[str], None]]:
        """Makes the state dir a disk of its own of some size, with the store on it."""
        mounted = []

        def mount(size: str) -> None:
            away = deployment.root.parent / "away"
            deployment.state_dir.rename(away)
            deployment.state_dir.mkdir(mode=0o700)
            line = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "taskpilot-test", str(deployment.state_dir)]
            if shutil.which("mount") is None or subprocess.run(line, capture_output=True).returncode:
                pytest.skip("mounting is refused here; run as root, or in a container with CAP_SYS_ADMIN")
            mounted.append(deployment.state_dir)
            shutil.copytree(away, deployment.state_dir, dirs_exist_ok=True)

        yield mount
        for folder in mounted:
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True)

    @pytest.mark.parametrize(("size", "code", "exit_code"), [("4m", "store.disk-full", 1), ("64m", "store.disk-low", 0)])
    def test_that_is_full_or_nearly(self, deployment: Patient, disk: Callable[[str], None], size: str, code: str, exit_code: int) -> None:
        disk(size)
        found = deployment.diagnose()
        assert (found.code, found.bad) == (exit_code, {code})
        assert "free some space" in found.one(code)["fix"]

    def test_that_is_read_only(self, deployment: Patient, disk: Callable[[str], None]) -> None:
        disk("400m")
        subprocess.run(["mount", "-o", "remount,ro", str(deployment.state_dir)], check=True)
        found = deployment.diagnose()
        assert (found.code, found.bad) == (1, {"store.read-only"})
        assert "writable for this user" in found.one("store.read-only")["fix"]


class TestAnotherUsers:
    @pytest.fixture
    def as_nobody(self, deployment: Patient) -> Iterator[Callable[[Callable[[Path], None]], Diagnosis]]:
        """The doctor run by nobody over a copy of the deployment that everybody may read."""
        if os.geteuid() != 0 or shutil.which("setpriv") is None:
            pytest.skip("only root can run as another user, by setpriv (apt-get install util-linux)")
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            place.chmod(0o755)
            root = place / "root"
            shutil.copytree(deployment.root, root)
            for path in [root, *root.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)

            def look(spoil: Callable[[Path], None]) -> Diagnosis:
                spoil(root / ".taskpilot")
                before = traces_of(root)
                line = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *deployment.line("doctor", "--json")]
                environment = {**deployment.environment, "PATH": os.environ["PATH"]}
                done = subprocess.run(line, cwd=root, env=environment, capture_output=True, text=True, timeout=60)
                if not done.stdout and "Permission denied" in done.stderr:
                    pytest.skip("nobody cannot read the program itself")
                assert traces_of(root) == before
                return Diagnosis(done.returncode, Said(done.returncode, done.stdout, done.stderr, 0.0).json)

            yield look

    def test_a_state_dir_of_a_third_one(self, as_nobody: Callable[..., Diagnosis]) -> None:
        found = as_nobody(lambda state_dir: os.chown(state_dir, 1234, 1234))
        assert found.code == 1
        assert "belongs to uid 1234" in found.one("store.dir-owner")["sentence"]
        assert found.one("store.dir-owner")["fix"].startswith(f"chown -R {NOBODY} ")

    def test_a_state_dir_that_we_may_only_read(self, as_nobody: Callable[..., Diagnosis]) -> None:
        found = as_nobody(lambda state_dir: None)
        assert found.code == 1
        assert {"store.read-only", "store.file-owner"} <= found.bad

    def test_a_state_dir_that_is_closed_to_us(self, as_nobody: Callable[..., Diagnosis]) -> None:
        found = as_nobody(lambda state_dir: state_dir.chmod(0o700))
        assert found.code == 1
        assert "store.dir-unusable" in found.bad
        assert "store.ok" not in found.findings

    def test_a_store_in_our_folder_that_another_one_owns(self, as_nobody: Callable[..., Diagnosis]) -> None:
        def given(state_dir: Path) -> None:
            os.chown(state_dir, NOBODY, NOBODY)
            state_dir.chmod(0o700)

        found = as_nobody(given)
        assert found.code == 1
        assert "chown" in found.one("store.file-owner")["fix"]
        assert "chmod u+w" in found.one("store.read-only")["fix"]
