"""The default policy: what the contract promises, call by call."""

from typing import Any

import pytest

from taskpilot.domain.decisions import PolicyInput, PolicyResult, Verdict
from taskpilot.policy import RegoPolicy, check_policies

ALLOW, DENY, APPROVAL = Verdict.ALLOW, Verdict.DENY, Verdict.REQUIRE_APPROVAL


def ask(tool: str, arguments: dict[str, Any], *, agent: str = "executor", job_tools: tuple[str, ...] = ()) -> PolicyResult:
    return RegoPolicy().decide(PolicyInput(tool=tool, arguments=arguments, agent=agent, job="triage", run_id="r1", job_tools=job_tools))


def task(title: Any = "Renew the certificate", priority: Any = "high", **more: Any) -> dict[str, Any]:
    return {"title": title, "priority": priority, **more}


@pytest.mark.parametrize(
    ("agent", "verdict"),
    [("planner", ALLOW), ("executor", ALLOW), ("job", ALLOW), ("reviewer", DENY), ("summarizer", DENY), ("Executor", DENY)],
)
def test_tasks_are_filed_by_planner_executor_and_job_only(agent: str, verdict: Verdict) -> None:
    assert ask("create_task", task(), agent=agent).verdict is verdict


@pytest.mark.parametrize(
    ("title", "verdict"),
    [
        ("x", ALLOW),
        ("x" * 500, ALLOW),
        (" " * 9 + "é" * 500 + "\n", ALLOW),
        ("x" * 501, DENY),
        ("", DENY),
        (" \t\u3000\n", DENY),
        ("\u200b\u2060", DENY),
        (None, DENY),
        (7, DENY),
        (["x"], DENY),
        ({"a": "x"}, DENY),
        (True, DENY),
    ],
)
def test_a_title_has_1_to_500_characters_that_one_can_see(title: Any, verdict: Verdict) -> None:
    assert ask("create_task", task(title)).verdict is verdict


@pytest.mark.parametrize("priority", ["urgent", "", "HIGH", "high ", "high\u200b", None, 1, ["high"], {"high": True}])
def test_another_priority_is_denied_with_a_reason(priority: Any) -> None:
    result = ask("create_task", task(priority=priority))
    assert (result.verdict, result.reasons) == (DENY, ("the priority must be high, medium or low",))


def test_missing_arguments_are_denied() -> None:
    assert ask("create_task", {}).verdict is DENY
    assert ask("notify", {}).verdict is DENY


@pytest.mark.parametrize(
    "word",
    [
        "sensitive",
        "SENSITIVE",
        "Sensitive-data",
        "\uff53\uff45\uff4e\uff53\uff49\uff54\uff49\uff56\uff45",
        "sen\u200bsitive",
        "\U0001d412\U0001d41e\U0001d427\U0001d42c\U0001d422\U0001d42d\U0001d422\U0001d42f\U0001d41e",
        "sénsitive",
        "SENSİTİVE",
    ],
)
def test_a_sensitive_task_of_high_priority_waits_for_a_person(word: str) -> None:
    result = ask("create_task", task(f"Move {word} records", "high"))
    assert result.verdict is APPROVAL
    assert "approval" in result.reasons[0]
    assert ask("create_task", task(f"Move {word} records", "medium")).verdict is ALLOW


def test_approval_is_no_way_around_a_denial() -> None:
    assert ask("create_task", task("sensitive" + "x" * 500, "high")).verdict is DENY
    assert ask("create_task", task("sensitive records", "high"), agent="reviewer").verdict is DENY


@pytest.mark.parametrize(("agent", "verdict"), [("executor", ALLOW), ("job", ALLOW), ("planner", DENY), ("reviewer", DENY)])
def test_messages_are_sent_by_executor_and_job_only(agent: str, verdict: Verdict) -> None:
    assert ask("notify", {"channel": "ops", "message": "done"}, agent=agent).verdict is verdict


@pytest.mark.parametrize(
    "message",
    [
        "delete",
        "Please DELETE it",
        "call delete_task now",
        "x;delete,y",
        "\uff44\uff45\uff4c\uff45\uff54\uff45",
        "de\u200blete",
        "de\u0301lete",
        "de\xadlete",
        "now\ndelete",
        "now\u200bdelete all",
        "\U0001d485\U0001d486\U0001d48d\U0001d486\U0001d495\U0001d486",
        "DELETE\u202e",
    ],
)
def test_a_message_with_the_word_delete_is_denied_however_it_is_spelt(message: str) -> None:
    result = ask("notify", {"channel": "ops", "message": message})
    assert (result.verdict, result.reasons, result.error) == (DENY, ("the message says delete",), None)


@pytest.mark.parametrize("message", ["undeleted", "deleterious news", "The certificate is renewed", "", "NOT APPROVED"])
def test_a_message_without_the_word_is_allowed(message: str) -> None:
    assert ask("notify", {"channel": "ops", "message": message}).verdict is ALLOW


@pytest.mark.parametrize("agent", ["planner", "reviewer", "executor", "job", "summarizer"])
def test_delete_task_is_never_allowed(agent: str) -> None:
    assert ask("delete_task", {"id": "1"}, agent=agent, job_tools=("delete_task",)).verdict is DENY


@pytest.mark.parametrize(
    ("agent", "verdict"), [("executor", ALLOW), ("job", ALLOW), ("planner", ALLOW), ("summarizer", ALLOW), ("reviewer", DENY)]
)
def test_a_jobs_own_tools_are_allowed_where_the_job_lists_them(agent: str, verdict: Verdict) -> None:
    assert ask("open_ticket", {}, agent=agent, job_tools=("close_ticket", "open_ticket")).verdict is verdict
    assert ask("open_ticket", {}, agent=agent, job_tools=("close_ticket",)).verdict is DENY


def test_listing_a_built_in_tool_loosens_nothing() -> None:
    assert ask("create_task", task(priority="urgent"), job_tools=("create_task",)).verdict is DENY
    assert ask("notify", {"channel": "ops", "message": "hi"}, agent="planner", job_tools=("notify",)).verdict is DENY


def test_what_no_rule_allows_is_denied_and_says_so() -> None:
    result = ask("run_shell", {"command": "ls"})
    assert (result.verdict, result.reasons, result.error) == (DENY, ("no rule allows it",), None)
    assert (result.engine, result.path) == ("regorus", "taskpilot/tools")
    assert result.evaluation_nanoseconds > 0


def test_the_shipped_fixtures_come_out_as_expected() -> None:
    report = check_policies(RegoPolicy())
    assert [result for result in report.fixtures if result.differs or result.error] == []
    assert report.ok
    assert {result.got for result in report.fixtures} == set(Verdict)
