"""What a person says of an uncertain step, as the options of `runs resume` give it."""

import json

import click

from taskpilot.operations.running import StepAnswer


def step_answer(step_id: str | None, *, done: str | None, again: bool, fail: bool) -> StepAnswer | None:
    """The answer; None where none is given. Raises click.UsageError for a half or a double one."""
    given = [name for name, value in (("--done", done is not None), ("--again", again), ("--fail", fail)) if value]
    if step_id is None:
        if given:
            raise click.UsageError(f"{given[0]} answers a step: name it with --step ID; `taskpilot runs show RUN` shows which")
        return None
    if len(given) != 1:
        raise click.UsageError("--step needs exactly one of --done JSON, --again and --fail")
    if done is not None:
        return StepAnswer(step_id, "done", _json(done))
    return StepAnswer(step_id, "again" if again else "fail")


def _json(text: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--done is no JSON: {error}; text stands in double quotes: --done '\"TICKET-7\"'") from None


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")
