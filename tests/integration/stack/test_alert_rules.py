"""Each shipped alert, computed by promtool over series of a day or two: when it fires, and when it must not."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.servers.debian import require

REPOSITORY = Path(__file__).parents[3]
RULES = REPOSITORY / "observability" / "prometheus" / "rules"
JOB = 'job="taskpilot", deployment="d", job_name="nightly"'
MINUTES = 3000
"""As long as any series here."""
COARSE = 330
"""From here on a case is computed every five minutes: promtool takes its time."""
UP = 'up{job="pushgateway"}'


def series(name: str, *labels: str, of: str = JOB) -> str:
    return f"{name}{{{', '.join([of, *labels])}}}"


COMPLETION = series("taskpilot_run_last_completion_timestamp_seconds")
START = series("taskpilot_run_last_start_timestamp_seconds")
SUCCESS = series("taskpilot_run_last_success_timestamp_seconds")
GAP = series("taskpilot_job_max_success_gap_seconds")
DEADLINE = series("taskpilot_job_deadline_seconds")
NEXT_FIRE = series("taskpilot_job_next_fire_timestamp_seconds")
PAUSED = series("taskpilot_job_paused")
TICK = 'taskpilot_scheduler_last_tick_timestamp_seconds{job="taskpilot", deployment="d", component="scheduler"}'
COST = series("taskpilot_llm_cost_usd_total", 'model="gpt-4o"', 'agent="planner"')
OTHER_COST = series(
    "taskpilot_llm_cost_usd_total", 'model="gpt-4o"', 'agent="planner"', of='job="taskpilot", deployment="d", job_name="other"'
)
UNPRICED = series("taskpilot_llm_unpriced_calls_total", 'model="mine"')
APPROVALS = series("taskpilot_approvals_pending")
PUSHED, REFUSED = series("push_time_seconds"), series("push_failure_time_seconds")
FAILURES = series("taskpilot_telemetry_failures_total", 'sink="gateway"')
NOTICES = series("taskpilot_notices_total", 'channel="ops"', 'result="failed"')
ARRIVED = series("taskpilot_notices_total", 'channel="ops"', 'result="delivered"')


def status(word: str) -> str:
    return series("taskpilot_run_last_status", f'status="{word}"')


def fires(outcome: str) -> str:
    return series("taskpilot_fires_total", f'outcome="{outcome}"')


def decisions(word: str) -> str:
    return series("taskpilot_policy_decisions_total", 'engine="regorus"', f'decision="{word}"')


def flat(value: float) -> str:
    """The value each minute."""
    return f"{value}+0x{MINUTES}"


def then(before: float | None, minutes: int, after: float) -> str:
    """One value (or none) for so many minutes, then another."""
    first = f"_x{minutes}" if before is None else f"{before}+0x{minutes - 1}"
    return f"{first} {after}+0x{MINUTES}"


@dataclass(frozen=True)
class Case:
    """What Prometheus sees, and at which minutes which alerts fire; no other may."""

    says: str
    sees: Mapping[str, str]
    fires: Mapping[int, Sequence[str]]
    up: str | None = field(default_factory=lambda: flat(1))


NEVER, OLD, FAILED, STUCK = "TaskPilotNeverSucceeded", "TaskPilotSuccessTooOld", "TaskPilotLastRunFailed", "TaskPilotRunStuck"
MISSED, ASLEEP, ABSENT = "TaskPilotFiresMissed", "TaskPilotSchedulerTickOld", "TaskPilotSchedulerAbsent"
DEAR, UNKNOWN, DENIED = "TaskPilotCostNearDayBudget", "TaskPilotUnpricedCalls", "TaskPilotPolicyViolations"
WAITING, PUSH_REFUSED, PUSH_FAILING = "TaskPilotApprovalsWaiting", "TaskPilotPushRefused", "TaskPilotPushFailing"
NOTICES_FAILING = "TaskPilotNoticesFailing"
NO_GATEWAY = "TaskPilotGatewayAbsent"
NIGHTLY = {GAP: flat(25 * 3600), DEADLINE: flat(600), NEXT_FIRE: "86400+0x2999"}
"""Due once a day, at the first midnight; ten minutes long; never late by more than an hour."""

CASES = (
    Case("ended without success", {**NIGHTLY, COMPLETION: flat(60)}, {4: [], 6: [NEVER]}),
    Case("its first fire passed and nobody ran it", NIGHTLY, {1440: [], 1450: [], 1465: [NEVER]}),
    Case("ran by hand and has no schedule", {GAP: "NaN+0x2999", DEADLINE: flat(600), COMPLETION: flat(60)}, {60: []}),
    Case("is paused before its first success", {**NIGHTLY, COMPLETION: flat(60), PAUSED: flat(1)}, {60: [], 1500: []}),
    Case("has succeeded", {**NIGHTLY, COMPLETION: flat(60), SUCCESS: flat(60), START: flat(30)}, {60: [], 1501: []}),
    Case("succeeds again", {GAP: flat(90_000), SUCCESS: then(0, 1520, 91_200)}, {1500: [], 1515: [OLD], 1530: []}),
    Case("succeeds never again", {GAP: flat(90_000), SUCCESS: flat(0)}, {1500: [], 1700: [OLD]}),
    Case("lost its schedule", {GAP: "NaN+0x2999", SUCCESS: flat(0)}, {1700: []}),
    Case("is paused on purpose", {GAP: flat(90_000), SUCCESS: flat(0), PAUSED: flat(1)}, {1700: []}),
    *(
        Case(f"ended as {word}", {status(word): then(1, 10, 0)}, {5: [FAILED], 11: []})
        for word in ("failed", "timed_out", "lost", "denied", "budget_exceeded")
    ),
    *(Case(f"stands as {word}", {status(word): flat(1)}, {5: []}) for word in ("succeeded", "waiting", "cancelled")),
    Case("hangs at its first run", {DEADLINE: flat(600), START: flat(600)}, {20: [], 26: [], 28: [STUCK]}),
    Case(
        "hangs after an earlier end and ends at last",
        {DEADLINE: flat(600), START: flat(600), COMPLETION: then(300, 40, 2400)},
        {26: [], 28: [STUCK], 41: []},
    ),
    Case("ended in time", {DEADLINE: flat(600), START: flat(600), COMPLETION: flat(900)}, {60: []}),
    Case("waits for a person", {DEADLINE: flat(600), START: flat(600), status("waiting"): flat(1)}, {60: []}),
    *(
        Case(f"three fires became {word}", {fires(word): then(0, 600, 3)}, {595: [], 605: [MISSED], 1315: [MISSED], 1330: []})
        for word in ("missed", "blocked_config", "blocked_budget")
    ),
    Case("a first fire is missed, of a label set born with it", {fires("missed"): then(None, 600, 1)}, {595: [], 605: [MISSED], 1330: []}),
    Case("fires were missed long ago", {fires("missed"): flat(5)}, {1200: []}),
    Case("Prometheus was off for nine hours", {fires("missed"): f"5+0x180 _x570 5+0x{MINUTES}"}, {900: [], 1200: [], 1440: []}),
    Case("fires were skipped", {fires("skipped_overlap"): then(0, 600, 3)}, {601: []}),
    Case("the scheduler stops", {TICK: "0+60x100 6000+0x2000"}, {100: [], 101: [], 104: [ASLEEP]}),
    Case("the scheduler ticks", {TICK: f"0+60x{MINUTES}"}, {60: [], 600: []}),
    Case("the scheduler's group goes", {TICK: "0+60x60 stale"}, {60: [], 75: [ABSENT], 1400: [ABSENT], 1510: []}),
    Case("the gateway goes, and all with it", {TICK: "0+60x60 stale"}, {70: [NO_GATEWAY]}, up=then(1, 60, 0)),
    Case("spends 9 of 10 USD in a night", {COST: then(0, 600, 9)}, {595: [], 605: [DEAR], 2030: [DEAR], 2050: []}),
    Case("two jobs spend 9 USD together", {COST: then(1, 1600, 5.5), OTHER_COST: then(None, 1600, 4.5)}, {1595: [], 1605: [DEAR]}),
    Case("spends 7.90 USD in a night", {COST: then(0, 600, 7.9)}, {601: []}),
    Case("spent much before", {COST: flat(100)}, {1500: [], 1700: []}),
    Case("calls a model without a price", {UNPRICED: then(0, 600, 1)}, {595: [], 605: [UNKNOWN], 1330: []}),
    Case("called one long ago", {UNPRICED: flat(7)}, {1200: []}),
    Case("is denied two calls", {decisions("deny"): then(0, 600, 2)}, {595: [], 605: [DENIED], 1330: []}),
    Case("is allowed two calls", {decisions("allow"): then(0, 600, 2)}, {601: []}),
    Case("nobody answers", {APPROVALS: then(0, 60, 1)}, {299: [], 301: [WAITING]}),
    Case("somebody answers after three hours", {APPROVALS: "1+0x180 0+0x5 1+0x180"}, {180: [], 300: []}),
    Case("the gateway refuses a push", {PUSHED: flat(60), REFUSED: then(0, 10, 600)}, {9: [], 14: [], 16: [PUSH_REFUSED]}),
    Case("the gateway took a push after that", {PUSHED: then(60, 12, 720), REFUSED: then(0, 10, 600)}, {16: [], 60: []}),
    Case("three deliveries fail", {FAILURES: then(4, 120, 7)}, {119: [], 121: [PUSH_FAILING], 185: []}),
    Case("three notices do not arrive", {NOTICES: then(4, 120, 7)}, {119: [], 121: [NOTICES_FAILING], 185: []}),
    Case("many notices arrive", {ARRIVED: then(4, 120, 70)}, {121: []}),
    Case("two deliveries fail", {FAILURES: then(4, 120, 6)}, {121: []}),
    Case("the gateway is down", {}, {1: [], 3: [NO_GATEWAY]}, up=flat(0)),
    Case("the gateway was never scraped", {}, {1: [], 3: [NO_GATEWAY]}, up=None),
    Case("all is well", {}, {1: [], 60: []}),
)


def promtool(folder: Path, tests: Sequence[Mapping[str, object]], *, evaluation_interval: str) -> subprocess.CompletedProcess[str]:
    """Runs `promtool test rules` over the shipped alerts."""
    content = {
        "rule_files": [str(RULES / "alerts.yml"), str(RULES / "day_budget.yml")],
        "evaluation_interval": evaluation_interval,
        "tests": tests,
    }
    # JSON is YAML too.
    (folder / "cases.yml").write_text(json.dumps(content))
    command = [require("promtool", "prometheus"), "test", "rules", "cases.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.says)
def test_an_alert_fires_when_it_should_and_no_other_does(tmp_path: Path, case: Case) -> None:
    sees = dict(case.sees) if case.up is None else {**case.sees, UP: case.up}
    asked = [
        {
            "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in names],
        }
        for minute, names in case.fires.items()
    ]
    shown = [{"series": name, "values": values} for name, values in sees.items()]
    often = "5m" if max(case.fires) > COARSE else "1m"
    done = promtool(tmp_path, [{"interval": "1m", "input_series": shown, "promql_expr_test": asked}], evaluation_interval=often)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_firing_and_not_firing() -> None:
    shipped = set(re.findall(r"alert: (\w+)", (RULES / "alerts.yml").read_text()))
    firing = {name for case in CASES for names in case.fires.values() for name in names}
    both = {name for case in CASES if any(not names for names in case.fires.values()) for names in case.fires.values() for name in names}
    assert firing == shipped
    # The one that follows another's end is seen silent in all cases where the gateway is there.
    assert both == shipped


def test_promtool_accepts_the_rules() -> None:
    command = [require("promtool", "prometheus"), "check", "rules", *map(str, sorted(RULES.glob("*.yml")))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "duplicate" not in done.stdout + done.stderr
