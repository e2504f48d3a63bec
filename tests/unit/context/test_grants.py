"""Standing grants: this tool in this job, these arguments or such as a schema allows, so many times, until then."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot import RunContext, job
from taskpilot.domain.argument_schema import arguments_fit, check_schema
from taskpilot.domain.decisions import GrantState
from taskpilot.domain.errors import TransitionRefused, UsageError
from taskpilot.domain.runs import RunStatus
from taskpilot.services.approvals import approve_decision, grant_decision, reject_decision, revoke_grant
from taskpilot.store.grants import granted
from taskpilot.views.tasks import list_grants, show_decision
from tests.asking import MADE, asking, refund
from tests.spine import NOON, Spine

YEAR = NOON + timedelta(days=365)


@pytest.fixture
def spine(tmp_path: Path) -> Iterator[Spine]:
    made = asking(tmp_path)
    yield made
    made.close()


@job(tools=[refund], overlap="allow_all")
def refunds(ctx: RunContext, customer: str = "4711") -> str:
    """One refund."""
    return ctx.call(refund, customer=customer)


def asked(spine: Spine, customer: str = "4711") -> str:
    """The id of an open question about a refund."""
    return spine.decisions(spine.run(refunds, parameters={"customer": customer}).run.id)[0].id


def test_it_counts_the_call_that_it_approves_and_ends_with_its_number_or_time_or_a_revocation(spine: Spine) -> None:
    first = asked(spine)
    _, grant = grant_decision(spine.deployment, first, until=YEAR, uses=3, by="ada", note="")
    assert [spine.run(refunds).run.status for _ in range(3)] == [RunStatus.SUCCEEDED, RunStatus.SUCCEEDED, RunStatus.WAITING]
    assert list_grants(spine.deployment)[0].state(spine.clock()) is GrantState.USED
    assert MADE == {"4711": 2}

    _, second = grant_decision(spine.deployment, asked(spine, "12"), until=NOON + timedelta(hours=1), uses=9, by="ada", note="")
    assert spine.run(refunds, parameters={"customer": "13"}).run.status is RunStatus.WAITING
    assert spine.run(refunds, parameters={"customer": "12"}).run.status is RunStatus.SUCCEEDED
    spine.later(3600)
    assert spine.run(refunds, parameters={"customer": "12"}).run.status is RunStatus.WAITING

    _, third = grant_decision(spine.deployment, asked(spine, "14"), until=YEAR, uses=9, by="ada", note="")
    assert revoke_grant(spine.deployment, third.id[-8:], by="bob").revoked_by == "bob"
    assert spine.run(refunds, parameters={"customer": "14"}).run.status is RunStatus.WAITING
    with pytest.raises(TransitionRefused, match="bob"):
        revoke_grant(spine.deployment, third.id, by="ada")
    assert [one.state(spine.clock()) for one in list_grants(spine.deployment)] == ["revoked", "ended", "used"]
    assert {one.id for one in list_grants(spine.deployment)} == {grant.id, second.id, third.id}


def test_a_schema_says_which_arguments_and_must_allow_those_of_the_call(spine: Spine) -> None:
    some = {"properties": {"customer": {"pattern": "^47"}}}
    with pytest.raises(UsageError, match="does not allow"):
        grant_decision(spine.deployment, asked(spine, "12"), until=YEAR, uses=9, schema=some, by="ada", note="")
    with pytest.raises(UsageError, match="oneOf: this keyword is not known"):
        grant_decision(spine.deployment, asked(spine, "12"), until=YEAR, uses=9, schema={"oneOf": []}, by="ada", note="")
    with pytest.raises(UsageError, match="over"):
        grant_decision(spine.deployment, asked(spine, "12"), until=NOON, uses=9, by="ada", note="")
    # None of the refused ones answered.
    assert not list_grants(spine.deployment)
    grant_decision(spine.deployment, asked(spine), until=YEAR, uses=9, schema=some, by="ada", note="")
    assert spine.run(refunds, parameters={"customer": "4712"}).run.status is RunStatus.SUCCEEDED
    assert spine.run(refunds, parameters={"customer": "1247"}).run.status is RunStatus.WAITING


def test_another_job_and_a_no_of_a_person_are_not_covered(spine: Spine) -> None:
    @job(tools=[refund])
    def others(ctx: RunContext) -> str:
        return ctx.call(refund, customer="4711")

    run_id = spine.run(refunds).run.id
    reject_decision(spine.deployment, spine.decisions(run_id)[0].id, by="ada", note="")
    grant_decision(spine.deployment, asked(spine), until=YEAR, uses=9, by="ada", note="")
    assert spine.run(others).run.status is RunStatus.WAITING
    assert spine.resume(refunds, run_id).run.status is RunStatus.DENIED
    assert not MADE


def test_many_at_once_never_use_it_more_often_than_it_may(spine: Spine) -> None:
    decision_id = asked(spine)
    grant_decision(spine.deployment, decision_id, until=YEAR, uses=6, by="ada", note="")
    decision = show_decision(spine.deployment, decision_id)

    def take(_turn: int) -> bool:
        with spine.store.write() as connection:
            return granted(connection, decision, now=spine.clock()) is not None

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(12))) == 5
    assert list_grants(spine.deployment)[0].uses == 6


def test_it_is_given_once(spine: Spine) -> None:
    first = asked(spine)
    approve_decision(spine.deployment, first, by="ada", note="")
    with pytest.raises(TransitionRefused):
        grant_decision(spine.deployment, first, until=YEAR, uses=9, by="ada", note="")
    assert not list_grants(spine.deployment)


@pytest.mark.parametrize(
    ("schema", "fitting", "other"),
    [
        ({"properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"]}, {"n": 9}, {"n": 10}),
        ({"properties": {"n": {"type": "integer"}}}, {"n": 1}, {"n": True}),
        ({"properties": {"n": {"const": 1}}}, {"n": 1.0}, {"n": True}),
        ({"properties": {"n": {"exclusiveMinimum": 0, "exclusiveMaximum": 1}}}, {"n": 0.5}, {"n": 1}),
        ({"properties": {"n": {"enum": ["a", None]}}}, {"n": None}, {"n": "b"}),
        ({"properties": {"n": {"type": ["string", "null"], "minLength": 1, "maxLength": 2}}}, {"n": "ab"}, {"n": "abc"}),
        ({"properties": {"n": {"items": {"type": "string"}, "maxItems": 1, "minItems": 1}}}, {"n": ["a"]}, {"n": [1]}),
        ({"properties": {"n": {"properties": {"m": {}}, "additionalProperties": False}}}, {"n": {"m": 1}}, {"n": {"k": 1}}),
        # What a schema does not name is not allowed, unless it says so.
        ({"properties": {"n": {}}}, {"n": 1}, {"n": 1, "all": True}),
        ({"additionalProperties": {"type": "number"}}, {"n": 1}, {"n": "1"}),
        ({"type": "object", "title": "nothing"}, {}, {"n": 1}),
    ],
)
def test_the_schemas_that_are_known(schema: dict[str, Any], fitting: dict[str, Any], other: dict[str, Any]) -> None:
    check_schema(schema)
    assert arguments_fit(schema, fitting)
    assert not arguments_fit(schema, other)


@pytest.mark.parametrize(
    "schema",
    [
        *(True, [], {"$ref": "#"}, {"type": "text"}, {"properties": []}, {"properties": {"n": {"not": {}}}}, {"required": "n"}),
        *({"enum": []}, {"minimum": "1"}, {"properties": {"n": {"pattern": "("}}}),
    ],
)
def test_what_is_not_known_is_refused(schema: Any) -> None:
    with pytest.raises(ValueError, match="schema"):
        check_schema(schema)
