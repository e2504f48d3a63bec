"""Checks this user's crontab lines for this root, and the environment that cron gives them."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from taskpilot.diagnostics.context import CheckContext
from taskpilot.diagnostics.findings import Code, Finding, found, unchecked
from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import JobCatalog

_ASSIGNMENT: Final = re.compile(r"^\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")
_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_BARE_PERCENT: Final = re.compile(r"(?<!\\)%")
_ENDS: Final = frozenset({";", "&", "&&", "|", "||", ">", ">>", "<", ">&", "&>", "|&", ";;"})
_BEGINS: Final = _ENDS | {"(", "-m", "exec", "nice", "env", "!", "then"}
"""Words after which a command begins."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line that starts taskpilot, as the user wrote it."""

    number: int
    """In the crontab, from 1."""
    program: str
    """The program as written, with its variables filled in."""
    arguments: tuple[str, ...]
    folder: str | None
    """The folder of a `cd` before it, or None."""
    bare_percent: bool
    """Whether a % is not escaped: cron ends the command there."""
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
        """The value of `--root`."""
        return self.option("--root")

    def option(self, name: str) -> str | None:
        """An option's value; empty where it has none, None where the option is absent."""
        for index, word in enumerate(self.arguments):
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
            if word == name:
                return self.arguments[index + 1] if index + 1 < len(self.arguments) else ""
        return None


def taskpilot_lines(text: str, *, home: str | None) -> list[Line]:
    """Every line of a crontab that starts taskpilot. A line that no shell would understand is read as far as possible."""
    variables = {"HOME": home} if home else {}
    lines = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if assignment := _ASSIGNMENT.match(line):
            variables[assignment[1]] = _unquoted(assignment[2])
            continue
        parts = line.split(None, 1 if line.startswith("@") else 5)
        command = parts[-1] if len(parts) == (2 if line.startswith("@") else 6) else ""
        if (one := _read(number, command, variables)) is not None:
            lines.append(one)
    return lines


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
    """Whether a command begins with the word; in `cd /srv/taskpilot` it is an argument."""
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


CRON_PATH: Final = "/usr/bin:/bin"
"""What cron gives where the crontab sets no PATH."""
_LIST_SECONDS: Final = 2.0


def examine_cron(context: CheckContext) -> Iterator[Finding]:
    """What would go wrong with the lines of `crontab -l`."""
    around = context.around
    absent = [name for name, value in (("PATH", around.path), ("HOME", around.home)) if not value]
    if absent:
        yield found(Code.CRON_ENVIRONMENT, variables=" and ".join(absent), variable=absent[0])
    listing = shutil.which("crontab", path=around.path or CRON_PATH)
    if listing is None:
        yield found(Code.CRON_NONE, why="there is no `crontab` command here, so there are no lines to check", fix="")
        return
    try:
        done = subprocess.run([listing, "-l"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_LIST_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield unchecked("cron", f"`crontab -l` did not answer: {one_line(str(error))}")
        return
    said = one_line(done.stderr.decode("utf-8", "replace"))
    if done.returncode and "no crontab" not in said:
        yield unchecked("cron", f"`crontab -l` ended with {done.returncode}: {said}")
        return
    text = "" if done.returncode else done.stdout.decode("utf-8", "replace")
    lines = [line for line in taskpilot_lines(text, home=around.home) if _ours(context, line)]
    if not lines:
        why = "no line of this user's crontab starts taskpilot for this root"
        yield found(Code.CRON_NONE, why=why, fix="crontab.example shows a whole line, if you want one")
        return
    flaws = [finding for line in lines for finding in _flaws(context, line)]
    yield from flaws
    if not flaws:
        yield found(Code.CRON_OK, count=len(lines))


def _ours(context: CheckContext, line: Line) -> bool:
    """Whether the line is for this root, or names none."""
    root = context.settings.root
    if line.root is not None and line.root.startswith("/"):
        return Path(line.root).resolve() == root
    if line.folder is not None and line.folder.startswith("/"):
        return Path(line.folder).resolve().is_relative_to(root)
    return True


def _flaws(context: CheckContext, line: Line) -> Iterator[Finding]:
    in_folder = line.folder is not None and line.folder.startswith("/")
    if line.bare_percent:
        yield found(Code.CRON_PERCENT, line=line.number)
    if (flaw := _program_flaw(line, in_folder=in_folder)) is not None:
        yield found(Code.CRON_COMMAND, line=line.number, why=flaw, program=_own_program())
    if not in_folder and not (line.root or "").startswith(("/", "$")):
        yield found(Code.CRON_NO_ROOT, line=line.number, root=context.settings.root)
    if line.job is not None:
        yield from _run_flaws(context, line, line.job)
    lost = sorted(set(context.settings.variables.values()) - set(line.variables))
    if lost and not line.reads_a_file:
        yield found(Code.CRON_SHELL_ONLY, line=line.number, variables=", ".join(lost))


def _run_flaws(context: CheckContext, line: Line, job: str) -> Iterator[Finding]:
    """What is wrong with how the line runs its job."""
    number, shown = line.number, one_line(job)
    catalog = context.catalog if isinstance(context.catalog, JobCatalog) else None
    spec = catalog.jobs.get(job) if catalog else None
    if line.option("--quiet") is None:
        yield found(Code.CRON_NOT_QUIET, line=number, job=shown)
    if line.option("--scheduled-for") is None and (spec is None or spec.schedule is not None):
        yield found(Code.CRON_NO_FIRE, line=number, job=shown)
    if line.option("--scheduled-for") == "auto" and spec is not None and spec.schedule is None:
        yield found(Code.CRON_NO_SCHEDULE, line=number, job=shown)
    if catalog is not None and spec is None and "$" not in job and not any(job in broken.names for broken in catalog.broken):
        yield found(Code.CRON_UNKNOWN_JOB, line=number, job=shown)


def _program_flaw(line: Line, *, in_folder: bool) -> str | None:
    """What cron would not find; a program behind a variable that the crontab does not set is not checked."""
    program = one_line(line.program, limit=100)
    if "$" in line.program:
        return None
    if "/" not in line.program:
        path = line.variables.get("PATH", CRON_PATH)
        return None if shutil.which(line.program, path=path) else f"{program} is not in cron's PATH ({one_line(path, limit=100)})"
    if line.program.startswith("/"):
        return None if Path(line.program).exists() else f"{program} does not exist"
    if in_folder and (Path(line.folder or "/") / line.program).exists():
        return None
    return f"{program} is a relative path, and cron starts in the home folder"


def _own_program() -> str:
    beside = Path(sys.executable).with_name("taskpilot")
    return str(beside) if beside.exists() else f"{sys.executable} -m taskpilot"
