"""The names of the original design: each exists over our metrics and holds what it says."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.servers.debian import require

RULES = Path(__file__).parents[3] / "observability" / "prometheus" / "rules" / "original_names.yml"
JOB = 'job="taskpilot", deployment="d", job_name="j"'
MODELS = ("gpt_4o", "gpt_4o_mini", "gpt_4_turbo", "gpt_4", "gpt_3_5_turbo")
AGENTS = ("planner", "reviewer", "executor")
SEES = {
    "taskpilot_runs_total": {'status="succeeded"': 7, 'status="failed"': 2, 'status="lost"': 1},
    "taskpilot_run_last_duration_seconds": {"": 2.5},
    "taskpilot_run_duration_seconds_sum": {"": 30},
    "taskpilot_run_duration_seconds_count": {"": 10},
    "taskpilot_run_duration_seconds_bucket": {'le="0.5"': 1, 'le="1"': 2, 'le="2.5"': 5, 'le="5.0"': 6, 'le="7200"': 10, 'le="+Inf"': 10},
    "taskpilot_agent_invocations_total": {
        'agent="planner", status="succeeded"': 6,
        'agent="planner", status="failed"': 1,
        'agent="reviewer", status="succeeded"': 5,
        'agent="reviewer", status="failed"': 0,
        'agent="executor", status="succeeded"': 4,
        'agent="executor", status="failed"': 2,
    },
    "taskpilot_agent_duration_seconds_sum": {f'agent="{agent}"': number for number, agent in enumerate(AGENTS, 1)},
    "taskpilot_agent_duration_seconds_count": {f'agent="{agent}"': 10 * number for number, agent in enumerate(AGENTS, 1)},
    "taskpilot_llm_calls_total": {
        'model="gpt-4o", status="succeeded"': 8,
        'model="gpt-4o", status="unknown"': 1,
        'model="gpt-4o-mini", status="succeeded"': 20,
        'model="gpt-4-turbo", status="succeeded"': 3,
        'model="gpt-4", status="succeeded"': 4,
        'model="gpt-3.5-turbo", status="succeeded"': 5,
        'model="other", status="failed"': 2,
    },
    "taskpilot_llm_retries_total": {'model="gpt-4o", reason="rate_limit"': 3},
    "taskpilot_llm_tokens_total": {
        'model="gpt-4o", agent="planner", kind="input"': 1200,
        'model="gpt-4o", agent="planner", kind="cached_input"': 1024,
        'model="gpt-4o", agent="planner", kind="output"': 30,
        'model="gpt-4o", agent="executor", kind="input"': 100,
        **{f'model="{model}", agent="planner", kind="input"': 50 for model in ("gpt-4o-mini", "gpt-4-turbo", "gpt-4", "gpt-3.5-turbo")},
        **{f'model="{model}", agent="planner", kind="output"': 5 for model in ("gpt-4o-mini", "gpt-4-turbo", "gpt-4", "gpt-3.5-turbo")},
    },
    "taskpilot_llm_cost_usd_total": {
        'model="gpt-4o", agent="planner"': 2,
        'model="gpt-4o", agent="executor"': 1,
        **{f'model="{model}", agent="planner"': 0.5 for model in ("gpt-4o-mini", "gpt-4-turbo", "gpt-4", "gpt-3.5-turbo")},
    },
    "taskpilot_llm_call_duration_seconds_sum": {'model="gpt-4o"': 4, 'model="gpt-4o-mini"': 6},
    "taskpilot_llm_call_duration_seconds_count": {'model="gpt-4o"': 9, 'model="gpt-4o-mini"': 20},
    "taskpilot_tasks_total": {f'status="{word}"': n for n, word in enumerate(("failed", "executed", "rejected", "approved", "pending"), 1)},
    "taskpilot_tool_calls_total": {'tool="notify", status="succeeded"': 6, 'tool="notify", status="unknown"': 1},
    "taskpilot_policy_decisions_total": {'engine="regorus", decision="allow"': 9, 'engine="regorus", decision="deny"': 2},
    "taskpilot_approvals_total": {'verdict="approved"': 3, 'verdict="rejected"': 1},
}
HOLDS = {
    "workflow_runs": 10, "workflow_success": 7, "workflow_failures": 3,
    "workflow_latency_ms": 2500, "workflow_latency_ms_sum": 30_000, "workflow_latency_ms_count": 10,
    "agent_planner_invocations": 7, "agent_planner_failures": 1,
    "agent_planner_latency_ms_sum": 1000, "agent_planner_latency_ms_count": 10,
    "agent_reviewer_invocations": 5, "agent_reviewer_failures": 0,
    "agent_reviewer_latency_ms_sum": 2000, "agent_reviewer_latency_ms_count": 20,
    "agent_executor_invocations": 6, "agent_executor_failures": 2,
    "agent_executor_latency_ms_sum": 3000, "agent_executor_latency_ms_count": 30,
    "llm_calls_total": 43, "llm_errors_total": 3, "llm_retries_total": 3, "llm_tokens_input_total": 1500, "llm_tokens_output_total": 50,
    "llm_tokens_total": 1550, "llm_cost_total": 5, "llm_latency_ms_sum": 10_000, "llm_latency_ms_count": 29,
    "llm_gpt_4o_calls": 9, "llm_gpt_4o_tokens_input_total": 1300, "llm_gpt_4o_tokens_output_total": 30, "llm_gpt_4o_cost_total": 3,
    "llm_gpt_4o_mini_calls": 20, "llm_gpt_4_turbo_calls": 3, "llm_gpt_4_calls": 4, "llm_gpt_3_5_turbo_calls": 5,
    **{f"llm_{model}_tokens_input_total": 50 for model in MODELS[1:]},
    **{f"llm_{model}_tokens_output_total": 5 for model in MODELS[1:]},
    **{f"llm_{model}_cost_total": 0.5 for model in MODELS[1:]},
    "tasks_created": 5, "tasks_approved": 4, "tasks_rejected": 3, "tasks_executed": 2, "tasks_failed": 1,
    "tool_calls_total": 7, "tool_errors_total": 1, "policy_decisions_total": 11, "policy_violations_total": 2, "approvals_total": 4,
}  # fmt: skip
BUCKETS = {"500": 1, "1000": 2, "2500": 5, "5000": 6, "7200000": 10, "+Inf": 10}


def labels(own: str) -> str:
    return "{" + ", ".join(filter(None, (JOB, own))) + "}"


@pytest.fixture(scope="module")
def recorded() -> list[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule["record"] for group in groups for rule in group["rules"]]


def test_every_name_is_recorded_once_and_tried_below(recorded: list[str]) -> None:
    assert sorted(recorded) == sorted({*HOLDS, "workflow_latency_ms_bucket"})


def test_each_name_holds_what_it_says(tmp_path: Path, recorded: list[str]) -> None:
    shown = [{"series": name + labels(own), "values": f"{value}x2"} for name, all_of in SEES.items() for own, value in all_of.items()]
    asked = [
        {"expr": name, "eval_time": "2m", "exp_samples": [{"labels": name + labels(""), "value": value}]} for name, value in HOLDS.items()
    ]
    buckets = [{"labels": "workflow_latency_ms_bucket" + labels(f'le="{bound}"'), "value": value} for bound, value in BUCKETS.items()]
    asked.append({"expr": "workflow_latency_ms_bucket", "eval_time": "2m", "exp_samples": buckets})
    tests = [{"interval": "1m", "input_series": shown, "promql_expr_test": asked}]
    # JSON is YAML too.
    (tmp_path / "cases.yml").write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    command = [require("promtool", "prometheus"), "test", "rules", "cases.yml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
