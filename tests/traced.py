"""What traces.jsonl says, for tests that read it."""

import json
from pathlib import Path
from typing import Any


def spans(home: Path) -> dict[str, dict[str, Any]]:
    """The spans of traces.jsonl by name; a name that stands twice is an error here."""
    found: dict[str, dict[str, Any]] = {}
    for line in (home / "traces.jsonl").read_text().splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    assert span["name"] not in found
                    found[span["name"]] = span
    return found


def attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}
