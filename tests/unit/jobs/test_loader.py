"""A folder of job files: the good ones are read, the broken ones are named, whatever they do."""

import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from taskpilot.domain.errors import ConfigurationError, Terminated, UsageError
from taskpilot.jobs.loader import load_spec
from tests.errors import saying
from tests.loading import job_with_functions, read_folder

WriteJob = Callable[[str, str], Path]

GOOD = """
    from taskpilot.schedules.schedule import cron
    from taskpilot.jobs.decorator import job

    @job(schedule=cron("@daily"))
    def {name}(ctx, inbox: str = "inbox.jsonl"):
        "Does something good."
        return inbox
    """

TOOL_WITHOUT_DOCSTRING = """
from taskpilot.jobs.decorator import job
from taskpilot.tools.decorator import tool

@tool
def bare(x: int) -> int: ...

@job(tools=[bare])
def broken(ctx): ...
"""


def good(name: str) -> str:
    return GOOD.format(name=name)


def test_every_job_is_known_with_its_file_and_its_digest(folder: Path, write: WriteJob) -> None:
    path = write("triage.py", good("triage"))
    write("digest.py", good("digest"))
    catalog = read_folder(folder)
    assert list(catalog.jobs) == ["digest", "triage"]
    spec = catalog.get("triage")
    assert (spec.file, spec.file_digest) == (path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert spec.description == "Does something good."
    assert (spec.is_data, spec.line) == (True, 5)
    assert job_with_functions(folder, "triage").function(None) == "inbox.jsonl"
    assert catalog.broken == ()


@pytest.mark.parametrize(
    ("text", "line", "cause"),
    [
        ("x = 1\ndef broken(:\n", 2, "SyntaxError: invalid syntax"),
        ("x = 1\n\nimport no_such_module_at_all\n", 3, "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("\nimport sys\nsys.exit(3)\n", 3, "SystemExit: the file calls exit when it is loaded (code 3)"),
        ("raise GeneratorExit('x')\n", 1, "GeneratorExit: x"),
        ("1/0\n", 1, "ZeroDivisionError: division by zero"),
        ("raise ValueError('a\\x1b[31m\\nb')\n", 1, "ValueError: a\\x1b[31m b"),
        ("from taskpilot.schedules.schedule import cron\ncron('61 * * * *')\n", 2, "cron: '61 * * * *': '61' is not a minute"),
        ("\x00", None, None),
        ("def f():\n    f()\nf()\n", 2, None),
        ("class E(Exception):\n    def __str__(self):\n        1/0\n\nraise E\n", 5, "E: an error that cannot be shown"),
        (
            "from taskpilot.jobs.decorator import job\n@job(jitter='soon')\ndef broken(ctx): ...\n",
            2,
            "job 'broken': jitter: 'soon' is not a duration",
        ),
        (
            TOOL_WITHOUT_DOCSTRING,
            5,
            "the tool bare has no docstring",
        ),
    ],
)
def test_a_broken_file_is_named_by_line_and_cause_and_hides_no_other(
    folder: Path, write: WriteJob, text: str, line: int | None, cause: str | None
) -> None:
    path = folder / "broken.py"
    path.write_text(text)
    write("triage.py", good("triage"))
    catalog = read_folder(folder)
    assert list(catalog.jobs) == ["triage"]
    (broken,) = catalog.broken
    assert broken.path == path
    assert line is None or broken.line == line
    assert cause is None or broken.cause.startswith(cause)
    assert "\n" not in str(broken)
    assert str(broken).startswith(f"{path}")
    assert "taskpilot_jobs.broken" not in sys.modules


def test_an_unreadable_encoding_and_a_dangling_link_are_broken_files(folder: Path, write: WriteJob) -> None:
    (folder / "latin.py").write_bytes(b"x = '\xe4'\n")
    (folder / "gone.py").symlink_to("nowhere.py")
    write("triage.py", good("triage"))
    catalog = read_folder(folder)
    assert [broken.path.name for broken in catalog.broken] == ["gone.py", "latin.py"]
    assert list(catalog.jobs) == ["triage"]


@pytest.mark.parametrize("error", ["KeyboardInterrupt()", "Terminated()"])
def test_a_person_and_the_supervisor_can_stop_the_import_in_a_run(folder: Path, write: WriteJob, error: str) -> None:
    path = write("slow.py", good("slow"))
    spec = read_folder(folder).get("slow")
    path.write_text(f"from taskpilot.domain.errors import Terminated\nraise {error}\n")
    with pytest.raises((KeyboardInterrupt, Terminated)):
        load_spec(spec, folder)


def test_a_run_whose_file_has_changed_uses_its_own_definition_or_says_what_is_wrong(folder: Path, write: WriteJob) -> None:
    path = write("triage.py", good("triage"))
    spec = read_folder(folder).get("triage")
    write("triage.py", good("triage").replace('"Does something good."', '"Does something better."'))
    assert load_spec(spec, folder).description == "Does something better."
    path.write_text("1/0\n")
    with pytest.raises(ConfigurationError, match=r"job 'triage' cannot be loaded: .*triage.py:1: ZeroDivisionError"):
        load_spec(spec, folder)
    path.write_text("")
    with pytest.raises(ConfigurationError, match="does not define the job 'triage' any more"):
        load_spec(spec, folder)


def test_two_files_that_define_one_name_are_both_refused(folder: Path, write: WriteJob) -> None:
    first = write("a.py", good("triage"))
    second = write("b.py", good("triage") + good("only_here"))
    catalog = read_folder(folder)
    assert list(catalog.jobs) == ["only_here"]
    assert [(broken.path, broken.line) for broken in catalog.broken] == [(first, 5), (second, 5)]
    assert str(second) in catalog.broken[0].cause
    assert str(first) in catalog.broken[1].cause
    with pytest.raises(ConfigurationError, match="also defined in"):
        catalog.get("triage")


def test_one_file_with_two_jobs_of_one_name_is_broken(folder: Path, write: WriteJob) -> None:
    write("a.py", good("triage") + '\n    @job(name="triage")\n    def other(ctx): ...\n')
    (broken,) = read_folder(folder).broken
    assert broken.cause == "two jobs of this file have the name 'triage'"


def test_a_job_under_two_variables_and_an_imported_job_count_once(folder: Path, write: WriteJob) -> None:
    write("a.py", good("triage") + "\n    alias = triage\n")
    write("b.py", "from taskpilot_jobs.a import triage\nfrom .a import triage as again\n")
    catalog = read_folder(folder)
    assert list(catalog.jobs) == ["triage"]
    assert catalog.broken == ()


def test_helpers_begin_with_an_underscore_and_can_be_imported_in_both_ways(folder: Path, write: WriteJob) -> None:
    write("_shared.py", "VALUE = 5\n")
    write("a.py", "from _shared import VALUE\nfrom ._shared import VALUE as same\n" + good("triage").replace("\n    ", "\n"))
    (folder.parent / "project_code_beside_jobs.py").write_text("VALUE = 6\n")
    write("b.py", "from project_code_beside_jobs import VALUE\n")
    catalog = read_folder(folder)
    assert catalog.broken == ()
    assert job_with_functions(folder, "triage").function.__globals__["VALUE"] == 5


def test_a_job_file_cannot_take_the_place_of_a_library(folder: Path, write: WriteJob) -> None:
    write("colorsys.py", good("triage"))
    read_folder(folder)
    import colorsys

    assert not hasattr(colorsys, "triage")


def test_a_changed_file_and_its_helper_are_read_anew(folder: Path, write: WriteJob) -> None:
    for value in ("1", "2"):
        # Where Python keeps bytecode, it knows a changed helper by its size and the second of its change.
        os.utime(write("_shared.py", f"VALUE = {value}\n"), (int(value), int(value)))
        write("a.py", "from _shared import VALUE\n" + good("triage").replace("\n    ", "\n"))
        assert str(job_with_functions(folder, "triage").function.__globals__["VALUE"]) == value
        assert not (folder / "__pycache__" / "a.cpython-311.pyc").exists()


def test_what_a_job_defines_can_be_pickled(folder: Path, write: WriteJob) -> None:
    write("a.py", "class Item: ...\nitem = Item()\n" + good("a").replace("\n    ", "\n"))
    job_with_functions(folder, "a")
    item = sys.modules["taskpilot_jobs.a"].__dict__["item"]
    assert type(pickle.loads(pickle.dumps(item))) is type(item)


def test_a_file_with_no_job_and_what_is_no_job_file_is_no_error(folder: Path, write: WriteJob) -> None:
    write("empty.py", "")
    write("_broken.py", "def :")
    write(".hidden.py", "def :")
    write("notes.txt", "def :")
    (folder / "folder.py").mkdir()
    catalog = read_folder(folder)
    assert (dict(catalog.jobs), catalog.broken) == ({}, ())


def test_a_missing_folder_is_a_configuration_error(tmp_path: Path) -> None:
    for path in (tmp_path / "jobs", tmp_path / "file"):
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="no folder"):
            read_folder(path)


def test_a_file_that_others_can_write_to_is_not_run(folder: Path, write: WriteJob) -> None:
    path = write("open.py", "raise SystemError('this was run')\n")
    path.chmod(0o666)
    write("triage.py", good("triage"))
    catalog = read_folder(folder)
    assert list(catalog.jobs) == ["triage"]
    assert "chmod o-w" in catalog.broken[0].cause
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, check=saying("chmod o-w")):
        read_folder(folder)


