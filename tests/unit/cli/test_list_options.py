"""Options of lists: by time, by several states, in UTC or local time; and answers to several questions at once."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot.cli import answers, formatting
from taskpilot.domain.runs import LeaseGrant, Owner, RunStatus
from taskpilot.domain.tasks import TaskStatus
from taskpilot.domain.times import boot_time, to_micros, utc_now
from taskpilot.store import runs
from taskpilot.store.database import Store
from tests import records
from tests.terminal import on_terminal


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_runs_are_listed_by_time_and_by_several_states(cli: Callable[..., Any], store: Store) -> None:
    now = utc_now()
    made = to_micros(now - timedelta(hours=2))
    old = records.add_run(store, created_at=made, started_at=made)
    late = records.add_run(store, status=RunStatus.FAILED, created_at=to_micros(now))
    lost = records.add_run(store, status=RunStatus.LOST, created_at=to_micros(now))

    def ids(*arguments: str) -> list[str]:
        return [row["run_id"] for row in cli("runs", *arguments, "--json").json]

    assert ids("--since", "1h") == records.newest_first([late, lost])
    assert ids("--until", "1h", "--since", "12h") == [old]
    assert ids("--status", "failed,lost") == records.newest_first([late, lost])
    assert ids("--status", "failed,lost", "--status", "succeeded", "--since", "1h", "--job", "triage") == records.newest_first([late, lost])
    refused = cli("runs", "--status", "failed,done")
    assert (refused.code, "'done' is not one of queued, running" in refused.err) == (2, True)
    refused = cli("runs", "--since", "soon")
    assert (refused.code, "write it like 18:00, 12h, yesterday" in refused.err) == (2, True)


def test_every_command_takes_the_end_of_an_id_and_last(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store)
    task_id, decision_id = records.add_task(store, run_id), records.add_decision(store, run_id)
    for name in (run_id[-8:], "last", "triage:last", run_id):
        assert cli("runs", "show", name, "--json").json["run_id"] == run_id
        assert cli("runs", "logs", name).code == 0
        assert cli("traces", "show", name).code == 0
        assert [one["task_id"] for one in cli("tasks", "--run", name, "--json").json] == [task_id]
        assert [one["decision_id"] for one in cli("decisions", "--run", name, "--json").json] == [decision_id]
    assert cli("tasks", "show", task_id[-8:], "--json").json["task_id"] == task_id
    assert cli("decisions", "show", "last", "--json").json["decision_id"] == decision_id
    assert cli("runs", "feedback", run_id[-8:], "--correct").code == 0
    assert cli("runs", "show", "00000000").code == 2


def test_a_running_run_has_the_duration_until_now(cli: Callable[..., Any], store: Store) -> None:
    now = boot_time()
    run_id = records.add_run(store, status=RunStatus.RUNNING, ended_at=None, active_micros=5_000_000)
    for expires, boot_id, least, most in (
        (now + timedelta(seconds=20), now.boot_id, 15, 35),
        (now + timedelta(hours=-1), now.boot_id, 35, 35),
        (now + timedelta(seconds=20), "another boot", 5, 5),
    ):
        grant = LeaseGrant(run_id=run_id, attempt_id="first", attempt=1, token="t", expires_at=expires)
        with store.write() as connection:
            runs.grant_lease(connection, grant, Owner(host="here", boot_id=boot_id, pid=1, process_start=1))
        (listed,) = cli("runs", "--json").json
        # Renewed 10 s ago with a lease of 30 s; or not renewed in time; or by a machine whose clock cannot be compared.
        assert least <= listed["duration_seconds"] <= most
        assert least <= cli("runs", "show", "last", "--json").json["duration_seconds"] <= most


def test_times_are_local_and_relative_on_a_terminal_and_utc_in_a_pipe(cli: Callable[..., Any], store: Store, root: Path) -> None:
    made = to_micros(utc_now() - timedelta(minutes=5, seconds=1))
    records.add_run(store, created_at=made, started_at=made)
    started = cli("runs", "--json").json[0]["started_at"]
    assert f"{started[:10]} {started[11:19]}Z" in cli("runs").out
    assert "5 min ago" in on_terminal(root, "runs", TZ="Asia/Tokyo").text
    assert f"{started[:10]} {started[11:19]}Z" in on_terminal(root, "runs", "--utc", TZ="Asia/Tokyo").text
    assert " JST" in on_terminal(root, "runs", "show", "last", TZ="Asia/Tokyo").text


def test_moments_of_lists_say_how_long_ago(tokyo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formatting, "_in_utc", lambda: False)
    at = records.NOON
    for ago, narrow, wide in (
        (timedelta(seconds=12), "12 s ago", "12 s ago"),
        (timedelta(minutes=59), "59 min ago", "59 min ago"),
        (timedelta(hours=3), "3 h ago", "21:00, 3 h ago"),
        (timedelta(days=2), "Nov 23 21:00", "Nov 23 21:00"),
        (timedelta(days=60), "2026-11-23", "2026-11-23"),
        (timedelta(hours=-1), "Nov 23 21:00", "Nov 23 21:00"),
    ):
        for columns, expected in ((80, narrow), (200, wide)):
            monkeypatch.setattr(formatting, "width_of", lambda _stream, columns=columns: columns)
            assert formatting.listed(at, at + ago) == expected


def test_money_of_lists_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = [formatting.short_usd(nano) for nano in (None, 0, 9_000, 2_020_000, 999_900_000, 12_500_000_000, 1_234_567_000_000)]
    assert shown == ["unpriced", "$0", "<$0.0001", "$0.0020", "$0.9999", "$12.50", "$1,234.57"]


def test_several_questions_are_answered_at_once_and_a_refused_one_stops_no_other(cli: Callable[..., Any], store: Store) -> None:
    run_id = records.add_run(store, status=RunStatus.WAITING)
    one, two, three = (records.add_task(store, run_id, status=TaskStatus.REVIEW) for _ in range(3))
    done = records.add_task(store, run_id, status=TaskStatus.EXECUTED)
    said = cli("tasks", "approve", one[-8:], done, two)
    assert said.code == 2
    assert [one["status"] for one in cli("tasks", "--json", "--status", "approved").json] == ["approved", "approved"]
    assert said.out.count(f"taskpilot runs resume {run_id}") == 1
    assert done in said.err
    assert cli("tasks", "approve").code == 2
    assert cli("tasks", "reject", "--all", three).code == 2


def test_all_asks_first_and_only_on_a_terminal(cli: Callable[..., Any], store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = records.add_run(store, status=RunStatus.WAITING)
    asked = [records.add_decision(store, run_id) for _ in range(3)]
    refused = cli("decisions", "approve", "--all")
    assert (refused.code, "needs a terminal" in refused.err) == (2, True)

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(answers.sys, "stdin", Terminal())
    questions: list[str] = []

    def answered(question: str, **_options: Any) -> None:
        questions.append(question)

    monkeypatch.setattr(answers.click, "confirm", answered)
    said = cli("decisions", "reject", "--all")
    assert said.code == 0
    assert questions == ["Reject 3 decisions?"]
    assert all(f"{one[-8:]}  create_task" in said.out for one in asked)
    assert len(cli("decisions", "--status", "rejected", "--json").json) == 3
    assert "no decision waits for you" in cli("decisions", "reject", "--all").err


def test_tasks_are_exported_to_the_named_file(cli: Callable[..., Any], store: Store, root: Path) -> None:
    task = records.add_task(store, records.add_run(store))
    assert cli("tasks", "export", "out.json").code == 0
    assert [one["task_id"] for one in json.loads((root / "out.json").read_text())] == [task]
    assert cli("tasks", "export", "out.json", "--output", "other.json").code == 2
