"""`taskpilot docs`: every page, found by its topic or by a word."""

import re
from pathlib import Path

import pytest

from taskpilot.cli.program import main
from tests.terminal import on_terminal

PAGES = Path(__file__).parents[3] / "taskpilot" / "docs"


def test_the_topics_are_listed_with_their_titles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()[1:]]
    assert listed == [[page.stem, page.read_text().partition("\n")[0].removeprefix("# ")] for page in sorted(PAGES.glob("*.md"))]


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_in_a_pipe_a_page_is_its_text(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", page.stem]) == 0
    assert capsys.readouterr().out == page.read_text().expandtabs(4)


def test_on_a_terminal_a_page_is_laid_out(tmp_path: Path) -> None:
    shown = on_terminal(tmp_path, "docs", "schedules", columns=80)
    assert shown.code == 0
    assert "## Daylight" not in shown.text
    assert "Daylight saving time" in shown.text
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in shown.text.splitlines()) <= 80


def test_a_word_is_found_with_its_topic_and_heading(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", "--find", "DAYLIGHT saving"]) == 0
    found = capsys.readouterr().out
    assert "schedules, Daylight saving time: ## Daylight saving time" in found.splitlines()
    assert "\narchitecture, " in f"\n{found}"
    assert main(["docs", "schedules", "--find", "daylight saving"]) == 0
    assert {line.partition(",")[0] for line in capsys.readouterr().out.splitlines()} == {"schedules"}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["polici"], "did you mean policy?"),
        (["zzz"], "there are approvals, architecture, "),
        (["../jobs"], "there is no topic"),
        (["--find", "no such word anywhere"], "no page holds"),
        (["--find", " "], "no page holds"),
    ],
)
def test_what_is_not_there_is_a_usage_error_that_helps(typed: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs", *typed]) == 2
    assert said in capsys.readouterr().err
