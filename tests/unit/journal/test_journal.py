"""The journal: every write is fenced by the lease, every begun step ends once, every reservation comes back."""

import threading
from typing import Any

import pytest

from taskpilot import Budget, RunContext, job
from taskpilot.context.scope import Scope
from taskpilot.domain.chat import ChatReply
from taskpilot.domain.errors import BudgetExceeded, LeaseLost
from taskpilot.domain.ids import new_id
from taskpilot.domain.runs import LeaseGrant
from taskpilot.domain.steps import StepKind, StepPlace, StepStatus
from taskpilot.domain.tasks import Priority, Task, TaskStatus
from taskpilot.domain.usage import Reservation, Usage
from taskpilot.journal.journal import Journal
from taskpilot.journal.started_step import INPUT_KEPT, AgentEnd
from tests.spine import NOON, Spine


@job(name="held", budget=Budget(usd="0.001", tokens=1000, llm_calls=5, tool_calls=2))
def held(ctx: RunContext) -> None:
    """Do nothing."""


@pytest.fixture
def grant(spine: Spine) -> LeaseGrant:
    return spine.claim(held).grant


def journal_of(spine: Spine, grant: LeaseGrant) -> Journal:
    return Journal(spine.store, spine.run_of(grant.run_id), grant, now=spine.clock, boot=spine.clock.boot)


def place(name: str = "x", kind: StepKind = StepKind.STEP) -> StepPlace:
    return Scope().place(kind, name, {"name": name})


def task(run_id: str) -> Task:
    return Task(new_id(), run_id, "held", "/t", "x", Priority.LOW, "", TaskStatus.PENDING, "", NOON, NOON)


def test_what_is_begun_is_in_the_store_before_it_has_an_effect(spine: Spine, grant: LeaseGrant) -> None:
    begun = journal_of(spine, grant).begin(place(), value=[1])
    (step,) = spine.steps(grant.run_id)
    assert (step.id, step.status, step.input, step.ended_at) == (begun.step.id, StepStatus.BEGUN, [1], None)
    assert begun.lease_until == grant.expires_at.micros


def test_a_stale_attempt_writes_nothing(spine: Spine, grant: LeaseGrant) -> None:
    journal = journal_of(spine, grant)
    begun = journal.begin(place("before"), value=None)
    asked = journal.begin(place("ask", StepKind.ASK), value=None, agent="a", model="m", reservation=Reservation(1, 1, 1))
    filed = task(grant.run_id)
    journal.propose(filed)
    spine.later(31)
    spine.ledger.resume(spine.plan(held, run_id=grant.run_id))
    writes: list[Any] = [
        lambda: journal.begin(place("after"), value=None),
        lambda: journal.note(place("note"), StepStatus.SUCCEEDED),
        lambda: journal.end(begun, StepStatus.SUCCEEDED),
        lambda: journal.end_ask(asked, reply=ChatReply("x", usage=Usage()), result={}, cost_nano=1, retries=()),
        lambda: journal.record_agent(AgentEnd("a", "/a", StepStatus.SUCCEEDED, NOON)),
        lambda: journal.propose(task(grant.run_id)),
        lambda: journal.move_task(filed.id, TaskStatus.APPROVED, "x"),
        lambda: journal.progress(1, 2),
    ]
    before = spine.steps(grant.run_id)
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    assert spine.steps(grant.run_id) == before
    assert {step.status for step in before} == {StepStatus.UNKNOWN}


def test_after_the_leases_end_nothing_new_begins_but_what_happened_is_still_recorded(spine: Spine, grant: LeaseGrant) -> None:
    journal = journal_of(spine, grant)
    begun = journal.begin(place(), value=None)
    spine.later(30)
    with pytest.raises(LeaseLost, match="ended"):
        journal.begin(place("late"), value=None)
    journal.end(begun, StepStatus.SUCCEEDED, result=7)
    assert [(step.status, step.result) for step in spine.steps(grant.run_id)] == [(StepStatus.SUCCEEDED, 7)]


def test_a_step_ends_once(spine: Spine, grant: LeaseGrant) -> None:
    journal = journal_of(spine, grant)
    begun = journal.begin(place(), value=None)
    journal.end(begun, StepStatus.SUCCEEDED, result=1)
    with pytest.raises(LeaseLost):
        journal.end(begun, StepStatus.FAILED)


@pytest.mark.parametrize(
    "reservation",
    [
        Reservation(cost_nano=1_000_001, tokens=1, llm_calls=1),
        Reservation(cost_nano=1, tokens=1001, llm_calls=1),
        Reservation(cost_nano=None, tokens=1001, llm_calls=1),
        Reservation(llm_calls=6),
        Reservation(tool_calls=3),
    ],
)
def test_what_could_go_past_a_ceiling_is_not_begun(spine: Spine, grant: LeaseGrant, reservation: Reservation) -> None:
    with pytest.raises(BudgetExceeded):
        journal_of(spine, grant).begin(place(), value=None, reservation=reservation)
    row = spine.row(grant.run_id)
    assert spine.steps(grant.run_id) == []
    assert (row.reserved_nano, row.reserved_tokens, row.llm_calls, row.tool_calls) == (0, 0, 0, 0)


