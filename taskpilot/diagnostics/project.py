"""Root, settings, job files, policies and prices: each readable and fit for use."""

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from taskpilot.config import SETTINGS_FILE, check_trusted, find_root
from taskpilot.config.listing import listed
from taskpilot.deployment import check_policy
from taskpilot.diagnostics.context import CheckContext
from taskpilot.diagnostics.findings import Code, Finding, unchecked
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import BrokenFile, JobCatalog
from taskpilot.jobs.parameters import check_parameters
from taskpilot.llm.prices import Prices


def examine_root(cwd: Path | None, explicit: Path | None) -> Finding:
    """Whether there is a root for work that starts in `cwd`, and whether it can be trusted."""
    try:
        start = Path.cwd() if cwd is None else cwd
    except OSError:
        return Finding(Code.ROOT_INVALID, "the current folder is gone", "change into one that exists")
    try:
        root = find_root(start, explicit)
    except ConfigurationError as error:
        return Finding(Code.ROOT_INVALID, str(error), error.hint or "correct it, or name another root by --root")
    if root is None:
        return Finding(
            Code.ROOT_NONE,
            f"no TaskPilot root in {start} or above: no {SETTINGS_FILE}, and no pyproject.toml with [tool.taskpilot]",
            "taskpilot --root /path/to/project doctor; `taskpilot init DIR` makes a new one",
        )
    try:
        check_trusted(root)
    except ConfigurationError as error:
        return Finding(Code.ROOT_UNTRUSTED, str(error), error.hint or "")
    how = "named by --root" if explicit is not None else "the current folder" if root == start.resolve() else f"above {start}"
    return Finding(Code.ROOT_OK, f"{root}, {how}")


_ELSEWHERE: Final = {"prices_file": "prices"}
"""Fields whose problems are told by another subject."""


def examine_settings(context: CheckContext) -> Iterator[Finding]:
    """What is invalid, one finding each."""
    for name, problem in context.problems.items():
        if name not in _ELSEWHERE:
            yield invalid(problem)
    for name in context.around.unknown:
        yield _stranger(context, name)
    if not context.problems:
        rows = listed(context.settings)
        given = sum(row.source != "default" for row in rows)
        yield Finding(Code.SETTINGS_OK, f"{given} of {len(rows)} are given, the others have their defaults")


def _stranger(context: CheckContext, name: str) -> Finding:
    shown = one_line(name, limit=80)
    near = get_close_matches(name, [variable for row in listed(context.settings) for variable in row.variables], n=1)
    sentence = f"the environment variable {shown} sets nothing: no setting has this name"
    fix = f"correct it: did you mean {near[0]}?" if near else f"unset {shown}"
    return Finding(Code.SETTINGS_UNKNOWN_VARIABLE, sentence, fix, {"variable": shown})


def invalid(problem: ConfigurationError) -> Finding:
    """A finding from an error: its hint is the fix; without one, the setting has to be corrected."""
    place = f"{problem.setting} in {problem.file}" if problem.file else problem.setting or "the settings"
    facts = {name: value for name, value in (("setting", problem.setting), ("file", problem.file)) if value is not None}
    return Finding(Code.SETTINGS_INVALID, str(problem), problem.hint or f"correct {place}", facts)


_VALIDATE: Final = "correct the file, then `taskpilot jobs validate`; the other jobs run meanwhile"


def examine_jobs(context: CheckContext) -> Iterator[Finding]:
    """What is broken, one finding a file or job."""
    if why := context.unsound("jobs_dir"):
        yield unchecked("jobs", why)
        return
    catalog = context.catalog
    if isinstance(catalog, ConfigurationError):
        fix = catalog.hint or "make it a folder that only you can write to, or name another by --jobs DIR"
        yield Finding(Code.JOBS_NO_FOLDER, str(catalog), fix)
        return
    for broken in catalog.broken:
        yield _broken(context, broken)
    sound = []
    for spec in catalog.jobs.values():
        try:
            check_parameters(spec)
        except ConfigurationError as error:
            yield _broken(context, BrokenFile(spec.file or catalog.directory, None, error.one_line))
        else:
            sound.append(spec.name)
    if sound:
        yield Finding(Code.JOBS_OK, f"{len(sound)} sound: {one_line(', '.join(sound), limit=300)}")
    elif not catalog.broken and not catalog.jobs:
        yield Finding(Code.JOBS_NONE, f"{catalog.directory} defines no job", "`taskpilot init DIR` makes a first one to copy")


