"""Where files are, how long they may be, and what they must not contain."""

import re
import tomllib
from pathlib import Path

TOP_LEVEL = {
    "jobs",
    "taskpilot",
    "observability",
    "docker-compose.observability.yml",
    "crontab.example",
    "tests",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "requirements.lock",
}
LINES_MAX = 500
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)
REGISTRY_HOSTS = ("pypi" + ".org", "python" + "hosted.org", "--index" + "-url", "--extra-index" + "-url", "--find" + "-links")


def top(path: Path, repository: Path) -> str:
    return path.relative_to(repository).parts[0]


def test_the_top_level_has_exactly_the_entries_of_the_design(repository: Path, kept_files: list[Path]) -> None:
    seen = {name for path in kept_files if not (name := top(path, repository)).startswith(".")}
    assert seen == TOP_LEVEL


def test_no_code_file_is_longer_than_500_lines(repository: Path, kept_files: list[Path]) -> None:
    lengths = {
        path.relative_to(repository): len(path.read_text(encoding="utf-8").splitlines())
        for path in kept_files
        if path.suffix in {".py", ".rego"}
    }
    assert {path: length for path, length in lengths.items() if length > LINES_MAX} == {}


def test_no_kept_file_names_a_package_registry(repository: Path, kept_files: list[Path]) -> None:
    named = [
        f"{path.relative_to(repository)}: {host}"
        for path in kept_files
        for host in REGISTRY_HOSTS
        if host.encode() in path.read_bytes().replace(b"--no-emit-index" + b"-url", b"")
    ]
    assert named == []


def test_every_pin_of_the_locks_is_hashed_and_a_wheel(repository: Path) -> None:
    for name in ("requirements.lock", "tests/requirements.lock"):
        text = (repository / name).read_text()
        assert "://" not in text
        assert "\n--only-binary :all:\n" in text
        entries = re.split(r"\n(?=[a-z0-9])", text)
        assert [entry.split("\n")[0] for entry in entries if PIN.match(entry) and "--hash=sha256:" not in entry] == []


def test_the_tests_run_on_the_versions_that_users_install(repository: Path) -> None:
    running = set(PIN.findall((repository / "requirements.lock").read_text()))
    testing = set(PIN.findall((repository / "tests/requirements.lock").read_text()))
    assert len(running) > 20
    assert running <= testing


def test_the_locks_hold_every_declared_dependency(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[ ><=!~;\[]", text, maxsplit=1)[0].lower().replace("_", "-") for text in requirements}

    running = {name for name, _ in PIN.findall((repository / "requirements.lock").read_text())}
    testing = {name for name, _ in PIN.findall((repository / "tests/requirements.lock").read_text())}
    declared = names(project["project"]["dependencies"]) | names(project["dependency-groups"]["build"])
    assert declared <= running
    assert declared | names(project["dependency-groups"]["test"]) <= testing


def test_the_readme_begins_with_two_commands_that_work_alone(repository: Path) -> None:
    block = re.search(r"^```\w*\n(.*?)^```", (repository / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    lines = block[1].splitlines()
    locks = ("requirements.lock", "tests/requirements.lock")
    commands = (".venv/bin/taskpilot run triage --model offline", ".venv/bin/pytest -n 4 --dist worksteal")
    checkout = ".venv/bin/pip install --no-deps --no-build-isolation -qe ."
    wanted = [
        f"python3 -m venv .venv && .venv/bin/pip install -qr {lock} && {checkout} && {command}"
        for lock, command in zip(locks, commands, strict=True)
    ]
    assert lines == wanted
    assert max(map(len, lines)) <= 180


def test_the_ci_script_is_executable(repository: Path) -> None:
    assert (repository / ".ci/run").stat().st_mode & 0o100


def test_no_test_file_defines_a_test_twice(kept_files: list[Path]) -> None:
    """The later definition would silently replace the earlier one."""
    for path in kept_files:
        if path.name.startswith("test_") and path.suffix == ".py":
            names = re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert sorted(names) == sorted(set(names)), path
