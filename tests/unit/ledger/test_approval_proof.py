"""Random sequences of answers, expiries, fires, kills and forged links: no call without exactly its yes, none twice, each answered once.

`APPROVAL_SEQUENCES` sets their number, `APPROVAL_SEED` repeats a run of this test. 500 of them made 337 calls for 434 approvals, with 306
kills, in 13 minutes on a machine with a load of 10 (seed 777842185).
"""

import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from taskpilot import RunContext, every, job, tool
from taskpilot.context import scope
from taskpilot.domain.decisions import Decision, DecisionStatus, Via
from taskpilot.domain.errors import TaskPilotError, TransitionRefused
from taskpilot.domain.runs import RunStatus
from taskpilot.domain.steps import StepKind, StepStatus
from taskpilot.ledger.claims import Claim
from taskpilot.services.approvals import approve_decision, grant_decision, reject_decision
from taskpilot.services.links import LinkState, answer_by_link
from taskpilot.store.approval_links import issue_link, link_token
from tests.asking import RULES
from tests.spine import Killed, Spine

SEQUENCES = int(os.environ.get("APPROVAL_SEQUENCES", "100"))
SEED = int(os.environ.get("APPROVAL_SEED", random.SystemRandom().randrange(10**9)))
STEPS = 9
HOUR = timedelta(hours=1)


@dataclass
class World:
    """What the job and its tool read: a test changes it between two attempts."""

    calls: Path
    run_id: str = ""
    arguments: list[str] = field(default_factory=list)
    dies: str = ""
    """Where the process of this attempt dies: `before` or `after` the effect of a call, or `kill -9` there."""


WORLD: World


