"""The wheel, installed into an environment of its own with no checkout beside it: everything that the documentation promises is in it."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "taskpilot" / "docs"
NOBODY = 65_534
ORDINARY = () if os.geteuid() else ("setpriv", "--bounding-set", "-dac_override", "--")
"""With it, uid 0 cannot write what is read-only, as nobody else can."""
APPROVAL = '''
from taskpilot import RunContext, job


@job
def asks(ctx: RunContext) -> str:
    """Makes a call that waits for a person."""
    return str(ctx.call("create_task", title="the sensitive one", priority="high"))
'''

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Installed:
    """The installed program, typed by a shell in a folder of its own."""

    def __init__(self, bin_dir: Path, folder: Path) -> None:
        self.bin_dir, self.folder = bin_dir, folder
        self.user: int | None = None

    def __call__(self, line: str, *, code: int = 0) -> str:
        done = subprocess.run(
            [*ORDINARY, "sh", "-ec", line], cwd=self.folder, env=self.environment, user=self.user, group=self.user,
            extra_groups=None if self.user is None else [],
            capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": f"{self.bin_dir}:/usr/bin:/bin", "HOME": str(self.folder), "OTEL_ENABLED": "false", "TASKPILOT_MODEL": "offline"}

    def printed(self, text: str) -> list[str]:
        """The commands that a text tells to type, but for the last one, which starts a server."""
        lines = [line.strip() for line in text.partition("in this order:\n")[2].splitlines() if line.startswith("  ")]
        assert lines.pop().endswith("taskpilot serve")
        return lines


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with the wheel; the libraries are those of the tests, and this checkout is not on its path."""
    folder = Path(os.path.realpath(tmp_path_factory.mktemp("wheel")))
    for each in (folder, folder.parent, folder.parent.parent):
        each.chmod(each.stat().st_mode | 0o055)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = folder / "source"
    source.mkdir()
    for name in subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\0"):
        if name and not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True, cwd=folder)
    shutil.rmtree(source)
    (wheel,) = folder.glob("taskpilot-*.whl")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    subprocess.run(
        [*pip, "--python", folder / "venv" / "bin" / "python", "install", "--no-deps", "--no-index", wheel], check=True, cwd=folder
    )
    # Not by a .pth file: the tests' own would bring this checkout along.
    libraries = Path(sysconfig.get_path("purelib"))
    for path in libraries.iterdir():
        if "taskpilot" not in path.name and path.suffix != ".pth" and not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    wheel.unlink()
    made_read_only = [path for path in [site, site / "taskpilot", *(site / "taskpilot").rglob("*")] if not path.is_symlink()]
    for path in made_read_only:
        path.chmod(0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444)
    yield folder / "venv"
    for path in made_read_only:
        if path.is_dir():
            path.chmod(0o755)


@pytest.fixture(params=["the same user", "another user"])
def installed(environment: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Installed:
    typed = Installed(environment / "bin", tmp_path / "empty")
    typed.folder.mkdir(mode=0o755)
    if request.param == "another user":
        if os.geteuid():
            pytest.skip("only uid 0 can become another user")
        os.chown(typed.folder, NOBODY, NOBODY)
        typed.user = NOBODY
        for each in typed.folder.parents[:3]:
            each.chmod(each.stat().st_mode | 0o055)
        try:
            subprocess.run([environment / "bin" / "python", "-c", ""], user=NOBODY, group=NOBODY, extra_groups=[], check=True)
        except PermissionError:
            pytest.skip("the interpreter of these tests is not open to other users")
    return typed


def test_from_an_empty_folder_to_a_run_a_schedule_an_approval_and_the_stack(installed: Installed) -> None:
    said = installed("taskpilot init shift --job hello --job triage --job repo_digest")
    lines = installed.printed(said)
    assert lines[0] == "cd shift"
    installed.folder /= "shift"
    assert str(REPOSITORY) not in installed("python -c 'import taskpilot, sys; print(taskpilot.__file__, sys.path)'")
    site = installed("python -c 'import taskpilot, os; print(os.path.dirname(taskpilot.__file__))'").strip()
    installed(f"touch {site}/here 2>&1", code=1)
    out = installed("\n".join(lines[1:]))
    assert "hello succeeded" in out
    assert "7 of 7 requests handled" in out
    assert installed("taskpilot docs start").startswith("# Start")
    assert sorted(path.name for path in Path(site, "docs").iterdir()) == sorted(path.name for path in DOCS.iterdir())
    assert "taskpilot/policy/default.rego" in installed("taskpilot policy check")
    assert {one["job"] for one in json.loads(installed("taskpilot jobs --json"))} == {"hello", "housekeeping", "repo_digest", "triage"}
    assert "0 lost runs ended" in installed("taskpilot run housekeeping")
    (installed.folder / "jobs" / "asks.py").write_text(APPROVAL)
    waits = installed("taskpilot run asks", code=13)
    (approve,) = set(re.findall(r"taskpilot decisions approve \S+[0-9a-z]", waits))
    (resume,) = set(re.findall(r"taskpilot runs resume [0-9a-f-]+", installed(approve)))
    assert "asks succeeded" in installed(resume)
    stack = installed("taskpilot init --stack")
    for name in ("docker-compose.observability.yml", ".env.example", "observability/grafana/dashboards/health.json"):
        assert (installed.folder / name).read_bytes() == (REPOSITORY / name).read_bytes()
    assert (installed.folder / ".env").stat().st_mode & 0o777 == 0o600
    assert f"docker compose -f {installed.folder / 'docker-compose.observability.yml'} up -d" in stack


def test_a_server_runs_an_own_job_by_its_schedule(installed: Installed) -> None:
    """Eight commands: an environment, its activation and pip, which the fixture stands for, and these five."""
    said = installed("taskpilot init shift --job mine")
    change, *lines = installed.printed(said)
    assert (change, lines) == ("cd shift", ["taskpilot run mine --model offline", "taskpilot jobs next"])
    assert "  TASKPILOT_MODEL=offline taskpilot serve\n" in said
    installed.folder /= "shift"
    # Nobody waits for seven o'clock.
    mine = installed.folder / "jobs" / "mine.py"
    mine.write_text(mine.read_text().replace("cron,", "every,").replace('cron("0 7 * * mon-fri", timezone="UTC")', 'every("2s")'))
    assert "wishes handled: 2" in installed("\n".join(lines))
    server = subprocess.Popen(
        [*ORDINARY, installed.bin_dir / "taskpilot", "serve", "--port", "0"], cwd=installed.folder, env=installed.environment,
        user=installed.user, group=installed.user, extra_groups=None if installed.user is None else [], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 90
        while "schedule" not in [run["trigger"] for run in json.loads(installed("taskpilot runs --job mine --status succeeded --json"))]:
            assert time.monotonic() < until
            assert server.poll() is None
    finally:
        server.terminate()
        assert server.wait(60) in (0, 143, -15)
