"""`taskpilot fires`: what became of each scheduled time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from taskpilot.cli.fires import OUTCOMES
from taskpilot.domain.runs import FireOutcome
from taskpilot.domain.times import utc_now
from taskpilot.store.database import Store
from tests.planted import STATES, Night


def test_each_fire_is_a_line_and_many_are_one(root: Path, store: Store, cli: Callable[..., Any]) -> None:
    night = Night(store, utc_now())
    for state in STATES:
        night.plant(state)
    night.gap("broken", 700)
    found = cli("fires", "--json").json
    assert list(found[0]) == ["job", "scheduled_for", "outcome", "run_id", "reason", "reason_code", "count"]
    assert {line["outcome"] for line in found} == {"started", "missed", "blocked_config"}
    (gap,) = (line for line in found if line["count"] > 1)
    assert (gap["job"], gap["count"], gap["reason_code"], gap["run_id"]) == ("broken", 700, "catch_up_off", None)
    (blocked,) = cli("fires", "blocked", "--outcome", "blocked_config", "--json").json
    assert "no model is configured" in blocked["reason"]
    not_run = cli("fires", "--outcome", "missed,blocked_config", "--json", "-n", "3").json
    assert {line["job"] for line in not_run} <= {"broken", "blocked", "missed"}
    assert len(not_run) == 3
    assert cli("fires", "--since", "1h", "--json").json == []
    shown = cli("fires", "missed")
    assert "no scheduler was running" in shown.out
    assert cli("fires", "--outcome", "gone").code == 2


def test_before_the_first_fire_there_is_none_and_nothing_is_made(root: Path, cli: Callable[..., Any]) -> None:
    said = cli("fires")
    assert (said.code, said.out, said.err) == (0, "", "no scheduled time was due\n")
    assert not (root / ".taskpilot").exists()


def test_every_outcome_can_be_asked_for() -> None:
    assert set(OUTCOMES) == set(FireOutcome)