def _broken(context: CheckContext, file: BrokenFile) -> Finding:
    """Like `jobs/triage.py:12: SyntaxError: ...`, the file as seen from the root."""
    root = context.settings.root
    seen = replace(file, path=file.path.relative_to(root)) if file.path.is_relative_to(root) else file
    facts: dict[str, str | int] = {"file": str(file.path)}
    return Finding(Code.JOBS_BROKEN, str(seen), _VALIDATE, facts | ({"line": file.line} if file.line else {}))


def examine_policy(context: CheckContext) -> Iterator[Finding]:
    """What is wrong with the policies in force."""
    if why := context.unsound("policy_files", "policy_default"):
        yield unchecked("policy", why)
        return
    try:
        report = check_policy(context.settings)
    except ConfigurationError as error:
        yield Finding(Code.POLICY_BROKEN, f"{error}; every tool call would be denied", "correct that line, then `taskpilot policy check`")
        return
    errors = [one for one in report.fixtures if one.error]
    for one in errors:
        yield Finding(Code.POLICY_BROKEN, f"the known call {one.name!r}: {one.error}", "`taskpilot policy check` shows every known call")
    differing = [one.name for one in report.fixtures if one.differs and not one.error]
    if differing and not report.ok and not errors:
        yield Finding(
            Code.POLICY_BROKEN, f"the shipped policy decides otherwise than it should: {', '.join(differing)}", "install TaskPilot anew"
        )
    elif differing:
        sentence = f"the project's files decide {len(differing)} known calls otherwise than the shipped policy"
        yield Finding(Code.POLICY_DIFFERS, sentence, "nothing, where that is meant; `taskpilot policy check` lists them")
    if report.ok:
        yield Finding(Code.POLICY_OK, f"compiled: {', '.join(report.files)}")


def examine_prices(context: CheckContext) -> Iterator[Finding]:
    """What is not priced, and what that means for the runs that ask it."""
    settings = context.settings
    file = settings.root / "prices.toml"
    if problem := context.problems.get("prices_file"):
        yield Finding(Code.PRICES_INVALID, str(problem), problem.hint or f"correct {file}")
        return
    try:
        prices = Prices(settings.prices_file)
    except ConfigurationError as error:
        yield Finding(Code.PRICES_INVALID, f"{error} No job can run.", error.hint or f"correct {file}")
        return
    asked = context.models()
    if not asked:
        yield Finding(Code.PRICES_NONE, "no model is named, so there is no price to look for")
        return
    known = [name for name in asked if prices.known(name, at=context.now, base_url=settings.openai_base_url)]
    for name, jobs in asked.items():
        if name not in known:
            yield from _unpriced(context, one_line(name), jobs, f"add a [[price]] for {one_line(name)} to {file}")
    if known:
        yield Finding(Code.PRICES_OK, f"known: {one_line(', '.join(known), limit=300)}")


def _unpriced(context: CheckContext, model: str, jobs: list[str], fix: str) -> Iterator[Finding]:
    specs = context.catalog.jobs if isinstance(context.catalog, JobCatalog) else {}
    refused = [name for name in jobs if specs[name].ceilings.usd is not None and specs[name].ceilings.unpriced == "refuse"]
    if refused:
        sentence = f"the price of {model} is not known, so the budget in USD refuses each run of {', '.join(refused)}"
        yield Finding(Code.PRICES_REFUSES_RUN, sentence, f"{fix}, or give the budget in tokens or calls", {"model": model})
    else:
        sentence = f"the price of {model} is not known: its cost will be unknown, and budgets hold by calls and tokens only"
        yield Finding(Code.PRICES_UNKNOWN, sentence, fix, {"model": model})