def test_what_just_fits_is_begun(spine: Spine, grant: LeaseGrant) -> None:
    journal_of(spine, grant).begin(place(), value=None, reservation=Reservation(1_000_000, 1000, 5, 2))


def test_of_many_threads_only_as_many_as_the_budget_allows_begin(spine: Spine, grant: LeaseGrant) -> None:
    journal = journal_of(spine, grant)
    barrier = threading.Barrier(8)
    stopped: list[BudgetExceeded] = []

    def begin(number: int) -> None:
        barrier.wait(10)
        try:
            journal.begin(place(str(number), StepKind.ASK), value=None, reservation=Reservation(300_000, 10, 1))
        except BudgetExceeded as stop:
            stopped.append(stop)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(spine.steps(grant.run_id)), len(stopped)) == (3, 5)
    assert spine.row(grant.run_id).reserved_nano == 900_000


@pytest.mark.parametrize(
    ("reply", "cost", "lost", "spent", "shown", "unpriced"),
    [
        (ChatReply("x", usage=Usage(10, 2, 5)), 70, 0, 70, 70, 0),
        (ChatReply("x", usage=Usage(10, 2, 5)), None, 0, 500, 0, 1),
        (ChatReply("x"), None, 0, 500, 0, 1),
        (ChatReply("x", usage=Usage(10, 2, 5)), 70, 2, 1070, 1070, 0),
        (None, None, 0, 0, 0, 0),
        (None, None, 1, 500, 500, 0),
    ],
    ids=["answered", "no price", "no usage", "two lost before", "refused", "lost"],
)
def test_a_reservation_comes_back_and_what_it_came_to_is_taken(
    spine: Spine, grant: LeaseGrant, reply: ChatReply | None, cost: int | None, lost: int, spent: int, shown: int, unpriced: int
) -> None:
    journal = journal_of(spine, grant)
    begun = journal.begin(place("a", StepKind.ASK), value=None, agent="a", model="m", reservation=Reservation(500, 100, 1))
    journal.end_ask(begun, reply=reply, result={}, cost_nano=cost, retries=("timeout",) * lost, lost=lost)
    row = spine.row(grant.run_id)
    assert (row.reserved_nano, row.reserved_tokens) == (0, 0)
    assert (row.spent_nano, row.cost_nano, row.unpriced_calls) == (spent, shown, unpriced)
    (step,) = spine.steps(grant.run_id)
    assert (step.cost_nano or 0) == shown
    assert sum(spine.total("taskpilot_llm_cost_usd_total").values()) == shown
    assert sum(spine.total("taskpilot_llm_unpriced_calls_total").values()) == unpriced


def test_a_later_attempt_finds_the_newest_making(spine: Spine, grant: LeaseGrant) -> None:
    where = place()
    for status in (StepStatus.FAILED, StepStatus.SUCCEEDED):
        journal = journal_of(spine, grant)
        journal.end(journal.begin(where, value=None), status, result=status.value)
    found = journal_of(spine, grant).recorded(where)
    assert found is not None
    assert (found.make, found.status, found.result) == (1, StepStatus.SUCCEEDED, "succeeded")


def test_what_stands_at_a_place_is_found_by_the_place_and_not_by_its_input(spine: Spine, grant: LeaseGrant) -> None:
    journal = journal_of(spine, grant)
    journal.end(journal.begin(Scope("/a").place(StepKind.CALL, "send", {"to": "x"}), value=None), StepStatus.SUCCEEDED)
    later = journal_of(spine, grant)
    assert later.conflicting(Scope("/a").place(StepKind.CALL, "send", {"to": "y"})) is not None
    assert later.conflicting(Scope("/a").place(StepKind.CALL, "send", {"to": "x"})) is None
    assert later.conflicting(Scope("/b").place(StepKind.CALL, "send", {"to": "y"})) is None
    assert later.conflicting(Scope("/a").place(StepKind.ASK, "send", {"to": "y"})) is None


def test_a_long_input_is_shortened_for_people_and_told_apart_all_the_same(spine: Spine, grant: LeaseGrant) -> None:
    journal = journal_of(spine, grant)
    scope = Scope()
    first, second = (scope.place(StepKind.STEP, "x", "y" * INPUT_KEPT + end) for end in "ab")
    for where in (first, second):
        journal.end(journal.begin(where, value="y" * INPUT_KEPT), StepStatus.SUCCEEDED, result=1)
    assert first.key != second.key
    assert all(len(str(step.input)) < 2000 for step in spine.steps(grant.run_id))


def test_progress_is_the_last_mark(spine: Spine, grant: LeaseGrant) -> None:
    journal = journal_of(spine, grant)
    journal.progress(1, None)
    journal.progress(2, 10)
    run = spine.run_of(grant.run_id)
    assert (run.progress_done, run.progress_total) == (2, 10)
