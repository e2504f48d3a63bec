"""Turns an inbox of requests into reviewed tasks: plan, review and execute for each one."""

import csv
import io
import json
from pathlib import Path

from taskpilot import Budget, InputFile, ItemError, Retry, RunContext, cron, job

TEXT_FIELDS = ("title", "subject", "body", "text", "description")
"""Fields that hold the request itself; they come first."""


def read_requests(path: str, kind: str) -> list[str]:
    """The requests of an inbox: JSONL (text, or objects with a title and a body), CSV with a header, or text with one a line.

    In a .jsonl file a line that is not JSON is an error that names the line. Blank lines are skipped.
    """
    text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
    if kind == ".csv":
        return [as_request(row) for row in csv.DictReader(io.StringIO(text)) if any(row.values())]
    # Not splitlines: it also splits at separators such as U+2028, which a JSON text may contain.
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if kind in (".jsonl", ".ndjson"):
        return [as_request(parsed(line, number)) for number, line in lines]
    return [line for _number, line in lines]


def parsed(line: str, number: int) -> object:
    """Parses one line of JSON. Raises ValueError that names the line."""
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number} of the inbox is not JSON: {error}") from None


def as_request(value: object) -> str:
    """Returns the request as text: a text unchanged; of an object its text fields, then its other fields, one on each line."""
    if not isinstance(value, dict):
        return whole(str(value))
    said = [str(value[key]) for key in TEXT_FIELDS if value.get(key)]
    rest = [f"{key}: {part}" for key, part in value.items() if key not in TEXT_FIELDS and part not in (None, "")]
    return whole("\n\n".join([*said, "\n".join(rest)]).strip())


def whole(text: str) -> str:
    """Replaces lone surrogates, which JSON can contain but UTF-8 cannot, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def kind_of(path: str, text_format: str) -> str:
    """Returns the format as a file ending. Without an ending, as for `-`, the first line decides."""
    if text_format != "auto":
        return f".{text_format}"
    suffix = Path(path).suffix.lower()
    if suffix:
        return suffix
    with Path(path).open(encoding="utf-8-sig", errors="replace") as file:
        return ".jsonl" if file.readline().lstrip().startswith(("{", '"')) else ".txt"


@job(
    schedule=cron("0 7 * * mon-fri", timezone="Europe/Berlin"),
    deadline="15m",
    retry=Retry(attempts=3),
    # A request takes at least four calls. For a model without a price, such as a local one, only the limit on calls holds.
    budget=Budget(usd="1", llm_calls=2_000, unpriced="allow"),
    model="gpt-4o-mini",
)
def triage(ctx: RunContext, inbox: InputFile = "jobs/inbox.jsonl", text_format: str = "auto", concurrency: int = 8) -> str:
    """Turn the night's requests into reviewed tasks."""
    requests = ctx.step("read inbox", read_requests, inbox, kind_of(inbox, text_format))
    results = ctx.map(ctx.workflow, requests, concurrency=concurrency, on_error="collect")
    failed = [result for result in results if isinstance(result, ItemError)]
    for failure in failed:
        ctx.log.error("a request could not be handled", index=failure.index, cause=str(failure.cause))
    said = f"{len(results) - len(failed)} of {len(results)} requests handled"
    if not failed:
        return said
    first = failed[0]
    return f"{said}; {len(failed)} failed, the first one (number {first.index + 1}) with: {first.cause}"
