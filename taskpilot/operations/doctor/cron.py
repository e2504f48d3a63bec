"""What cron would give and do: this user's crontab lines for this root, and the environment that a line starts in."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Final

from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.operations.doctor.case import Case
from taskpilot.operations.doctor.crontab import Line, taskpilot_lines
from taskpilot.operations.doctor.findings import Code, Finding, unchecked

CRON_PATH: Final = "/usr/bin:/bin"
"""What cron gives where the crontab sets no PATH."""
_LIST_SECONDS: Final = 2.0
_EXAMPLE: Final = "crontab.example shows a whole line"


def examine_cron(case: Case) -> Iterator[Finding]:
    """What would go wrong with the lines of `crontab -l`."""
    around = case.around
    absent = [name for name, value in (("PATH", around.path), ("HOME", around.home)) if not value]
    if absent:
        sentence = f"{' and '.join(absent)} not set in this environment: git and other programs are not found by jobs"
        yield Finding(Code.CRON_ENVIRONMENT, sentence, f"write {absent[0]}=... at the top of the crontab, or in the unit")
    listing = shutil.which("crontab", path=around.path or CRON_PATH)
    if listing is None:
        yield Finding(Code.CRON_NONE, "there is no `crontab` command here, so there are no lines to look at")
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
    lines = [line for line in taskpilot_lines(text, home=around.home) if _ours(case, line)]
    if not lines:
        yield Finding(Code.CRON_NONE, "no line of this user's crontab starts taskpilot for this root", f"{_EXAMPLE}, where you want one")
        return
    flaws = [finding for line in lines for finding in _flaws(case, line)] + list(_shell_only(case, lines))
    yield from flaws
    if not flaws:
        yield Finding(Code.CRON_OK, f"crontab lines for this root: {len(lines)}, each with all that it needs")


def _ours(case: Case, line: Line) -> bool:
    """Whether the line is for this root, or does not say for which."""
    root = case.settings.root
    if line.root is not None and line.root.startswith("/"):
        return Path(line.root).resolve() == root
    if line.folder is not None and line.folder.startswith("/"):
        return Path(line.folder).resolve().is_relative_to(root)
    return True


def _flaws(case: Case, line: Line) -> Iterator[Finding]:
    where = f"crontab line {line.number}"
    in_folder = line.folder is not None and line.folder.startswith("/")
    if line.bare_percent:
        yield Finding(Code.CRON_PERCENT, f"{where} has a bare %: cron ends the command there", "write \\% for each % of it")
    if (flaw := _program_flaw(line, in_folder=in_folder)) is not None:
        yield Finding(Code.CRON_COMMAND, f"{where}: {flaw}", f"write the whole path: {_own_program()}")
    if not in_folder and not (line.root or "").startswith(("/", "$")):
        sentence = f"{where} names no absolute root, and cron starts in the home folder"
        yield Finding(Code.CRON_NO_ROOT, sentence, f"write taskpilot --root {quote(str(case.settings.root))} ...")
    if line.job is not None:
        yield from _run_flaws(case, line, line.job)


def _run_flaws(case: Case, line: Line, job: str) -> Iterator[Finding]:
    """What is wrong with how the line runs its job."""
    where, shown = f"crontab line {line.number}", one_line(job)
    catalog = case.catalog if isinstance(case.catalog, JobCatalog) else None
    spec = catalog.jobs.get(job) if catalog else None
    if line.option("--quiet") is None:
        yield Finding(Code.CRON_NOT_QUIET, f"{where} has no --quiet: cron mails each success", f"add --quiet to `run {shown}`")
    if line.option("--scheduled-for") is None and (spec is None or spec.schedule is not None):
        sentence = f"{where} claims no fire: a second line, or a retry by hand, runs the job twice"
        yield Finding(Code.CRON_NO_FIRE, sentence, f"add --scheduled-for auto to `run {shown}`")
    if line.option("--scheduled-for") == "auto" and spec is not None and spec.schedule is None:
        sentence = f"{where} asks for the fire of {shown}, which has no schedule: each start is exit 2"
        yield Finding(Code.CRON_NO_SCHEDULE, sentence, "give the job schedule=cron(...) with the times of the line")
    if catalog is not None and spec is None and "$" not in job and not any(job in broken.names for broken in catalog.broken):
        yield Finding(Code.CRON_UNKNOWN_JOB, f"{where} runs {shown}, which no file defines", "`taskpilot jobs` lists those that are")


def _program_flaw(line: Line, *, in_folder: bool) -> str | None:
    """What cron would not find; a variable that the crontab does not set is the shell's to fill, and is left alone."""
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


def _shell_only(case: Case, lines: list[Line]) -> Iterator[Finding]:
    """Settings of this shell that a line would not have."""
    ours = [source.removeprefix("env ") for source in case.settings.sources.values() if source.startswith("env ")]
    for line in lines:
        lost = [name for name in ours if name not in line.variables]
        if lost and not line.reads_a_file:
            sentence = f"crontab line {line.number} does not have what this shell sets: {', '.join(sorted(set(lost)))}"
            mend = f"put it into taskpilot.toml, a key into a file that the line reads first; {_EXAMPLE}"
            yield Finding(Code.CRON_SHELL_ONLY, sentence, mend)


def _own_program() -> str:
    beside = Path(sys.executable).with_name("taskpilot")
    return str(beside) if beside.exists() else f"{sys.executable} -m taskpilot"
