"""The API's description has exactly the keys of the values: a key that is missing there would be dropped from the answer."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from taskpilot.deployment import Deployment
from taskpilot.domain.notices import NoticeEvent
from taskpilot.domain.reasons import NO_REASON
from taskpilot.domain.runs import FeedbackVerdict
from taskpilot.messages.shapes import decision_json, feedback_json, run_json
from taskpilot.services.approvals import give_feedback
from taskpilot.store.notices import insert_incident
from taskpilot.views.golden_signals import golden_json, golden_signals
from taskpilot.views.health import health, health_json
from taskpilot.views.incidents import incident_json
from taskpilot.views.runs import detail_json, show_run
from taskpilot.views.status import status, status_json
from taskpilot.web import schemas
from tests import records


@pytest.fixture
def values(deployment: Deployment) -> Mapping[str, Any]:
    """A value of each shape."""
    run_id = records.add_run(deployment.store)
    records.add_task(deployment.store, run_id)
    records.add_decision(deployment.store, run_id)
    records.add_step(deployment.store, run_id)
    feedback = give_feedback(deployment, run_id, FeedbackVerdict.CORRECT, by="ada", note="").feedback
    with deployment.store.write() as connection:
        incident = insert_incident(connection, NoticeEvent.DRILL, at=records.NOON, reason=NO_REASON)
    detail = show_run(deployment, run_id)
    page, found, golden = detail_json(detail), health_json(health(deployment)), golden_json(golden_signals(deployment))
    return {
        "Run": run_json(detail.run),
        "RunDetail": page,
        "Attempt": page["attempt_list"][0],
        "Task": page["tasks"][0],
        "Decision": decision_json(detail.pending[0]),
        "Step": page["uncertain_steps"][0],
        "Feedback": feedback_json(feedback),
        "Tokens": page["tokens"],
        "Health": found,
        "SchedulerHealth": found["scheduler"],
        "Check": found["checks"]["store"],
        "Incident": incident_json(incident),
        "Status": status_json(status(deployment), " ".join),
        "GoldenSignals": golden,
        "GoldenSignal": golden["success_rate"],
    }


@pytest.mark.parametrize(
    "name",
    [
        "Run", "RunDetail", "Attempt", "Task", "Decision", "Step", "Feedback", "Tokens", "Health", "SchedulerHealth", "Check",
        "Incident", "Status", "GoldenSignals", "GoldenSignal",
    ],
)  # fmt: skip
def test_a_schema_has_the_keys_of_its_value(name: str, values: Mapping[str, Any]) -> None:
    schema: type[BaseModel] = getattr(schemas, name)
    assert set(schema.model_fields) == set(values[name])
