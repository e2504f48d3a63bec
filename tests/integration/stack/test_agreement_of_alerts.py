"""The shipped alerts agree with health, status and the other views: each planted state fires its alerts, and a good one fires none."""

from math import isnan
from pathlib import Path
from typing import Any, Final

import pytest

from taskpilot.services.metrics import scrape
from tests.integration.stack.test_alert_rules import UP, flat, promtool
from tests.planted import AGREED, plant_agreed

HOURS: Final = 17
"""When the alerts are asked; the metrics are there for the last five hours, so nothing is older than the longest window."""


def series_of(root: Path, state: str) -> list[dict[str, str]]:
    """The metrics of a planted state as promtool reads them, with the present as the hour at which it is asked."""
    from prometheus_client.parser import text_string_to_metric_families

    deployment = plant_agreed(root, state)
    try:
        families = list(text_string_to_metric_families(scrape(deployment, everything=True).decode()))
        shift = deployment.now().timestamp() - HOURS * 3600
    finally:
        deployment.close()
    found = [{"series": UP, "values": flat(1)}]
    for family in families:
        for one in family.samples if family.name.startswith("taskpilot_") else ():
            if isnan(one.value):
                continue
            value = one.value - shift if one.name.endswith("_timestamp_seconds") else one.value
            labels = ", ".join(f'{name}="{text}"' for name, text in {"job": "taskpilot", **one.labels}.items())
            found.append({"series": f"{one.name}{{{labels}}}", "values": f"_x{(HOURS - 5) * 60} {value}+0x300"})
    return found


@pytest.mark.parametrize("state", AGREED)
def test_the_alerts_agree_with_the_views(tmp_path: Path, state: str) -> None:
    agreed = AGREED[state]
    names = "|".join(sorted(agreed.alerts))
    asked: list[dict[str, Any]] = [
        {
            "expr": f'count by (alertname) (ALERTS{{alertstate="firing", alertname=~"{names}"}})'
            if names
            else 'ALERTS{alertstate="firing"}',
            "eval_time": f"{HOURS}h",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(agreed.alerts)],
        }
    ]
    tests = [{"interval": "1m", "input_series": series_of(tmp_path / "root", state), "promql_expr_test": asked}]
    done = promtool(tmp_path, tests, evaluation_interval="15m")
    assert done.returncode == 0, done.stdout + done.stderr
