"""Random sequences of edited policies, restarts, answers of people, resumes and kills, with tools that count what they do.

By hand, at full size: `python -m tests.answers_storm 500 [SEED]`.
"""

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

from taskpilot import Denied, RunContext, job, tool
from taskpilot.app.wiring import App
from taskpilot.config import SETTINGS_FILE, load
from taskpilot.context.session import Session
from taskpilot.domain.chat import ChatRequest
from taskpilot.domain.decisions import DecisionStatus
from taskpilot.domain.reasons import Reason, ReasonCode
from taskpilot.domain.runs import RESUMABLE, Outcome, RunStatus
from taskpilot.domain.steps import StepAnswer, StepKind
from taskpilot.domain.tasks import TaskStatus
from taskpilot.runner import Runner
from taskpilot.services.approvals import approve_decision, approve_task, reject_decision, reject_task
from taskpilot.services.running import answer_step
from taskpilot.store import database, listings, tasks
from taskpilot.testing import ScriptedModel, tool_call
from tests.spine import Killed, Spine
from tests.templates import write_store

PACKAGE: Final = "package taskpilot.tools\n"
ASK: Final = 'require_approval contains "a person decides" if input.tool == "send"\n'
ASK_SOME: Final = 'require_approval contains "a person decides" if contains(input.arguments.text, "2")\n'
DENY: Final = 'deny contains "not now" if input.tool == "send"\n'
NO_TASKS: Final = 'deny contains "no tasks today" if input.tool == "create_task"\n'
POLICIES: Final = (None, ASK, ASK, ASK_SOME, DENY, NO_TASKS, ASK + NO_TASKS)


class Mortal(Runner):
    """Records nothing at the end of an attempt whose process died."""

    def _call(self, session: Session) -> tuple[Any, BaseException | None]:
        result, error = super()._call(session)
        if isinstance(error, Killed):
            raise error
        return result, error


