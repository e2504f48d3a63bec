"""Which module may import what: one owner for each library, and nothing heavy before it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

OWNERS = {
    "alembic": ("store/",),
    "anyio": ("web/",),
    "apprise": ("channels/",),
    "apscheduler": ("scheduler",),
    "click": ("cli/", "__main__.py"),
    "cronsim": ("schedules/",),
    "dotenv": ("config/",),
    "fastapi": ("web/",),
    "genai_prices": ("llm/",),
    "grpc": ("telemetry/",),
    "h11": ("web/",),
    "httpcore2": ("llm/",),
    "httpx2": ("llm/",),
    "jinja2": ("web/",),
    "markdown_it": ("web/",),
    "markupsafe": ("web/",),
    "loguru": ("telemetry/",),
    "openai": ("llm/",),
    "opentelemetry": ("telemetry/",),
    "prometheus_client": ("telemetry/",),
    "regorus": ("policy/",),
    "rich": ("cli/",),
    "sqlalchemy": ("store/",),
    "starlette": ("web/",),
    "uvicorn": ("web/",),
}
"""Third-party libraries, and the only packages that may import them. A library with several users, such as pydantic, is not listed."""

SHARED = {"pydantic", "pydantic_core"}

ENVIRONMENT = ("config/", "process/")
"""The packages that may touch the environment of the process: config reads it; process takes serve's secrets out of a job's."""

HEAVY = (
    "apprise",
    "openai",
    "httpx2",
    "genai_prices",
    "opentelemetry",
    "prometheus_client",
    "regorus",
    "loguru",
    "sqlalchemy",
    "alembic",
    "rich",
    "apscheduler",
    "grpc",
    "fastapi",
    "starlette",
    "uvicorn",
    "jinja2",
)
LIGHT_MODULES = (
    "",
    ".domain.runs",
    ".schedules.schedule",
    ".domain.protocols",
    ".config",
    ".policy",
    ".llm.offline",
    ".llm.openai_chat",
    ".llm.factory",
    ".llm.prices",
    ".tools",
    ".telemetry",
    ".process",
    ".cli",
)
PUBLIC_API_USERS = ("cli/", "testing", "__main__.py")


def imports(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each absolute name that a module imports, wherever in it, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module, node.lineno


def test_each_third_party_library_has_one_owner(modules: dict[str, ast.Module]) -> None:
    wrong = [
        f"taskpilot/{path}:{line} imports {name}; only {' and '.join(OWNERS[library])} may"
        for path, tree in modules.items()
        for name, line in imports(tree)
        if (library := name.split(".")[0]) in OWNERS and not path.startswith(OWNERS[library])
    ]
    assert not wrong, "\n".join(wrong)


def test_every_third_party_library_is_known_to_the_repository(modules: dict[str, ast.Module]) -> None:
    known = {"taskpilot", *OWNERS, *SHARED, *sys.stdlib_module_names, "annotationlib"}  # The last one is new in Python 3.14.
    unknown = [
        f"taskpilot/{path}:{line} imports {name}, which has no owner in {Path(__file__).name}"
        for path, tree in modules.items()
        for name, line in imports(tree)
        if name.split(".")[0] not in known
    ]
    assert not unknown, "\n".join(unknown)


def test_imports_are_absolute(modules: dict[str, ast.Module]) -> None:
    relative = [
        f"taskpilot/{path}:{node.lineno}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative, "\n".join(relative)


def test_only_config_reads_the_environment(modules: dict[str, ast.Module]) -> None:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    readers = [
        f"taskpilot/{path}:{node.lineno}"
        for path, tree in modules.items()
        if not path.startswith(ENVIRONMENT)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in names and isinstance(node.value, ast.Name) and node.value.id == "os")
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and names & {alias.name for alias in node.names})
    ]
    assert not readers, "\n".join(readers)


def test_no_module_below_the_command_line_imports_the_public_api(modules: dict[str, ast.Module]) -> None:
    packages = {path.split("/")[0].removesuffix(".py") for path in modules}
    upward = [
        f"taskpilot/{path}:{node.lineno}"
        for path, tree in modules.items()
        if not path.startswith(PUBLIC_API_USERS)
        for node in ast.walk(tree)
        if (isinstance(node, ast.Import) and any(alias.name == "taskpilot" for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and node.module == "taskpilot" and any(alias.name not in packages for alias in node.names))
    ]
    assert not upward, "\n".join(upward)


def test_there_are_no_type_checking_blocks(modules: dict[str, ast.Module]) -> None:
    blocks = [
        f"taskpilot/{path}:{node.lineno}"
        for path, tree in modules.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Name) and node.id == "TYPE_CHECKING") or (isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING")
    ]
    assert not blocks, "\n".join(blocks)


@pytest.mark.parametrize("package", LIGHT_MODULES)
def test_importing_a_module_loads_nothing_heavy(repository: Path, package: str) -> None:
    code = f"import sys; import taskpilot{package}; print(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["exit-codes"]])
def test_a_command_that_only_prints_loads_nothing_heavy(repository: Path, arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from taskpilot.__main__ import main\n"
        f"sys.argv = ['taskpilot', *{arguments!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print('loaded:', *sorted(set({(*HEAVY, 'pydantic')!r}) & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]


_SMALL_JOB = """
from taskpilot import RunContext, job

@job()
def small(ctx: RunContext) -> str:
    return ctx.step("greet", str, "hello")
"""
_CHANNELS = """
[notify]
default = ["ops", "hook"]
[notify.channels.ops]
url = "ntfy://127.0.0.1:1/night"
[notify.channels.hook]
url = "http://127.0.0.1:1/hook"
"""
NOT_FOR_A_START = (
    *("openai", "httpx2", "genai_prices", "opentelemetry", "grpc", "requests", "prometheus_client", "rich", "apprise"),
    *("taskpilot.channels.webhook", "taskpilot.notices.delivery", "taskpilot.notices.report", "taskpilot.messages.notices"),
)


def loaded_libraries(log: str) -> list[str]:
    """Those of `NOT_FOR_A_START` that the output of `-X importtime` names."""
    loaded = {line.rpartition("|")[2].strip() for line in log.splitlines() if line.startswith("import time:")}
    return sorted((loaded | {name.split(".")[0] for name in loaded}).intersection(NOT_FOR_A_START))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--model", "gpt-4o"], 78),
        (["-p", "no_such=1"], 2),
        (["--json", "--scheduled-for", "2026-01-01T00:00:00Z"], 0),
        (["--json", "--scheduled-for", "2026-01-01T00:00:00Z"], 11),
    ],
)
def test_a_run_that_asks_no_model_loads_no_client_and_no_exporter(
    repository: Path, tmp_path: Path, arguments: list[str], code: int
) -> None:
    """Neither in its supervisor nor in the job's process, even where the configured collector is down. Nothing is to be told either."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "small.py").write_text(_SMALL_JOB)
    (tmp_path / "taskpilot.toml").write_text(_CHANNELS)
    environment = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(repository), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}

    def run() -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-X", "importtime", "-m", "taskpilot", "run", "small", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    if code == 11:
        assert run().returncode == 0
    done = run()
    assert done.returncode == code, done.stderr[-500:]
    assert "taskpilot.app.wiring" in done.stderr
    assert loaded_libraries(done.stderr) == []
    if code == 0:
        (output,) = (tmp_path / ".taskpilot" / "runs").glob("*/output.log")
        assert "loguru" in output.read_text()
        assert loaded_libraries(output.read_text()) == []
