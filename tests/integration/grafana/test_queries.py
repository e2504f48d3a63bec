"""Every query of every dashboard and rule, asked of a real Prometheus after a night of real runs."""

from collections.abc import Iterator
from html import escape
from typing import Any, Final
from urllib.error import HTTPError

import pytest

from tests.integration.grafana.panels import Query, dashboards, panels, queries, rules
from tests.integration.grafana.pictures import page
from tests.integration.grafana.story import Story, told

pytestmark = pytest.mark.slow

MAY_BE_EMPTY: Final = {
    # Nothing is overdue, and nobody scrapes the server itself.
    ("Overdue and paused", "A"),
    ("Memory of taskpilot serve", "A"),
    # One call had no known price: what a success costs is then not known of all jobs together.
    ("Cost of a success", "A"),
}
HANDLED: Final = 2 * (0.00202 + 0.0010875 + 0.00162 + 0.0011425)
"""USD of two runs of `handles`: plan, review, call and finish, at the prices of gpt-4o for the tokens of `openai_answers`."""
WRITTEN: Final = 0.0011425
GOLDEN: Final[dict[tuple[str, str, str], float | dict[str, float]]] = {
    ("run_history.json", "Jobs that stand badly", "A"): 3,
    ("run_history.json", "Runs ended", "A"): 8,
    ("run_history.json", "Success rate", "A"): 5 / 8,
    ("run_history.json", "Fires that did not run", "A"): 0,
    ("run_history.json", "At work now", "A"): 0,
    ("run_history.json", "Waiting for a person", "A"): 0,
    ("run_history.json", "Last run of each job", "D"): {
        "asks": 0, "breaks": 1, "forbidden": 14, "handles": 0, "leap": 0, "local": 0, "writes": 12,
    },
    ("run_history.json", "Last run of each job", "H"): {"leap": 1_709_164_800_000},
    ("run_history.json", "Starts for each run", "A"): {
        "asks": 2, "breaks": 1, "forbidden": 1, "handles": 1, "leap": 1, "local": 1, "writes": 1,
    },
    ("golden_signals.json", "Success rate", "A"): 5 / 8,
    ("golden_signals.json", "Policy violations", "A"): 1 / 4,
    ("golden_signals.json", "Confirmed correct", "A"): 3 / 4,
    ("golden_signals.json", "The five figures of each job", "C"): {"handles": HANDLED / 2},
    ("golden_signals.json", "The five figures of each job", "D"): {"asks": 0, "forbidden": 1, "handles": 0},
    ("tokens_and_cost.json", "Cost", "A"): HANDLED + WRITTEN,
    ("tokens_and_cost.json", "Input tokens", "A"): 2 * (1_200 + 431 + 612 + 677) + 677 + 677,
    ("tokens_and_cost.json", "From the cache", "A"): (2 * (1_024 + 128 + 256 + 512) + 512 + 512) / (2 * 2_920 + 1_354),
    ("tokens_and_cost.json", "Output tokens", "A"): 2 * (30 + 17 + 41 + 9) + 9 + 9,
    ("tokens_and_cost.json", "Calls without a price", "A"): 1,
    ("tokens_and_cost.json", "Stopped by a budget", "A"): {
        "asks": 0, "breaks": 0, "forbidden": 0, "handles": 0, "leap": 0, "local": 0, "writes": 1,
    },
    ("policy.json", "Decisions", "A"): 4,
    ("policy.json", "Denied", "A"): 1,
    ("policy.json", "Violation rate", "A"): 1 / 4,
    ("policy.json", "Answered", "A"): 1,
    ("policy.json", "Approved by people", "A"): 1,
    ("health.json", "Gateway", "A"): 1,
    ("health.json", "Refused pushes", "A"): 0,
    ("health.json", "Overdue and paused", "B"): {"leap": 1},
}  # fmt: skip
"""Figures by file, panel and query: one number, or one for each job."""
BARS: Final = {
    ("Runs by how they ended", "succeeded"): 5,
    ("Runs by how they ended", "failed"): 1,
    ("Runs by how they ended", "denied"): 1,
    ("Runs by how they ended", "budget_exceeded"): 1,
    ("What became of fires", "started"): 1,
    ("Cost by job", "handles"): HANDLED,
    ("Cost by model", "gpt-4o"): HANDLED + WRITTEN,
    ("Cost by agent", "planner"): 2 * 0.00202,
    # Nobody knew this agent before it spoke: a label set that was born within the night.
    ("Cost by agent", "writer"): WRITTEN,
    ("Tokens by kind", "input"): 7_194 - 4_864,
    ("Tokens by kind", "input from the cache"): 4_864,
    ("Tokens by kind", "output"): 212,
    ("LLM calls", "succeeded"): 10,
    ("Retries", "rate_limit"): 1,
    ("Verdicts", "allow"): 2,
    ("Verdicts", "require_approval"): 1,
    ("Denied calls by job", "forbidden"): 1,
    ("Answers", "approved"): 1,
    ("Feedback on results", "correct"): 3,
    ("Tasks filed and failed", "executed"): 2,
}
"""The sum of a series of bars."""
ALL: Final = queries()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    with told(tmp_path_factory.mktemp("night")) as night:
        yield night


