"""From a run's process to a webhook: the real command, Pushgateway, Prometheus and Alertmanager, with the shipped rules."""

import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.kills.processes import eventually
from tests.command import TaskPilot
from tests.integration.stack.night import RULES, all_delivered, command_in, impatient_rules
from tests.servers.alertmanager import alertmanager
from tests.servers.prometheus import Prometheus, prometheus
from tests.servers.pushgateway import Pushgateway, pushgateway
from tests.servers.webhook import Webhook, webhook

pytestmark = pytest.mark.slow

DAY = 86_400


@dataclass(frozen=True)
class Chain:
    """All that stands between a run and a person."""

    gateway: Pushgateway
    prometheus: Prometheus
    hook: Webhook
    stop_gateway: ExitStack

    def told(self, alert: str, status: str = "firing") -> bool:
        """Whether the webhook's newest word on an alert comes to be this one."""
        return eventually(lambda: self.hook.alerts.get(alert, {}).get("status") == status, seconds=40, every=0.1)

    def push(self, group: str, *lines: str, kind: str | None = None) -> None:
        """Puts series into a group of the gateway, as counters or gauges by their names."""
        names = dict.fromkeys(line.split("{")[0].split(" ")[0] for line in lines)
        types = [f"# TYPE {name} {kind or ('counter' if name.endswith('_total') else 'gauge')}" for name in names]
        body = "\n".join([*types, *lines, ""]).encode()
        urllib.request.urlopen(urllib.request.Request(f"{self.gateway.url}/metrics/job/taskpilot/{group}", body), timeout=10).close()


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    folder = tmp_path / "chain"
    folder.mkdir()
    with ExitStack() as stack:
        hook = stack.enter_context(webhook())
        address = stack.enter_context(alertmanager(folder, hook.url))
        stop_gateway = stack.enter_context(ExitStack())
        gateway = stop_gateway.enter_context(pushgateway(folder))
        scraper = prometheus(folder, [f"127.0.0.1:{gateway.port}"], rule_files=impatient_rules(folder), alertmanagers=[address])
        yield Chain(gateway, stack.enter_context(scraper), hook, stop_gateway)


def let_days_pass(command: TaskPilot, days: int) -> None:
    """Makes the record look as if the job ran so many days ago, and not since."""
    columns = ("last_start", "last_completion", "last_success", "last_scheduled")
    earlier = ", ".join(f"{column} = {column} - {days * DAY * 1_000_000}" for column in columns)
    with closing(sqlite3.connect(command.state_dir / "taskpilot.db")) as connection, connection:
        connection.execute(f"UPDATE job_state SET {earlier}, version = version + 1")


def test_a_missed_night_arrives_at_the_webhook_and_its_end_too(chain: Chain, tmp_path: Path) -> None:
    command = command_in(tmp_path, chain.gateway.url)
    assert command("run", "nightly", "--quiet").code == 0
    all_delivered(command)
    chain.prometheus.until("taskpilot_run_last_success_timestamp_seconds", lambda value: value is not None)
    assert chain.prometheus.query('ALERTS{alertstate="firing"}') == []
    let_days_pass(command, 2)
    assert command("metrics", "push").code == 0
    assert chain.told("TaskPilotSuccessTooOld")
    alert = chain.hook.alerts["TaskPilotSuccessTooOld"]
    assert (alert["labels"]["job_name"], alert["labels"]["severity"]) == ("nightly", "critical")
    assert alert["annotations"]["summary"].startswith("nightly has not succeeded for 2d 0h")
    assert "`taskpilot why nightly`" in alert["annotations"]["runbook"]
    assert set(chain.hook.alerts) == {"TaskPilotSuccessTooOld"}
    # What the runbook says, typed.
    assert command("why", "nightly").code == 0
    assert command("run", "nightly", "--quiet").code == 0
    all_delivered(command)
    assert chain.told("TaskPilotSuccessTooOld", "resolved")


def test_every_alert_arrives_with_its_words_in_place(chain: Chain) -> None:
    now = time.time()
    chain.push(
        "deployment/a/job_name/never",
        "taskpilot_job_max_success_gap_seconds 90000",
        f"taskpilot_run_last_completion_timestamp_seconds {now}",
    )
    chain.push(
        "deployment/a/job_name/old",
        "taskpilot_job_max_success_gap_seconds 90000",
        f"taskpilot_run_last_success_timestamp_seconds {now - 2 * DAY}",
    )
    chain.push("deployment/a/job_name/failed", 'taskpilot_run_last_status{status="failed"} 1')
    chain.push(
        "deployment/a/job_name/hangs", "taskpilot_job_deadline_seconds 600", f"taskpilot_run_last_start_timestamp_seconds {now - 900}"
    )
    chain.push("deployment/a/job_name/missed", 'taskpilot_fires_total{outcome="missed"} 3')
    chain.push("deployment/b/component/scheduler", f"taskpilot_scheduler_last_tick_timestamp_seconds {now - 600}")
    chain.push("deployment/c/component/scheduler", f"taskpilot_scheduler_last_tick_timestamp_seconds {now + DAY}")
    chain.push("deployment/a/job_name/dear", 'taskpilot_llm_cost_usd_total{model="gpt-4o",agent="planner"} 9.5')
    chain.push("deployment/a/job_name/unpriced", 'taskpilot_llm_unpriced_calls_total{model="mine"} 2')
    chain.push("deployment/a/job_name/denied", 'taskpilot_policy_decisions_total{engine="regorus",decision="deny"} 4')
    chain.push("deployment/a/job_name/waiting", "taskpilot_approvals_pending 1")
    chain.push("deployment/a/job_name/failing", 'taskpilot_telemetry_failures_total{sink="collector"} 3')
    chain.push("deployment/a", 'taskpilot_notices_total{channel="ops",result="failed"} 3')
    with pytest.raises(urllib.error.HTTPError):
        chain.push("deployment/a/job_name/waiting", "taskpilot_fires_total 1", kind="gauge")
    chain.prometheus.until('taskpilot_scheduler_last_tick_timestamp_seconds{deployment="c"}', lambda value: value is not None)
    gone = urllib.request.Request(f"{chain.gateway.url}/metrics/job/taskpilot/deployment/c/component/scheduler", method="DELETE")
    urllib.request.urlopen(gone, timeout=10).close()

    shipped = {line.split()[-1] for line in (RULES / "alerts.yml").read_text().splitlines() if "- alert: " in line}
    for name in sorted(shipped - {"TaskPilotGatewayAbsent"}):
        assert chain.told(name), name
    # Last, since without the gateway nothing else means anything: Alertmanager is told to be silent on it.
    chain.stop_gateway.close()
    assert chain.told("TaskPilotGatewayAbsent")
    for name in shipped:
        for text in chain.hook.alerts[name]["annotations"].values():
            assert "{{" not in text
            assert "error" not in text.lower()
            assert "no value" not in text
            assert "  " not in text
