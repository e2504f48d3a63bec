"""The lines of a crontab that start taskpilot, as cron and its shell would read them."""

from pathlib import Path

import pytest

from taskpilot.diagnostics.cron import Line, taskpilot_lines


def read(text: str) -> Line:
    (line,) = taskpilot_lines(text, home="/home/me")
    return line


def test_the_line_of_crontab_example_is_read_whole() -> None:
    line = read((Path(__file__).parents[3] / "crontab.example").read_text(encoding="utf-8"))
    assert line.program == "/home/me/taskpilot/.venv/bin/taskpilot"
    assert (line.root, line.job) == ("/home/me/taskpilot", "triage")
    assert (line.option("--scheduled-for"), line.option("--quiet"), line.reads_a_file) == ("auto", "", False)
    assert not line.bare_percent


@pytest.mark.parametrize(
    ("command", "program", "job"),
    [
        ("taskpilot run good", "taskpilot", "good"),
        ("~/bin/taskpilot run good", "/home/me/bin/taskpilot", "good"),
        ("$HOME/bin/taskpilot run good", "/home/me/bin/taskpilot", "good"),
        ("python3 -m taskpilot run good", "python3", "good"),
        ("cd /srv/taskpilot && ./taskpilot run good", "./taskpilot", "good"),
        ("MODEL=x taskpilot run good > /dev/null", "taskpilot", "good"),
        ("(taskpilot run good) 2>&1", "taskpilot", "good"),
        ("taskpilot housekeeping-not-a-verb", "taskpilot", None),
        ("taskpilot run 'good", "taskpilot", "'good"),
    ],
)
@pytest.mark.parametrize("when", ["0 7 * * 1-5", "@daily"])
def test_what_starts_it(when: str, command: str, program: str, job: str | None) -> None:
    line = read(f"{when} {command}\n")
    assert (line.program, line.job) == (program, job)


@pytest.mark.parametrize(
    "text", ["", "# 0 7 * * * taskpilot run x", "0 7 * * * cd /srv/taskpilot; ls", "0 7 * *", "PATH=/taskpilot", "@daily"]
)
def test_what_does_not(text: str) -> None:
    assert taskpilot_lines(text, home=None) == []


def test_options_are_read_in_both_spellings() -> None:
    line = read("@daily taskpilot --root=/srv/a run good --scheduled-for auto | tee log --quiet")
    assert (line.root, line.option("--scheduled-for"), line.option("--quiet")) == ("/srv/a", "auto", None)


@pytest.mark.parametrize(("text", "bare"), [("date +%F", True), (r"date +\%F", False)])
def test_a_percent_is_bare_without_its_backslash(text: str, bare: bool) -> None:
    assert read(f"@daily taskpilot run good -p day=$({text}) --quiet").bare_percent is bare
    assert read(f"@daily taskpilot run good -p day=$({text}) --quiet").option("--quiet") == ""


def test_a_variable_holds_for_the_lines_below_it() -> None:
    before, after = taskpilot_lines("@daily taskpilot run a\nTASKPILOT_MODEL='offline'\n@daily taskpilot run b\n", home=None)
    assert (dict(before.variables), dict(after.variables)) == ({}, {"TASKPILOT_MODEL": "offline"})
