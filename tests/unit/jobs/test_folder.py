"""Hostile job files, the cache, and parameters that only the job's file can read."""

import json
import os
import resource
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from taskpilot.domain.errors import ConfigurationError, TaskPilotError, UsageError
from taskpilot.domain.specs import FileProblem
from taskpilot.jobs.folder import JobFolder
from taskpilot.process import isolated
from tests.errors import saying
from tests.loading import job_folder, job_with_functions, read_folder

WriteJob = Callable[[str, str], Path]

GOOD = "from taskpilot.jobs.decorator import job\n@job\ndef {name}(ctx): ...\n"

_GRANDPARENT = "import os, signal\ngrandparent = int(open(f'/proc/{os.getppid()}/stat').read().split()[3])\n"
_DAEMON = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(600)\n"
_ANSWERS = "import os\nfor number in range(3, 32):\n    try: os.write(number, %r)\n    except OSError: pass\nos._exit(0)\n"
HOSTILE = {
    "exits.py": (FileProblem.EXITED, "import os\nos._exit(0)\n"),
    "leaves.py": (FileProblem.EXITED, "import sys\nsys.exit(3)\n"),
    "segfault.py": (FileProblem.SIGNAL, "import ctypes\nctypes.string_at(0)\n"),
    "kills.py": (FileProblem.SIGNAL, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"),
    "kills_its_parent.py": (FileProblem.SIGNAL, "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\n"),
    "kills_its_grandparent.py": (FileProblem.SIGNAL, _DAEMON + _GRANDPARENT + "os.kill(grandparent, signal.SIGKILL)\n"),
    "stops_its_parent.py": (FileProblem.SIGNAL, "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n"),
    "stops_its_grandparent.py": (FileProblem.SIGNAL, _GRANDPARENT + "os.kill(grandparent, signal.SIGSTOP)\n"),
    "other_answer.py": (FileProblem.NO_DEFINITION, _ANSWERS % b'[{"jobs": [{"name": 7}], "files": {}, "environment": {}}]\n'),
    "half_answer.py": (FileProblem.NO_DEFINITION, _ANSWERS % b'[{"problem": "none"}]\n'),
    "changes_us.py": (
        FileProblem.NO_DEFINITION,
        "import taskpilot.jobs.loader as loader\nloader.definition_json = lambda spec: []\n" + GOOD.format(name="changes_us"),
    ),
    "locks.py": (FileProblem.ERROR, "import sqlite3\nsqlite3.connect('file:no_state/taskpilot.db?mode=rw', uri=True)\n"),
    "overwrites.py": (FileProblem.ERROR, "open('no_state/taskpilot.db', 'r+b')\n"),
    "removes.py": (FileProblem.ERROR, "import shutil\nshutil.rmtree('no_state')\n"),
    "stops.py": (FileProblem.TIME, "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"),
    "sleeps.py": (FileProblem.TIME, "import time\ntime.sleep(600)\n"),
    "deaf.py": (FileProblem.TIME, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()\n"),
    "forks.py": (FileProblem.FORKED, "import os\nos.fork()\n" + GOOD.format(name="forks")),
    "daemon.py": (FileProblem.FORKED, "import os, time\nif os.fork() == 0:\n    os.setsid()\n    os.fork()\n    time.sleep(600)\n"),
    "prints.py": (FileProblem.PRINTED, "print('hello')\n" + GOOD.format(name="prints")),
    "memory.py": (FileProblem.ERROR, "x = bytearray(1 << 34)\n"),
    "recursion.py": (FileProblem.ERROR, "def f():\n    f()\nf()\n"),
    "large.py": (
        FileProblem.TOO_LARGE,
        "from taskpilot.jobs.decorator import job\ndef large(ctx): ...\nlarge.__doc__ = 'x' * (5 << 20)\njob(large)\n",
    ),
    "raises.py": (FileProblem.ERROR, "class Odd(BaseException):\n    def __str__(self): raise self\nraise Odd\n"),
    "schedule.py": (
        FileProblem.ERROR,
        (
            "from datetime import timedelta\nfrom taskpilot import job\nfrom taskpilot.schedules.schedule import Every\n"
            "class Own(Every): ...\n@job(schedule=Own(timedelta(hours=1)))\ndef own(ctx): ...\n"
        ),
    ),
    "stdin.py": (FileProblem.ERROR, "input()\n"),
}


def test_each_hostile_file_is_one_broken_file_with_its_reason(folder: Path, write: WriteJob) -> None:
    for name, (_, text) in HOSTILE.items():
        (folder / name).write_text(text)
    os.mkfifo(folder / "fifo.py")
    (folder / "zero.py").symlink_to("/dev/zero")
    (folder / "triage.py").write_text(GOOD.format(name="triage"))
    store = folder.parent / "no_state" / "taskpilot.db"
    store.parent.mkdir()
    store.write_text("the store")
    catalog = job_folder(folder, seconds=5).read()
    assert list(catalog.jobs) == ["triage"]
    assert store.read_text() == "the store"
    expected = {name: problem for name, (problem, _) in HOSTILE.items()} | {
        "fifo.py": FileProblem.NOT_A_FILE,
        "zero.py": FileProblem.NOT_A_FILE,
    }
    assert {file.path.name: file.problem for file in catalog.broken} == expected
    assert all(file.cause and file.cause.isprintable() for file in catalog.broken)
    # Nothing of them is left, and nothing is left in the temporary folder.
    assert [path for path in Path("/proc").glob("[0-9]*") if _working_folder(path) == str(folder.parent)] == []


def _working_folder(process: Path) -> str:
    try:
        return str((process / "cwd").readlink())
    except OSError:
        return ""


def test_the_job_of_a_hostile_file_is_named_with_its_reason(folder: Path) -> None:
    (folder / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    with pytest.raises(ConfigurationError, match=r"job 'sleeps' cannot be loaded: .*was not loaded within 1 s"):
        job_folder(folder, seconds=1).find("sleeps").get("sleeps")


def test_helper_files_that_others_can_change_are_not_imported(folder: Path, write: WriteJob) -> None:
    """Contract: helper files are held to the same rule as job files."""
    helper = write("_shared.py", "raise SystemError('this was run')\n")
    package = folder / "parts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("raise SystemError('this was run')\n")
    write("a.py", "from _shared import x\n")
    write("b.py", "import parts.inner\n")
    write("c.py", "def late(): import _shared\n" + GOOD.format(name="c"))
    helper.chmod(0o666)
    package.chmod(0o777)
    catalog = read_folder(folder)
    assert {file.path.name: "chmod o-w" in file.cause for file in catalog.broken} == {"a.py": True, "b.py": True}
    late = job_with_functions(folder, "c").function.__globals__["late"]
    with pytest.raises(ConfigurationError, check=saying("chmod o-w")):
        late()


class Counted:
    """How often a process was asked to load files, and which."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded: list[str] = []
        known = isolated.call_isolated

        def call(function: str, arguments: list[dict[str, str]], *rest: object, **named: object) -> object:
            self.loaded += [Path(one["path"]).name for one in arguments]
            return known(function, arguments, *rest, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(isolated, "call_isolated", call)

    def take(self) -> list[str]:
        loaded, self.loaded = sorted(self.loaded), []
        return loaded


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def cached(folder: Path) -> JobFolder:
    """As a process that starts now."""
    state = folder.parent / "state"
    state.mkdir(exist_ok=True)
    return JobFolder(folder, root=folder.parent, state_dir=state)


def test_an_unchanged_folder_is_loaded_once_and_a_change_of_anything_that_was_read_again(
    folder: Path, write: WriteJob, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("_shared.py", "NAME = 'plain'\n")
    (folder.parent / "prompt.txt").write_text("one")
    (folder / "plain.py").write_text("from _shared import NAME\n" + GOOD.format(name="plain"))
    (folder / "reads.py").write_text(
        "import os\nfrom pathlib import Path\nTEXT = Path('prompt.txt').read_text()\nWORD = os.environ.get('THE_WORD')\n"
        + GOOD.format(name="reads")
    )
    (folder / "bad.py").write_text("import appears_later\n")
    assert sorted(cached(folder).read().jobs) == ["plain", "reads"]
    assert counted.take() == ["bad.py", "plain.py", "reads.py"]
    before = cached(folder).read()
    assert (sorted(before.jobs), len(before.broken)) == (["plain", "reads"], 1)
    assert cached(folder).find("plain").get("plain").name == "plain"
    assert counted.take() == []

    def reloads(*names: str) -> None:
        cached(folder).read()
        assert counted.take() == list(names)
        cached(folder).read()
        assert counted.take() == []

    write("_shared.py", "NAME = 'other'\n")
    reloads("plain.py")
    (folder.parent / "prompt.txt").write_text("two")
    reloads("reads.py")
    monkeypatch.setenv("THE_WORD", "set")
    reloads("reads.py")
    (folder.parent / "appears_later.py").write_text("")
    reloads("bad.py")
    (folder.parent / ".env").write_text("A=1\n")
    reloads("bad.py", "plain.py", "reads.py")
    cached(folder).read(again=True)
    assert counted.take() == []


def test_a_file_that_is_asked_for_does_not_wait_for_others(folder: Path, counted: Counted) -> None:
    (folder / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    (folder / "triage.py").write_text(GOOD.format(name="triage"))
    assert cached(folder).find("triage").get("triage").name == "triage"
    assert counted.take() == ["triage.py"]


def test_a_broken_cache_is_as_none(folder: Path, write: WriteJob) -> None:
    (folder / "triage.py").write_text(GOOD.format(name="triage"))
    cached(folder).read()
    place = folder.parent / "state" / "job_files.json"
    for text in ("", "[]", "{", json.dumps({"for": [0], "entries": {}}), json.dumps({"for": [1], "entries": {"a": {"b": 1}}})):
        place.write_text(text)
        assert list(cached(folder).read().jobs) == ["triage"]


def test_what_is_known_is_told_without_loading(folder: Path, counted: Counted) -> None:
    (folder / "triage.py").write_text(GOOD.format(name="triage"))
    cached(folder).read()
    counted.take()
    (folder / "triage.py").write_text("# changed\n" + GOOD.format(name="triage"))
    (folder / "new.py").write_text(GOOD.format(name="fresh"))
    known = cached(folder).known()
    assert (list(known.jobs), known.loading) == (["triage"], {"new", "fresh"})
    with pytest.raises(TaskPilotError, check=saying("is being loaded; try again")):
        known.get("fresh")
    assert counted.take() == []


def test_a_process_with_more_than_1024_descriptors_loads_files(folder: Path) -> None:
    """So has a server with as many clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("this user may not open so many files")
    (folder / "triage.py").write_text(GOOD.format(name="triage"))
    isolated.keep_helper(on=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200) if soft != resource.RLIM_INFINITY else soft, hard))
    with ExitStack() as opened:
        opened.callback(isolated.keep_helper, on=True)
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while opened.enter_context(Path(os.devnull).open()).fileno() < 1024:
            pass
        assert list(read_folder(folder).jobs) == ["triage"]


def test_progress_is_told_while_files_are_loaded_and_a_changed_file_counts_as_it_was(folder: Path) -> None:
    (folder / "triage.py").write_text(GOOD.format(name="triage"))
    files = job_folder(folder, seconds=5)
    files.read()
    (folder / "triage.py").write_text("import time\ntime.sleep(600)\n")
    (folder / "new.py").write_text("import time\ntime.sleep(1)\n" + GOOD.format(name="new"))
    told = []
    last = files.read(progress=told.append)
    assert (list(told[0].jobs), told[0].loading) == (["triage"], {"new"})
    assert (list(last.jobs), last.loading, len(last.broken)) == (["new"], frozenset(), 1)


TYPED = """
from enum import Enum
from pydantic import BaseModel
from taskpilot.jobs.decorator import job

class Colour(Enum):
    RED = "red"

class Item(BaseModel):
    name: str
    count: int = 1

@job
def typed(ctx, colour: Colour = Colour.RED, item: Item = Item(name="a"), number: int = 3, names: list[str] | None = None): ...
"""


def test_values_of_the_jobs_own_types_are_read_by_a_loader_process_and_plain_ones_here(folder: Path, counted: Counted) -> None:
    (folder / "typed.py").write_text(TYPED)
    files = cached(folder)
    spec = files.read().get("typed")
    counted.take()
    defaults = {"colour": "red", "item": {"name": "a", "count": 1}, "number": 3, "names": None}
    assert files.parameters(spec, [], None) == defaults
    assert files.parameters(spec, [("number", "7"), ("names", '["x"]')], {}) == defaults | {"number": 7, "names": ["x"]}
    with pytest.raises(UsageError, match="must be int, not 'many'"):
        files.parameters(spec, [("number", "many")], None)
    with pytest.raises(UsageError, match="no parameter 'size'"):
        files.parameters(spec, [("size", "1")], None)
    assert counted.take() == []
    assert files.parameters(spec, [("item", '{"name": "b"}')], None)["item"] == {"name": "b", "count": 1}
    with pytest.raises(UsageError, match="parameter 'colour' must be 'red', not 'blue'"):
        files.parameters(spec, [("colour", "blue")], None)
    assert counted.take() == ["typed.py", "typed.py"]
