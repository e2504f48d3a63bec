"""The pages name what the code has, all of it, and nothing that is gone."""

import inspect
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import taskpilot
from taskpilot import Budget, Retry, RunContext, job
from taskpilot.cli.program import COMMANDS, TOPICS
from taskpilot.config.load import OPTIONS
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.instruments import COUNTERS, DEPLOYMENT_GAUGES, GAUGES, HISTOGRAMS
from taskpilot.domain.runs import FireOutcome
from taskpilot.views.documentation import topics
from tests.unit.docs.pages import DOCS, PAGES, REPOSITORY, all_text, rows_of, text_of

METRICS = {one.name: one for one in (*COUNTERS, *HISTOGRAMS, *GAUGES, *DEPLOYMENT_GAUGES)}
CODE = re.compile(r"`([^`\n]+)`")
NOT_OURS = {"OPENAI_API_KEY", "HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"}


def options_of(function: object) -> set[str]:
    return {name for name, one in inspect.signature(function).parameters.items() if one.kind is one.KEYWORD_ONLY}  # type: ignore[arg-type]


def first_cells(topic: str) -> set[str]:
    """What the tables of a page explain: the code in the first cell of each row."""
    return {name for row in rows_of(text_of(topic)) for name in CODE.findall(row[0])}


def test_each_option_of_a_job_stands_in_a_table_and_no_other_does() -> None:
    explained = first_cells("jobs") | first_cells("schedules")
    assert options_of(job) - explained == set()
    tables = [text_of("jobs").partition("## Options of `@job`")[2].partition("\n## ")[0]]
    tables.append(text_of("schedules").partition("## Options of `@job`")[2].partition("\n| `overlap` |")[0])
    named = {name for text in tables for row in rows_of(text) for name in CODE.findall(row[0])}
    assert named - options_of(job) == set()


def test_each_limit_of_a_budget_is_explained() -> None:
    fields = set(inspect.signature(Budget).parameters)
    assert first_cells("budgets") >= fields


def test_each_part_of_the_context_is_explained_and_no_other() -> None:
    parts = {name for name in dir(RunContext) if not name.startswith("_")}
    found = {re.sub(r"^ctx\.|\(.*", "", name) for name in first_cells("jobs") if name.startswith("ctx.") or name in parts}
    assert found == parts


def test_each_setting_and_variable_is_in_the_reference_and_no_other() -> None:
    rows = rows_of(text_of("reference").partition("## Settings")[2].partition("\n## ")[0])
    variables, keys = ({name for row in rows for name in CODE.findall(row[column])} for column in (0, 1))
    assert {option.key for option in OPTIONS if option.key} == keys
    assert {option.names[-1] for option in OPTIONS if option.names} <= variables | {"OTEL_EXPORTER_OTLP_CERTIFICATE"}
    known = {name for option in OPTIONS for name in option.names} | NOT_OURS
    assert variables - known == set()


def test_each_variable_of_ours_on_any_page_exists() -> None:
    known = {name for option in OPTIONS for name in option.names}
    named = set(re.findall(r"\b(?:TASKPILOT|OTEL|OPENAI)_[A-Z_]*[A-Z]\b", all_text().replace("TASKPILOT_COMPLETE", "")))
    # The full proofs have some of their own, which the page for developers names.
    proofs = set(re.findall(r"^(TASKPILOT_\w+)=", text_of("architecture"), re.MULTILINE))
    code = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("*.py"))
    assert [name for name in proofs if f'"{name}"' not in code] == []
    assert named - known - proofs == set()


def test_each_exit_code_is_explained_and_no_other() -> None:
    table = text_of("troubleshooting").partition("| code | meaning |")[2].partition("\n\n")[0]
    assert [row[0] for row in rows_of(table)] == [str(int(code)) for code in ExitCode]


def test_each_metric_is_explained_with_its_labels_and_its_question_and_no_other() -> None:
    rows = [row for row in rows_of(text_of("observability")) if row[0].startswith("`taskpilot_")]
    assert [(row[0].strip("`"), tuple(CODE.findall(row[1])), row[2]) for row in rows] == [
        (one.name, tuple(one.labels), one.help) for one in METRICS.values()
    ]
    for name in re.findall(r"\btaskpilot_[a-z_]+\b", all_text()):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in METRICS, name


def test_each_outcome_of_a_fire_is_explained_and_no_other() -> None:
    table = text_of("schedules").partition("| outcome | meaning |")[2].partition("\n\n")[0]
    final = {str(outcome) for outcome in FireOutcome if outcome is not FireOutcome.BUFFERED}
    assert {name for row in rows_of(table) for name in CODE.findall(row[0])} == final


def test_retry_and_the_public_names_that_the_pages_use_exist() -> None:
    public = set(taskpilot.__all__)
    imported = re.findall(r"^from taskpilot import (.+)$", all_text(), re.MULTILINE)
    assert {name.strip() for line in imported for name in line.split(",")} <= public
    assert "attempts" in inspect.signature(Retry).parameters


def test_the_page_on_the_architecture_names_each_package() -> None:
    page = text_of("architecture")
    packages = {one.stem for one in (REPOSITORY / "taskpilot").iterdir() if not one.name.startswith(("_", "py.typed"))}
    assert [name for name in packages if f"`{name}/`" not in page and f"`{name}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, heading = link.partition("#")
        target = page if not file else page.parent / file
        assert target.is_file(), link
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}, link


def test_the_readme_links_to_each_page() -> None:
    linked = set(re.findall(r"\]\(taskpilot/docs/(\w+)\.md\)", PAGES[0].read_text(encoding="utf-8")))
    assert linked == {topic.name for topic in topics()}


def test_the_topics_are_those_that_were_promised() -> None:
    assert {topic.name for topic in topics()} == {
        "approvals", "architecture", "backup", "budgets", "deployment", "http", "jobs", "models", "notices", "observability", "policy",
        "reference", "schedules", "start", "testing", "troubleshooting",
    }  # fmt: skip


def test_each_topic_that_a_hint_or_a_help_page_names_exists() -> None:
    known = {topic.name for topic in topics()}
    code = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "taskpilot").rglob("*.py"))
    named = {name for name in re.findall(r"taskpilot docs ([a-z_]+)", code) if name != "topic"}
    assert {"models", "policy", "deployment", "budgets"} <= named <= known
    assert set(TOPICS.values()) <= known
    assert set(TOPICS) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_are_short_enough_to_be_read(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert [line for line in prose.splitlines() if len(line) > 145 and not line.startswith("|")] == []


@pytest.mark.parametrize("picture", sorted(DOCS.glob("*.svg")), ids=lambda path: path.name)
def test_a_drawn_picture_is_small_and_loads_nothing(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    assert len(text) < 40_000
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "url(http" not in text
    assert "@font-face" not in text