def find(file: str, panel: str, ref: str = "A") -> Query:
    [query] = [one for one in ALL if (one.dashboard, one.panel, one.ref) == (file, panel, ref)]
    return query


def by_job(answer: list[dict[str, Any]]) -> dict[str, float]:
    return {one["metric"]["job_name"]: float(one["value"][1]) for one in answer}


def test_no_query_fails_and_none_is_empty_where_there_is_something_to_show(story: Story) -> None:
    empty = [query.place for query in ALL if not story.answer(query) and (query.panel, query.ref) not in MAY_BE_EMPTY]
    assert empty == []


def test_every_figure_is_exact(story: Story) -> None:
    wrong = {}
    for place, expected in GOLDEN.items():
        answer = story.answer(find(*place))
        found = by_job(answer) if isinstance(expected, dict) else float(answer[0]["value"][1]) if len(answer) == 1 else answer
        if found != pytest.approx(expected, abs=1e-12):
            wrong[place] = (found, expected)
    assert wrong == {}


def test_bars_add_up_to_what_happened(story: Story) -> None:
    sums: dict[tuple[str, str], float] = {}
    for query in ALL:
        if not query.instant and "$__interval" in query.text:
            for one in story.answer(query):
                name = next(iter(one["metric"].values()), query.legend)
                sums[query.panel, name] = sum(float(value) for _, value in one["values"])
    assert {bar: sums.get(bar) for bar in BARS} == pytest.approx(BARS, abs=1e-12)


def test_what_was_before_the_time_range_is_not_in_it(story: Story) -> None:
    for place in (("run_history.json", "Runs ended"), ("tokens_and_cost.json", "Cost"), ("policy.json", "Denied")):
        [one] = story.answer(find(*place), seconds=30, later=60)
        assert float(one["value"][1]) == 0, place
    assert story.answer(find("run_history.json", "Success rate"), seconds=30, later=60) == []
    assert story.answer(find("golden_signals.json", "Confirmed correct"), seconds=30, later=60) == []


def test_a_chosen_job_is_shown_alone(story: Story) -> None:
    cost = story.answer(find("golden_signals.json", "Cost of a success"), job="handles")
    assert [float(one["value"][1]) for one in cost] == [pytest.approx(HANDLED / 2, abs=1e-12)]
    assert by_job(story.answer(find("run_history.json", "Success rate by job"), job="handles|breaks")) == {"handles": 1, "breaks": 0}
    assert story.answer(find("run_history.json", "Runs ended"), job="nobody") == []


def test_the_timeline_ends_with_how_each_job_stands(story: Story) -> None:
    rows = story.answer(find("run_history.json", "How each job stands"))
    codes = {one["metric"]["job_name"]: float(one["values"][-1][1]) for one in rows}
    assert codes == {"asks": 1, "breaks": 8, "forbidden": 4, "handles": 1, "leap": 1, "local": 1, "writes": 5}


def test_what_is_not_known_has_no_figure(story: Story) -> None:
    assert "local" not in by_job(story.answer(find("run_history.json", "Last run of each job", "F")))
    assert set(by_job(story.answer(find("run_history.json", "Next fires")))) == {"leap"}


def test_an_alert_that_rings_is_shown(story: Story) -> None:
    rows = story.answer(find("health.json", "Alerts that ring"))
    ringing = {(one["metric"]["alertname"], one["metric"]["job_name"]) for one in rows if "job_name" in one["metric"]}
    assert ringing >= {("TaskPilotLastRunFailed", job) for job in ("breaks", "forbidden", "writes")}


def test_no_rule_fails(story: Story) -> None:
    failed = {}
    assert rules()
    for name, text in rules().items():
        try:
            story.prometheus.query(text)
        except HTTPError as error:
            failed[name] = error.read().decode()
            error.close()
    assert failed == {}


def test_every_dashboard_can_be_drawn(story: Story) -> None:
    for file, dashboard in dashboards().items():
        drawn, _height = page(file, dashboard, lambda query, step: story.answer(query, step=step), start=story.began, end=story.ended)
        assert all(escape(panel["title"]) in drawn for panel in panels(dashboard))