@tool
def refund(customer: str) -> str:
    """Refund a customer, and say so in a file that no kill takes back."""
    if WORLD.dies == "before":
        raise Killed
    descriptor = os.open(WORLD.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{WORLD.run_id} {customer}\n".encode())
    os.close(descriptor)
    if WORLD.dies == "after":
        raise Killed
    if WORLD.dies == "kill -9":
        os.kill(os.getpid(), signal.SIGKILL)
    return "refunded"


def asking(name: str, **options: Any) -> Callable[[RunContext], list[Any]]:
    """A job that makes refunds, each of which a person must approve."""

    @job(name=name, tools=[refund], **options)
    def asks(ctx: RunContext) -> list[Any]:
        WORLD.run_id = ctx.run_id
        return ctx.map(lambda customer: ctx.call(refund, customer=customer), list(WORLD.arguments), on_error="collect")

    return asks


JOBS = [
    asking("hourly", schedule=every("1h"), approval_timeout="next_fire"),
    asking("daily", schedule=every("1h"), approval_timeout="90m"),
    asking("plain", approval_timeout="2h", overlap="allow_all"),
]


class Sequence:
    """One sequence: what a person, the clock, a server and a thief do to the runs of one job."""

    def __init__(self, spine: Spine, dice: random.Random, done: Counter[str]) -> None:
        self.spine, self.dice, self.done = spine, dice, done
        self.job = dice.choice(JOBS)
        self.runs: list[str] = []
        self.yes: Counter[str] = Counter()
        """By decision: the answers that were taken."""
        self.no: Counter[str] = Counter()
        self.used: list[str] = []
        """Links that answered."""

    def play(self) -> None:
        WORLD.arguments = [f"{self.dice.randrange(10**6)}" for _ in range(self.dice.randint(1, 2))]
        self.start()
        actions = [self.approve, self.reject, self.together, self.by_link, self.link_again, self.forged, self.later, self.next_fire]
        actions += [self.resume, self.resume, self.killed, self.changed, self.expire, self.grant]
        for _ in range(STEPS):
            action = self.dice.choice(actions)
            self.done[action.__name__] += 1
            action()
            if action in (self.approve, self.by_link, self.grant) and self.dice.random() < 0.5:
                self.resume()
        for run_id in self.runs:
            self.resume(run_id)
        self.check()

    def attempt(self, claim: Claim) -> None:
        with suppress(TaskPilotError):
            ran = self.spine.attempt(self.job, claim.grant)
            expired = [one for one in self.spine.decisions(ran.run.id) if one.status is DecisionStatus.EXPIRED]
            # A question about a call that the job no longer makes does not matter.
            met = any(one.arguments["customer"] in WORLD.arguments for one in expired)
            assert not (met and ran.run.status is RunStatus.SUCCEEDED), ran.run

    def start(self) -> None:
        claim = self.spine.ledger.claim(self.spine.plan(self.job))
        if isinstance(claim, Claim):
            self.runs.append(claim.run.id)
            self.attempt(claim)

    def pending(self) -> Decision | None:
        found = [one for run_id in self.runs for one in self.spine.decisions(run_id) if one.status is DecisionStatus.PENDING]
        return self.dice.choice(found) if found else None

    def take(self, asked: Decision, *, yes: bool) -> None:
        service = approve_decision if yes else reject_decision
        with suppress(TransitionRefused):
            service(self.spine.deployment, asked.id, by="ada", note="")
            (self.yes if yes else self.no)[asked.id] += 1

    def approve(self) -> None:
        if asked := self.pending():
            self.take(asked, yes=True)

    def reject(self) -> None:
        if asked := self.pending():
            self.take(asked, yes=False)

    def together(self) -> None:
        """Two people answer, and the time may end, at once."""
        if asked := self.pending():
            if self.dice.random() < 0.3 and asked.expires_at is not None:
                self.spine.clock.set(max(self.spine.clock(), asked.expires_at))
            with ThreadPoolExecutor(3) as pool:
                ends = [
                    pool.submit(self.take, asked, yes=True),
                    pool.submit(self.take, asked, yes=False),
                    pool.submit(self.spine.ledger.expire),
                ]
                for end in ends:
                    end.result()

    def token(self, asked: Decision) -> str:
        with self.spine.store.write() as connection:
            issue_link(connection, asked)
            return link_token(connection, asked) or ""

    def by_link(self) -> None:
        if asked := self.pending():
            token, yes = self.token(asked), self.dice.random() < 0.7
            found, given = answer_by_link(self.spine.deployment, token, approve=yes, by="bob", note="")
            assert (given is None) == (found.state is not LinkState.OPEN)
            if given is not None:
                (self.yes if yes else self.no)[asked.id] += 1
                self.used.append(token)

    def link_again(self) -> None:
        for token in self.used[-2:]:
            found, given = answer_by_link(self.spine.deployment, token, approve=True, by="thief", note="")
            assert (found.state, given) == (LinkState.ANSWERED, None)

    def forged(self) -> None:
        if asked := self.pending():
            token = self.token(asked)
            at = self.dice.randrange(len(token))
            wrong = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
            found, given = answer_by_link(self.spine.deployment, wrong, approve=True, by="thief", note="")
            assert (found.state, given) == (LinkState.FORGED, None)

    def later(self) -> None:
        self.spine.clock.advance(self.dice.choice([HOUR / 3, HOUR, 2 * HOUR]))

    def expire(self) -> None:
        self.spine.ledger.expire()

    def next_fire(self) -> None:
        self.spine.clock.advance(HOUR)
        claim = self.spine.ledger.claim(self.spine.plan(self.job, scheduled_for=self.spine.clock()))
        if isinstance(claim, Claim):
            self.runs.append(claim.run.id)
            self.attempt(claim)

    def claimed(self, run_id: str | None = None) -> Claim | None:
        with suppress(TransitionRefused):
            return self.spine.ledger.resume(self.spine.plan(self.job, run_id=run_id or self.dice.choice(self.runs)))
        return None

    def resume(self, run_id: str | None = None) -> None:
        if claim := self.claimed(run_id):
            self.attempt(claim)

    def killed(self) -> None:
        """The process of an attempt dies before, in or after an effect; some by a real kill -9."""
        if not (claim := self.claimed()):
            return
        WORLD.dies = self.dice.choice(["before", "after", "after", "kill -9"])
        try:
            if WORLD.dies == "kill -9":
                self.in_a_process(claim)
            else:
                session = self.spine.session(self.job, claim.grant)
                with suppress(BaseException), scope.entered(""):
                    session.spec.function(RunContext(session))
        finally:
            WORLD.dies = ""
        # Its supervisor, or the next process, finds that it is gone.
        self.spine.clock.advance(timedelta(minutes=2))
        self.spine.ledger.reap()

    def in_a_process(self, claim: Claim) -> None:
        self.spine.store.dispose()
        if (child := os.fork()) == 0:
            self.spine.store.after_fork(busy_seconds=5)
            with suppress(BaseException):
                self.attempt(claim)
            os._exit(0)
        os.waitpid(child, 0)

    def changed(self) -> None:
        WORLD.arguments[self.dice.randrange(len(WORLD.arguments))] = f"{self.dice.randrange(10**6)}"

    def grant(self) -> None:
        if (asked := self.pending()) and self.dice.random() < 0.3:
            with suppress(TransitionRefused):
                until = self.spine.clock() + HOUR
                grant_decision(self.spine.deployment, asked.id, until=until, uses=2, by="ada", note="")
                self.yes[asked.id] += 1

    def check(self) -> None:
        calls = Counter(WORLD.calls.read_text("utf-8").splitlines() if WORLD.calls.exists() else [])
        WORLD.calls.unlink(missing_ok=True)
        allowed: Counter[str] = Counter()
        for run_id in self.runs:
            asked = self.spine.decisions(run_id)
            for one in asked:
                answers = (self.yes[one.id], self.no[one.id])
                match one.status:
                    case DecisionStatus.APPROVED:
                        assert answers == ((0, 0) if one.via is Via.GRANT else (1, 0)), one
                        allowed[f"{run_id} {one.arguments['customer']}"] += 1
                    case DecisionStatus.REJECTED:
                        assert answers == (0, 1), one
                    case _:
                        assert answers == (0, 0), one
            assert not any(one.status is DecisionStatus.FINAL for one in asked)
            for step in self.spine.steps(run_id, StepKind.CALL):
                if step.status in (StepStatus.SUCCEEDED, StepStatus.UNKNOWN):
                    (decision,) = [one for one in asked if one.id == step.decision_id]
                    assert (decision.status, decision.arguments) == (DecisionStatus.APPROVED, step.input)
        assert all(number == 1 for number in calls.values()), calls
        assert not calls - allowed, (calls, allowed)
        self.done["calls made"] += sum(calls.values())
        self.done["approvals"] += sum(allowed.values())


@pytest.fixture
def make_spine(tmp_path: Path) -> Iterator[Callable[[], Spine]]:
    opened: list[Spine] = []

    def make() -> Spine:
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        (folder / "ask.rego").write_text(RULES, encoding="utf-8")
        opened.append(Spine(folder, settings='[policy]\nfiles = ["ask.rego"]\n'))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_call_without_exactly_its_yes_and_each_question_is_answered_once(make_spine: Callable[[], Spine], tmp_path: Path) -> None:
    global WORLD  # noqa: PLW0603 - the tool is a plain function
    sys.stderr.write(f"APPROVAL_SEED={SEED}\n")
    dice, done = random.Random(SEED), Counter[str]()
    WORLD = World(tmp_path / "calls")
    spine = make_spine()
    for number in range(SEQUENCES):
        if number % 50 == 49:
            # A store of many runs is slower, and proves nothing more.
            spine = make_spine()
        Sequence(spine, dice, done).play()
    sys.stderr.write(f"{dict(done)}\n")
    assert done["calls made"] > SEQUENCES / 10