def test_an_unknown_job_is_a_usage_error_that_names_close_ones(folder: Path, write: WriteJob) -> None:
    write("triage.py", good("triage"))
    with pytest.raises(UsageError, check=saying(r"unknown job 'triag'; did you mean triage\?")):
        read_folder(folder).get("triag")
    with pytest.raises(UsageError, check=saying(r"unknown job 'zzz'; there are triage")):
        read_folder(folder).get("zzz")
    with pytest.raises(UsageError, match=r"unknown job '\\x1b\[31m'"):
        read_folder(folder).get("\x1b[31m")


def test_in_a_folder_without_jobs_the_unknown_job_is_told_so(folder: Path) -> None:
    with pytest.raises(UsageError, check=saying("defines no job")):
        read_folder(folder).get("triage")


@pytest.mark.parametrize(
    "text",
    ["def triage(ctx): (", "@job(name='triage')\ndef other(ctx): (", "class X:\n    def triage (self): ("],
    ids=["def", "name", "indented"],
)
def test_a_job_of_a_broken_file_is_a_configuration_error(folder: Path, write: WriteJob, text: str) -> None:
    path = write("nightly.py", text)
    catalog = read_folder(folder)
    for name in ("triage", "nightly"):
        with pytest.raises(ConfigurationError, match=f"job '{name}' cannot be loaded: {path}"):
            catalog.get(name)
    with pytest.raises(UsageError, match=r"unknown job 'digest'.*1 file\(s\) could not be loaded"):
        catalog.get("digest")
