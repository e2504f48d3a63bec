"""What a command costs before it does anything: imports are the cost of a run that cron starts."""

import subprocess
from collections.abc import Iterator
from statistics import median

from tests.bench.figures import Figure, in_turn, python, ratio_figure, server
from tests.bench.place import Place, place

BARE_CLICK = """
import click

@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", metavar="DIR", help="A folder.")
def program(root):
    \"\"\"Do things.\"\"\"

@program.command()
def run():
    \"\"\"Do one thing.\"\"\"

program(["--help"])
"""

UNAVOIDABLE = """
import os
import click, genai_prices, loguru, openai, pydantic, sqlalchemy
client = openai.OpenAI(api_key="none", base_url=os.environ["OPENAI_BASE_URL"], max_retries=0)
client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "say hello"}])
"""
"""The libraries that a run with one question works with, and the question, as the shortest program has them."""

_HEAVY = ("openai", "opentelemetry", "fastapi", "uvicorn", "grpc", "prometheus_client", "genai_prices")
"""What a run that is refused or skipped has no use for."""


def bench(rounds: int) -> Iterator[Figure]:
    """`--help`, a run with a question to a local server, its peak memory, and runs that are refused and skipped."""
    with place() as here, server("tests.servers.openai_server") as url:
        yield _help(here, rounds)
        yield from _run(here, rounds, url)
        yield _not_run(here, rounds, "a refused run (no model)", ["run", "question", "--model", "any"], code=78)
        yield _not_run(here, rounds, "a refused run (unknown job)", ["run", "no_such_job"], code=2)
        fire = ["run", "nothing", "--scheduled-for", "2026-01-01T00:00:00Z"]
        here.taskpilot(*fire)
        yield _not_run(here, rounds, "a skipped run (fire claimed)", fire, code=11)


def _help(here: Place, rounds: int) -> Figure:
    pairs = in_turn(rounds, lambda: here.taskpilot("--help"), lambda: here.program(BARE_CLICK))
    ours = f"{median(one.cpu_seconds for one, _ in pairs) * 1000:.0f} ms CPU"
    return ratio_figure("--help", ours, [one.cpu_seconds / other.cpu_seconds for one, other in pairs], "a bare click program", at_most=1.25)


def _run(here: Place, rounds: int, url: str) -> Iterator[Figure]:
    there = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
    question = ("run", "question", "--model", "gpt-4o-mini", "--json")
    pairs = in_turn(rounds, lambda: here.taskpilot(*question, **there), lambda: here.program(UNAVOIDABLE, **there))
    assert {one.code for pair in pairs for one in pair} == {0}
    ours = f"{median(one.cpu_seconds for one, _ in pairs) * 1000:.0f} ms CPU"
    ratios = [one.cpu_seconds / other.cpu_seconds for one, other in pairs]
    yield ratio_figure("run, one question", ours, ratios, "its unavoidable imports and the call", at_most=1.15)
    peak = f"{median(one.peak_mib for one, _ in pairs):.0f} MiB"
    ratios = [one.peak_mib / other.peak_mib for one, other in pairs]
    yield ratio_figure("run, peak of the larger process", peak, ratios, "the same imports and call", at_most=None)


def _not_run(here: Place, rounds: int, name: str, arguments: list[str], *, code: int) -> Figure:
    """A run that starts nothing; which modules that needed is told by the interpreter itself."""
    told = subprocess.run(
        python("-X", "importtime", "-m", "taskpilot", *arguments), cwd=here.root, env=here.environment, capture_output=True, text=True
    )
    assert told.returncode == code, told.stderr
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in told.stderr.splitlines() if line.startswith("import time:")}
    woken = sorted(loaded.intersection(_HEAVY))
    spent = [one.cpu_seconds for (one,) in in_turn(rounds, lambda: here.taskpilot(*arguments))]
    what = f"loads {', '.join(woken)}" if woken else "loads no openai, OpenTelemetry, gRPC or web"
    return Figure(name, f"{median(spent) * 1000:.0f} ms CPU", what, "no openai", "openai" not in woken)
