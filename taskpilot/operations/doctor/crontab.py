"""A user's crontab as text: the lines that start taskpilot, and what each says."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

_ASSIGNMENT: Final = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_BARE_PERCENT: Final = re.compile(r"(?<!\\)%")
_ENDS: Final = frozenset({";", "&", "&&", "|", "||", ">", ">>", "<", ">&", "&>", "|&", ";;"})
_BEGINS: Final = _ENDS | {"(", "-m", "exec", "nice", "env", "!", "then"}
"""Words behind which a command begins."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that starts taskpilot; its words are a person's own."""

    number: int
    """In the crontab, from 1."""
    program: str
    """What is started, as written, its variables put in."""
    arguments: tuple[str, ...]
    folder: str | None
    """Where `cd` went before, or None."""
    bare_percent: bool
    """Whether a % stands unescaped: cron ends the command there."""
    reads_a_file: bool
    """Whether a file of settings is read before (`. FILE`)."""
    variables: Mapping[str, str]
    """What the crontab and the line set for it."""

    @property
    def job(self) -> str | None:
        """The job that is run; None where the line runs none."""
        if "run" not in self.arguments:
            return None
        rest = self.arguments[self.arguments.index("run") + 1 :]
        return next((word for word in rest if not word.startswith("-")), None)

    @property
    def root(self) -> str | None:
        """What `--root` names."""
        return self.option("--root")

    def option(self, name: str) -> str | None:
        """An option's value; empty where it stands without one, None where it does not stand there."""
        for index, word in enumerate(self.arguments):
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
            if word == name:
                return self.arguments[index + 1] if index + 1 < len(self.arguments) else ""
        return None


def taskpilot_lines(text: str, *, home: str | None) -> list[Line]:
    """Every line of a crontab that starts taskpilot. A line that no shell would understand is read as far as it goes."""
    variables = {"HOME": home} if home else {}
    found = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if assignment := _ASSIGNMENT.match(line):
            variables[assignment[1]] = _unquoted(assignment[2])
            continue
        parts = line.split(None, 1 if line.startswith("@") else 5)
        command = parts[-1] if len(parts) == (2 if line.startswith("@") else 6) else ""
        one = _read(number, command, variables)
        if one is not None:
            found.append(one)
    return found


def _read(number: int, command: str, variables: Mapping[str, str]) -> Line | None:
    words = [_filled(word, variables) for word in _words(command.replace("\\%", "%"))]
    at = next((index for index, word in enumerate(words) if PurePath(word).name == "taskpilot" and _starts(words, index)), None)
    if at is None:
        return None
    module = at >= 2 and words[at - 1] == "-m"
    begin = at - 2 if module else at
    rest = words[at + 1 :]
    end = next((index for index, word in enumerate(rest) if word in _ENDS), len(rest))
    before = words[:begin]
    folder = next((before[index + 1] for index, word in enumerate(before[:-1]) if word == "cd"), None)
    own = {name: value for word in before if (match := _ASSIGNMENT.match(word)) for name, value in [(match[1], match[2])]}
    return Line(
        number=number,
        program=words[begin],
        arguments=tuple(rest[:end]),
        folder=folder,
        bare_percent=bool(_BARE_PERCENT.search(command)),
        reads_a_file=bool({".", "source"} & set(before)),
        variables={**variables, **own},
    )


def _starts(words: list[str], index: int) -> bool:
    """Whether the word stands where a command begins, and is no argument of another one, such as `cd /srv/taskpilot`."""
    before = words[index - 1] if index else ";"
    return before in _BEGINS or _ASSIGNMENT.match(before) is not None


def _words(command: str) -> list[str]:
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:
        return command.split()


def _filled(word: str, variables: Mapping[str, str]) -> str:
    filled = _VARIABLE.sub(lambda match: variables.get(match[1] or match[2], match[0]), word)
    return f"{variables['HOME']}{filled[1:]}" if filled.startswith("~/") and "HOME" in variables else filled


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'" else text
