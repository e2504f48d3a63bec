"""Many model calls at once: `ctx.map` over a server that answers after 50 ms, against threads with the bare SDK."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median

from taskpilot.app.wiring import App
from taskpilot.config import load
from taskpilot.domain.runs import RunStatus
from taskpilot.runner import Runner
from tests.bench.figures import Figure, in_turn, ratio_figure, server
from tests.bench.place import place
from tests.bench.record import claim

JOBS = '''
from taskpilot import Budget, RunContext, job


@job(model="bench", budget=Budget(llm_calls=100_000, unpriced="allow"))
def fan_out(ctx: RunContext, calls: int, concurrency: int) -> int:
    """Asks many questions, some at once."""
    return len(ctx.map(lambda number: ctx.ask("helper", f"question {number}"), range(calls), concurrency=concurrency))
'''


@dataclass(frozen=True)
class Took:
    """Calls a second, and milliseconds of this process's CPU a call."""

    calls: float
    cpu: float


def bench(rounds: int) -> Iterator[Figure]:
    """Calls a second and CPU a call with 100 at once, and how 1,000 calls do against 250."""
    with server("tests.bench.slow_model") as url, place() as here:
        (here.root / "jobs" / "fan.py").write_text(JOBS)
        app = App(
            load(
                root=here.root,
                environ={
                    "OTEL_ENABLED": "false",
                    "TASKPILOT_HOUSEKEEPING": "off",
                    "OPENAI_BASE_URL": url,
                    "OPENAI_API_KEY": "none",
                    # No supervisor renews it here, and a busy machine may need minutes for 1,000 calls.
                    "TASKPILOT_LEASE_SECONDS": "3600",
                },
            )
        )
        try:
            few = max(1, rounds // 5)
            # One round only shows that it can be run.
            part = 1 if rounds > 1 else 20
            works = (lambda: _ours(app, 500 // part, 100), lambda: _bare(url, 500 // part, 100), lambda: _ours(app, 500 // part, 8))
            taken = in_turn(few, *works)
            ours, bare, eight = (list(each) for each in zip(*taken, strict=True))
            value = f"{median(one.calls for one in ours):.0f} calls/s"
            ratios = [one.calls / other.calls for one, other in zip(ours, bare, strict=True)]
            peer = f"bare SDK threads ({median(one.calls for one in bare):.0f} calls/s)"
            yield ratio_figure("500 calls, 100 at once", value, ratios, peer, at_least=0.7)
            value = f"{median(one.cpu for one in ours):.1f} ms CPU"
            ratios = [one.cpu / other.cpu for one, other in zip(ours, bare, strict=True)]
            yield ratio_figure("a call's CPU", value, ratios, f"bare SDK threads ({median(one.cpu for one in bare):.1f} ms)", at_most=1.5)
            value = f"{median(one.calls for one in eight):.0f} calls/s"
            ratios = [one.calls / other.calls for one, other in zip(ours, eight, strict=True)]
            yield ratio_figure("500 calls, 8 at once", value, ratios, "of it with 100 at once")
            pairs = in_turn(few, lambda: _ours(app, 1000 // part, 100), lambda: _ours(app, 250 // part, 100))
            value = f"{median(one.calls for one, _ in pairs):.0f} calls/s"
            yield ratio_figure("1,000 calls, time a call", value, [two.calls / one.calls for one, two in pairs], "250 calls", at_most=1.35)
        finally:
            app.deployment.close()


def _measured(calls: int, work: Callable[[], None]) -> Took:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Took(calls / (time.perf_counter() - wall), (time.process_time() - cpu) * 1000 / calls)


def _ours(app: App, calls: int, concurrency: int) -> Took:
    def work() -> None:
        spec = app.deployment.catalog.get("fan_out")
        grant = claim(app, spec, {"calls": calls, "concurrency": concurrency}).grant
        app.deployment.make_run_dir(grant.run_id)
        session = app.open_session(spec, grant, 600.0)
        outcome = Runner(end=app.deployment.ledger.end, now=app.deployment.now).run(session, grant)
        assert (outcome.status, outcome.result) == (RunStatus.SUCCEEDED, calls), outcome

    return _measured(calls, work)


def _bare(url: str, calls: int, concurrency: int) -> Took:
    def work() -> None:
        from openai import OpenAI

        client = OpenAI(base_url=url, api_key="none", max_retries=0)

        def ask(number: int) -> str | None:
            reply = client.chat.completions.create(model="bench", messages=[{"role": "user", "content": f"question {number}"}])
            return reply.choices[0].message.content

        with client, ThreadPoolExecutor(concurrency) as pool:
            assert len(list(pool.map(ask, range(calls)))) == calls

    return _measured(calls, work)
