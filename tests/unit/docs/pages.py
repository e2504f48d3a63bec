"""The pages that users read, cut into their fenced blocks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[3]
DOCS: Final = REPOSITORY / "taskpilot" / "docs"
PAGES: Final = (REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")))
_FENCE: Final = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> Iterator[Block]:
    """Those of all pages in one of the languages, or all."""
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            if not languages or found[1] in languages:
                yield Block(path.name, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def text_of(topic: str) -> str:
    return (DOCS / f"{topic}.md").read_text(encoding="utf-8")


def all_text() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in PAGES)


def rows_of(text: str) -> list[list[str]]:
    """The rows of all tables, as their cells; a `|` in code is escaped."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