class Night:
    """One run of one job, and everything that may happen to it; `check` fails where a promise is broken."""

    def __init__(self, root: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.sent: list[str] = []
        self.allowed: Counter[str] = Counter()
        """How often a person said explicitly that a text may be sent once more."""
        self.at_rejection: dict[str, int] = {}
        """The texts whose call a person rejected, and how often each was sent by then."""
        self.happened: Counter[str] = Counter()
        self.dies_after = -1
        self.root = root
        self.spine = Spine(root)
        self.follow(self.chance.choice(POLICIES))
        self.job = self._job()
        self.run_id = ""

    def _danger(self) -> None:
        """A place where kill -9 may come."""
        if self.dies_after == 0:
            self.dies_after = -1
            raise Killed
        self.dies_after -= 1

    def _job(self) -> Any:
        night = self

        @tool
        def send(text: str) -> str:
            """Send a text."""
            night._danger()
            if night.chance.random() < 0.1:
                raise ConnectionError("no line")
            night.sent.append(text)
            night._danger()
            return f"sent {text}"

        @job(name="night", tools=[send])
        def night_job(ctx: RunContext) -> int:
            """Send some texts by code and by a model."""

            def one(number: int) -> str:
                try:
                    return str(ctx.call("send", text=f"item {number}"))
                except Denied:
                    # It insists, which a person's no outlives too.
                    return str(ctx.call("send", text=f"item {number}"))

            ctx.map(one, range(3), on_error="collect")
            ctx.workflow("two greetings")
            night._danger()
            return len(night.sent)

        return night_job

    def _reply(self, request: ChatRequest) -> Any:
        self._danger()
        if request.agent == "planner":
            return {"tasks": [{"title": f"greet {number}", "priority": "low"} for number in (1, 2)]}
        if request.agent == "reviewer":
            return {"verdict": self.chance.choice(["APPROVE", "APPROVE", "REVIEW"]), "reason": ""}
        name = "greet 1" if "greet 1" in request.messages[1].content else "greet 2"
        answers = [message.content for message in request.messages if message.role == "tool"]
        if not answers or (len(answers) == 1 and answers[0].startswith("denied")):
            return [tool_call("send", text=name)]
        if len(answers) < 3:
            return [tool_call("create_task", title=name, priority="low")]
        return "Done."

    def follow(self, rules: str | None) -> None:
        """Writes the policy; nobody is told."""
        (self.root / "ours.rego").write_text(PACKAGE + (rules or ""))
        (self.root / SETTINGS_FILE).write_text("" if rules is None else '[policy]\nfiles = ["ours.rego"]\n')

    def restart(self) -> None:
        """The process that starts attempts is another one from here on."""
        self.spine.close()
        self.spine.app = App(load(root=self.root, environ={"TASKPILOT_HOUSEKEEPING": "off"}), now=self.spine.clock)
        self.spine.deployment = self.spine.app.deployment
        self.spine.store, self.spine.ledger = self.spine.deployment.store, self.spine.deployment.ledger

    def attempt(self) -> None:
        """An attempt, which may be killed; as every starter does, it reads the settings first."""
        spine, model = self.spine, ScriptedModel(self._reply)
        spine.deployment.follow_settings()
        if not self.run_id:
            grant = spine.claim(self.job, model=model.name).grant
            self.run_id = grant.run_id
        else:
            with spine.store.read() as connection:
                status = spine.run_of(self.run_id).status
                if not tasks.may_resume(connection, self.run_id, status):
                    return
            grant = spine.ledger.resume(spine.plan(self.job, run_id=self.run_id)).grant
        self.dies_after = self.chance.choice([-1, self.chance.randrange(3), self.chance.randrange(12)])
        self.happened["attempt"] += 1
        try:
            Mortal(end=spine.ledger.end, now=spine.clock).run(spine.session(self.job, grant, model), grant)
        except Killed:
            self.happened["kill"] += 1
            spine.ledger.end(grant, Outcome(RunStatus.LOST, Reason(ReasonCode.SIGNAL), retry=True), active_seconds=1, keep_lease=False)

    def decide(self) -> None:
        """A person answers one of the run's questions about a call."""
        pending = [one for one in self.spine.decisions(self.run_id) if one.status is DecisionStatus.PENDING] if self.run_id else []
        if not pending:
            return
        one = self.chance.choice(pending)
        if self.chance.random() < 0.5:
            approve_decision(self.spine.deployment, one.id, by="ada", note="")
            self.happened["approval"] += 1
            # An equal call at another place: the last answer is about that one.
            self.at_rejection.pop(one.arguments["text"], None)
            if "earlier execution" in one.reasons[0]:
                self.allowed[one.arguments["text"]] += 1
        else:
            reject_decision(self.spine.deployment, one.id, by="ada", note="")
            self.happened["rejection"] += 1
            self.at_rejection.setdefault(one.arguments["text"], self.sent.count(one.arguments["text"]))

    def settle_task(self) -> None:
        """A person answers about one of the run's tasks, failed ones too."""
        found = (
            [task for task in self.spine.tasks(self.run_id) if task.status in (TaskStatus.REVIEW, TaskStatus.FAILED)] if self.run_id else []
        )
        if not found or self.spine.run_of(self.run_id).status is RunStatus.RUNNING:
            return
        task = self.chance.choice(found)
        if task.status is TaskStatus.REVIEW and self.chance.random() < 0.3:
            reject_task(self.spine.deployment, task.id, by="ada", note="")
            return
        repeat = task.status is TaskStatus.FAILED and self.chance.random() < 0.2
        said = approve_task(self.spine.deployment, task.id, by="ada", note="", repeat=repeat)
        self.happened["task again" if task.status is TaskStatus.FAILED else "task"] += 1
        if repeat:
            self.happened["repeat"] += 1
            self.allowed.update(step.input["text"] for step in said.effects)

    def settle_step(self) -> None:
        """A person answers about a call whose result is not known."""
        if not self.run_id or self.spine.run_of(self.run_id).status not in RESUMABLE:
            return
        with self.spine.store.read() as connection:
            found = [step for step in listings.uncertain_steps(connection, self.run_id) if step.kind is StepKind.CALL]
        if not found:
            return
        step = self.chance.choice(found)
        kind = self.chance.choice(["done", "fail", "again"])
        answer_step(self.spine.deployment, self.spine.run_of(self.run_id), StepAnswer(step.id, kind, result="sent"))  # type: ignore[arg-type]
        self.happened[f"step {kind}"] += 1
        if kind != "done":
            # A person said that it did not happen, or that it is to be made: another call is not a repetition.
            self.allowed[step.input["text"]] += 1

    def check(self) -> None:
        """No rejected call was made after the no, and no text was sent more often than it may have been."""
        for text, times in self.at_rejection.items():
            assert self.sent.count(text) == times, f"{text} was rejected and sent"
        for text in set(self.sent):
            assert self.sent.count(text) <= 1 + self.allowed[text], f"{text} was sent {self.sent.count(text)} times"

    def live(self, length: int) -> None:
        """One sequence."""
        steps = [self.attempt] * 4 + [self.decide] * 3 + [self.settle_task] * 2 + [self.settle_step, self.restart, self._edit, self._edit]
        for _ in range(length):
            self.chance.choice(steps)()
            self.check()
        # In the end all questions are answered, and the policy is gone.
        self.follow(None)
        for _ in range(length // 2):
            self.attempt()
            for answer in (self.decide, self.settle_task, self.settle_step):
                answer()
            self.check()

    def _edit(self) -> None:
        self.follow(self.chance.choice(POLICIES))
        self.happened["edit"] += 1


def storm(count: int, seed: int, *, length: int = 16) -> Counter[str]:
    """So many sequences; what happened in all of them. Raises AssertionError that names the seed of the one that failed."""
    total: Counter[str] = Counter()
    for number in range(seed, seed + count):
        with tempfile.TemporaryDirectory() as folder:
            night = Night(Path(folder), number)
            try:
                night.live(length)
            except BaseException as error:
                raise AssertionError(f"seed {number}: {error!r}") from error
            finally:
                night.spine.close()
            total += night.happened
            total["sent"] += len(night.sent)
            total["sequences"] += 1
    return total


if __name__ == "__main__":
    database.create = write_store
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(10**6)
    sys.stdout.write(f"seed {first}: {dict(storm(int(sys.argv[1]), first, length=24))}\n")
