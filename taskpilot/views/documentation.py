"""The pages of documentation that come with the program: by topic, and by a word in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from taskpilot.domain.errors import UsageError
from taskpilot.domain.text import one_line

_FOLDER: Final = Path(__file__).parents[1] / "docs"
_PICTURES: Final = {".png": "image/png", ".svg": "image/svg+xml"}
_HEADING: Final = re.compile(r"#+ (.+)")


@dataclass(frozen=True, slots=True)
class Topic:
    """One page."""

    name: str
    """As it is typed: the file's stem."""
    title: str
    text: str
    """Markdown."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a page that has the word that was looked for."""

    topic: str
    heading: str
    """The nearest one above."""
    line: str


def topics() -> list[Topic]:
    """Every page, by name."""
    return [_read(path) for path in sorted(_FOLDER.glob("*.md"))]


def topic(name: str) -> Topic:
    """One page. Raises UsageError that names what there is."""
    known = {path.stem: path for path in _FOLDER.glob("*.md")}
    if name in known:
        return _read(known[name])
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
    raise UsageError(f"there is no topic '{one_line(name, limit=60)}'", hint=hint)


def picture(name: str) -> tuple[bytes, str] | None:
    """A picture of the pages and its media type; None where there is none of that name."""
    known = {path.name: path for path in _FOLDER.iterdir() if path.suffix in _PICTURES}
    return (known[name].read_bytes(), _PICTURES[known[name].suffix]) if name in known else None


def find(word: str) -> Iterator[Place]:
    """The lines that hold a word or words, capitals or not."""
    for page in topics():
        heading, in_code = page.title, False
        for line in page.text.splitlines():
            in_code ^= line.startswith("```")
            if not in_code and (found := _HEADING.fullmatch(line)):
                heading = found[1]
            if word.casefold() in line.casefold():
                yield Place(page.name, heading, line.strip())


def _read(path: Path) -> Topic:
    text = path.read_text(encoding="utf-8")
    return Topic(path.stem, text.partition("\n")[0].lstrip("# "), text)
