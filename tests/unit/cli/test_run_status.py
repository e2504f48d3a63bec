"""`health`, `golden-signals`, `why`, and the pause of a job, as a person types them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.times import to_micros, utc_now
from taskpilot.store.connections import FILE
from taskpilot.store.database import Store
from tests import records


def test_health_without_a_store_says_so_and_makes_none(cli: Callable[..., Any], root: Path) -> None:
    said = cli("health")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[0].split() == ["health", "pass"]
    assert said.out.count("yet: no job has run") == 1
    assert cli("health", "--json").json["checks"]["store"]["status"] == "unknown"
    for command in (("golden-signals",), ("why", "triage"), ("jobs", "list"), ("jobs", "show", "triage")):
        assert cli(*command).code == 0
    assert not (root / ".taskpilot").exists()


def test_a_state_folder_that_can_never_exist_fails_health_and_is_74_for_the_others(cli: Callable[..., Any], root: Path) -> None:
    (root / "file").touch()
    below = str(root / "file" / "home")
    said = cli("--home", below, "health")
    assert said.code == 1
    assert said.out.splitlines()[0].split() == ["health", "fail"]
    assert said.out.splitlines()[-1].startswith(f"fail: store: the state dir cannot be used: Not a directory: {root / 'file'}")
    for command in ("status", "jobs", "golden-signals", "fires", "runs"):
        assert cli("--home", below, command).code == 74, command


def test_health_of_a_damaged_store_is_1_with_the_reason_and_no_traceback(cli: Callable[..., Any], root: Path) -> None:
    (root / ".taskpilot").mkdir(mode=0o700)
    (root / ".taskpilot" / FILE).write_bytes(b"x" * 4096)
    said = cli("health")
    assert said.code == 1
    assert "Traceback" not in said.out + said.err
    assert "fail: store: the store " in said.out
    assert "restore it from a backup" in said.out
    found = cli("health", "--json")
    assert (found.code, found.json["status"], found.json["checks"]["store"]["status"]) == (1, "fail", "fail")


def test_health_names_a_broken_file_and_is_1(cli: Callable[..., Any], store: Store, root: Path) -> None:
    (root / "jobs" / "bad.py").write_text("def bad(:\n")
    said = cli("health")
    assert said.code == 1
    assert said.out.splitlines()[1].split(maxsplit=1) == [
        "scheduler",
        "not running (cron or people start the jobs); 1 job, 0 paused, 0 running, 0 queued",
    ]
    assert "warn: cannot be loaded: " in said.out
    assert "bad.py:1: SyntaxError" in said.out


def test_the_golden_signals_are_a_table_of_five(cli: Callable[..., Any], store: Store) -> None:
    records.add_run(store, ended_at=to_micros(utc_now()))
    lines = cli("golden-signals").out.splitlines()
    assert len(lines) == 6
    assert lines[1].split()[:5] == ["success", "rate", "100.0", "%", "healthy"]
    assert lines[2].split()[:4] == ["p95", "duration", "2.00s", "healthy"]
    assert "0.002020 USD" in lines[3]
    assert "no data" in lines[5]
    assert cli("golden-signals", "--days", "7", "--json").json["success_rate"]["window"] == "7d"
    assert cli("golden-signals", "--days", "0").code == 2


def test_why_answers_in_its_first_line_and_ends_with_the_next_command(cli: Callable[..., Any]) -> None:
    lines = cli("why", "triage", "--at", "2026-11-28T07:00").out.splitlines()
    assert lines[0].endswith("at Sat 2026-11-28 07:00 (Europe/Berlin).")
    assert lines[-1].startswith("next      taskpilot why triage --at 2026-11-27T06:00:00Z")
    found = cli("why", "triage", "--at", "2026-11-28T07:00", "--json").json
    assert (found["outcome"], found["fire"], found["zone"]) == ("no_fire", None, "Europe/Berlin")
    assert (found["before"], found["after"]) == ("2026-11-27T06:00:00.000000Z", "2026-11-30T06:00:00.000000Z")


@pytest.mark.parametrize("arguments", [("nothing",), ("triage", "--at", "yesterday"), ()])
def test_why_of_no_job_or_no_time_is_2(arguments: tuple[str, ...], cli: Callable[..., Any]) -> None:
    said = cli("why", *arguments)
    assert (said.code, said.out) == (2, "")


def test_a_pause_is_seen_wherever_the_job_is(cli: Callable[..., Any]) -> None:
    assert cli("jobs", "resume", "triage").code == 2
    said = cli("jobs", "pause", "triage", "--by", "anna", "--note", "the tracker \x1b[31mmoves")
    assert said.code == 0
    assert "taskpilot jobs resume triage" in said.out
    assert cli("jobs", "pause", "triage").code == 2
    assert cli("jobs").out.splitlines()[1].endswith("by anna")
    shown = cli("jobs", "show", "triage").out
    assert "by anna: the tracker \\x1b[31mmoves; `taskpilot jobs resume triage` resumes it" in shown
    (line,) = cli("jobs", "--json").json
    assert (line["paused"]["by"], line["paused"]["note"]) == ("anna", "the tracker \x1b[31mmoves")
    assert cli("jobs", "show", "triage", "--json").json["paused"]["by"] == "anna"
    assert cli("health", "--json").json["scheduler"]["paused"] == 1
    refused = cli("run", "triage", "--model", "offline")
    assert refused.code == 11
    assert "is paused since" in refused.out + refused.err
    assert cli("jobs", "resume", "triage", "--note", "it moved").code == 0
    assert cli("jobs", "--json").json[0]["paused"] is None
    assert cli("jobs", "pause", "nothing").code == 2
