"""Turns an inbox of requests into reviewed tasks: plan, review and execute for each one."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from taskpilot import Budget, InputFile, ItemError, Retry, RunContext, cron, job

TEXT_FIELDS = ("title", "subject", "body", "text", "description")
"""Fields that hold the request itself; they come first."""
FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "csv"}
"""The formats of file endings; any other file is text, or JSON if it begins like JSON."""
NOT_TEXT = {
    b"PK\x03\x04": "a zip archive, as .xlsx and .docx files are",
    b"PK\x05\x06": "an empty zip archive",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"%PDF-": "a PDF file",
    b"\xd0\xcf\x11\xe0": "an old Office file, such as .xls",
    b"{\\rtf": "an RTF file",
    b"<?xml": "XML",
    b"<!doctype": "a web page",
    b"<html": "a web page",
}
"""How files begin that would be paid for as noise."""
LIKE_JSON = re.compile(r"""\s*(?:\{|\[\s*[\[{"\]]|"(?:[^"\\\n]|\\.)*"[ \t]*(?:\n|$))""")
"""An object, an array, or a first line that is one quoted text."""


def read_requests(path: str, text_format: str) -> list[str]:
    """The requests of an inbox: JSONL or a JSON array (texts, or objects with a title and a body), CSV with a header, or a text a line.

    The text is UTF-8, or UTF-16 with a byte order mark. Raises ValueError for anything else, with the line; blank requests are skipped.
    """
    text = decoded(Path(path).read_bytes()).replace("\r\n", "\n").replace("\r", "\n")
    form = text_format
    if form == "auto":
        form = FORMATS.get(Path(path).suffix.lower()) or ("json" if LIKE_JSON.match(text) else "txt")
    readers = {"jsonl": from_json, "ndjson": from_json, "json": from_json, "csv": from_csv, "txt": from_lines}
    if form not in readers:
        raise ValueError(f"text_format is {form!r}, not one of auto, {', '.join(readers)}")
    return [request for value in readers[form](text) if (request := as_request(value))]


def decoded(data: bytes) -> str:
    """The text of a file. Raises ValueError that says what the file is instead, or which line is not text."""
    begin = data[:16].lstrip().lower()
    for mark, what in NOT_TEXT.items():
        if begin.startswith(mark.lower()):
            raise ValueError(f"the inbox is {what}, not a text")
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count("\n".encode("utf-16-le" if utf_16 else "utf-8"), 0, error.start) + 1
        raise ValueError(f"line {line} of the inbox is not {'UTF-16' if utf_16 else 'UTF-8'}: save the file as UTF-8") from None
    if "\0" in text:
        raise ValueError(f"line {text.count(chr(10), 0, text.index(chr(0))) + 1} of the inbox has NUL bytes, which no text has")
    return text


def from_lines(text: str) -> Iterator[object]:
    """One request a line. Not splitlines: it also splits at separators such as U+2028, which a text may contain."""
    return (line.strip() for line in text.split("\n"))


def from_json(text: str) -> Iterator[object]:
    """The elements of one JSON array, or the JSON text of each line."""
    if text.lstrip().startswith("["):
        for number, value in enumerate(parsed(text, 1), start=1):
            yield checked(value, f"element {number}")
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield checked(parsed(line, number), f"line {number}")


def checked(value: object, where: str) -> object:
    """A text or an object unchanged. Raises ValueError for anything else: no request is a number or a list."""
    if not isinstance(value, str | dict):
        raise ValueError(f"{where} of the inbox is a {type(value).__name__}, neither a text nor an object")  # noqa: TRY004 - it is about a file
    return value


def parsed(text: str, first: int) -> Any:
    """Parses JSON that begins in line `first`. Raises ValueError that names the line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {first + error.lineno - 1} of the inbox is not JSON: {error.msg}") from None
    except RecursionError:
        raise ValueError(f"line {first} of the inbox is JSON that is nested too deeply") from None


def from_csv(text: str) -> Iterator[object]:
    """The rows of a CSV file as objects. The header tells whether commas, semicolons or tabs separate the fields."""
    header = text.lstrip("\n").partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    try:
        for row in rows:
            if None in row:
                raise ValueError(f"line {rows.line_num} of the inbox has more fields than the header")
            yield row
    except csv.Error as error:
        raise ValueError(f"line {rows.reader.line_num} of the inbox is not CSV: {error}") from None


def as_request(value: object) -> str:
    """Returns the request as text: a text unchanged; of an object its text fields, then its other fields, one on each line."""
    if not isinstance(value, dict):
        return whole(str(value)).strip()
    said = [str(value[key]) for key in TEXT_FIELDS if value.get(key)]
    rest = [f"{key}: {part}" for key, part in value.items() if key not in TEXT_FIELDS and part not in (None, "")]
    return whole("\n\n".join([*said, "\n".join(rest)]).strip())


def whole(text: str) -> str:
    """Replaces lone surrogates, which JSON can contain but UTF-8 cannot, by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


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
    requests = ctx.step("read inbox", read_requests, inbox, text_format)
    results = ctx.map(ctx.workflow, requests, concurrency=concurrency, on_error="collect")
    failed = [result for result in results if isinstance(result, ItemError)]
    for failure in failed:
        ctx.log.error("a request could not be handled", index=failure.index, cause=str(failure.cause))
    said = f"{len(results) - len(failed)} of {len(results)} requests handled"
    if not failed:
        return said
    first = failed[0]
    return f"{said}; {len(failed)} failed, the first one (number {first.index + 1}) with: {first.cause}"
