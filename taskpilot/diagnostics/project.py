"""Checks the root, the settings, the job files, the policies and the prices."""

from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from taskpilot.config import check_trusted, find_root
from taskpilot.config.listing import listed
from taskpilot.deployment import check_policy
from taskpilot.diagnostics.context import CheckContext
from taskpilot.diagnostics.findings import Code, Finding, found, unchecked
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.domain.times import utc_iso
from taskpilot.jobs.catalog import BrokenFile, JobCatalog
from taskpilot.jobs.parameters import check_parameters
from taskpilot.llm.prices import Prices


def examine_root(cwd: Path | None, explicit: Path | None) -> Finding:
    """Whether work that starts in `cwd` has a root, and whether the root can be trusted."""
    try:
        start = Path.cwd() if cwd is None else cwd
    except OSError:
        return found(Code.ROOT_INVALID, error="the current folder no longer exists", fix="change into one that exists")
    try:
        root = find_root(start, explicit)
    except ConfigurationError as error:
        return found(Code.ROOT_INVALID, error=str(error), fix=error.hint or "correct it, or name another root by --root")
    if root is None:
        return found(Code.ROOT_NONE, folder=start)
    try:
        check_trusted(root)
    except ConfigurationError as error:
        return found(Code.ROOT_UNTRUSTED, error=str(error), fix=error.hint or "")
    how = "named by --root" if explicit is not None else "the current folder" if root == start.resolve() else f"above {start}"
    return found(Code.ROOT_OK, root=root, how=how)


def examine_settings(context: CheckContext) -> Iterator[Finding]:
    """What is invalid, one finding each."""
    for name, problem in context.problems.items():
        # The subject `prices` reports its own file.
        if name != "prices_file":
            yield invalid(problem)
    rows = listed(context.settings)
    for variable in context.around.unknown:
        shown = one_line(variable, limit=80)
        near = get_close_matches(variable, [name for row in rows for name in row.variables], n=1)
        fix = f"correct it: did you mean {near[0]}?" if near else f"unset {shown}"
        yield found(Code.SETTINGS_UNKNOWN_VARIABLE, variable=shown, fix=fix)
    for warning in context.settings.warnings:
        yield found(Code.SETTINGS_IGNORED, warning=warning)
    if context.settings.dotenv_refused:
        yield found(Code.SETTINGS_DOTENV, names=", ".join(context.settings.dotenv_refused))
    if not context.problems:
        yield found(Code.SETTINGS_OK, given=sum(row.source != "default" for row in rows), known=len(rows))


def invalid(problem: ConfigurationError) -> Finding:
    """A finding from an error: its hint is the fix; without one, the setting has to be corrected."""
    place = f"{problem.setting} in {problem.file}" if problem.file else problem.setting or "the settings"
    fix = problem.hint or f"correct {place}"
    return found(Code.SETTINGS_INVALID, error=str(problem), fix=fix, setting=problem.setting, file=problem.file)


def examine_jobs(context: CheckContext) -> Iterator[Finding]:
    """What is broken, one finding a file or job; and what a server found, whose environment may differ from this one."""
    for one in context.inspection.blocked:
        at, fix = utc_iso(one.checked_at, timespec="seconds"), one.hint or f"taskpilot why {one.job}"
        yield found(Code.JOBS_BLOCKED, job=one.job, at=at, error=one_line(one.error.rstrip("."), limit=500), fix=one_line(fix, limit=500))
    if why := context.unsound("jobs_dir"):
        yield unchecked("jobs", why)
        return
    catalog = context.catalog
    if isinstance(catalog, ConfigurationError):
        fix = catalog.hint or "make it a folder that only you can write to, or name another by --jobs DIR"
        yield found(Code.JOBS_NO_FOLDER, error=str(catalog), fix=fix)
        return
    for broken in catalog.broken:
        yield _broken(context, broken)
    valid = []
    for spec in catalog.jobs.values():
        try:
            check_parameters(spec)
        except ConfigurationError as error:
            yield _broken(context, BrokenFile(spec.file or catalog.directory, None, error.one_line))
        else:
            valid.append(spec.name)
    if valid:
        yield found(Code.JOBS_OK, count=len(valid), jobs=one_line(", ".join(valid), limit=300))
    elif not catalog.broken and not catalog.jobs:
        yield found(Code.JOBS_NONE, path=catalog.directory)


def _broken(context: CheckContext, file: BrokenFile) -> Finding:
    """Like `jobs/triage.py:12: SyntaxError: ...`, the file relative to the root."""
    root = context.settings.root
    shown = replace(file, path=file.path.relative_to(root)) if file.path.is_relative_to(root) else file
    return found(Code.JOBS_BROKEN, error=str(shown), file=file.path, line=file.line or None)


def examine_policy(context: CheckContext) -> Iterator[Finding]:
    """What is wrong with the policies in force."""
    if why := context.unsound("policy_files", "policy_default"):
        yield unchecked("policy", why)
        return
    try:
        report = check_policy(context.settings)
    except ConfigurationError as error:
        fix = "correct that line, then `taskpilot policy check`"
        yield found(Code.POLICY_BROKEN, error=f"{error}; every tool call would be denied", fix=fix)
        return
    errors = [one for one in report.fixtures if one.error]
    for one in errors:
        fix = "`taskpilot policy check` shows every known call"
        yield found(Code.POLICY_BROKEN, error=f"the known call {one.name!r}: {one.error}", fix=fix)
    differing = [one.name for one in report.fixtures if one.differs and not one.error]
    if differing and not report.ok and not errors:
        problem = f"the shipped policy decides these known calls wrongly: {', '.join(differing)}"
        yield found(Code.POLICY_BROKEN, error=problem, fix="install TaskPilot again")
    elif differing:
        yield found(Code.POLICY_DIFFERS, count=len(differing))
    if report.ok:
        yield found(Code.POLICY_OK, files=", ".join(report.files))


def examine_prices(context: CheckContext) -> Iterator[Finding]:
    """Which models have no price, and what that means for the runs that ask them."""
    settings = context.settings
    file = settings.root / "prices.toml"
    if problem := context.problems.get("prices_file"):
        yield found(Code.PRICES_INVALID, error=str(problem), fix=problem.hint or f"correct {file}")
        return
    try:
        prices = Prices(settings.prices_file)
    except ConfigurationError as error:
        yield found(Code.PRICES_INVALID, error=f"{error} No job can run.", fix=error.hint or f"correct {file}")
        return
    asked = context.models()
    if not asked:
        yield found(Code.PRICES_NONE)
        return
    known = [name for name in asked if prices.known(name, at=context.now, base_url=settings.openai_base_url)]
    specs = context.catalog.jobs if isinstance(context.catalog, JobCatalog) else {}
    for name in (name for name in asked if name not in known):
        ceilings = {job: specs[job].ceilings for job in asked[name]}
        refused = [job for job, one in ceilings.items() if one.usd is not None and one.unpriced == "refuse"]
        code = Code.PRICES_REFUSES_RUN if refused else Code.PRICES_UNKNOWN
        yield found(code, model=one_line(name), file=file, jobs=", ".join(refused) or None)
    if known:
        yield found(Code.PRICES_OK, models=one_line(", ".join(known), limit=300))
