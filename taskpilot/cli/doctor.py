"""`taskpilot doctor`: diagnose the setup (read-only)."""

import shutil
import textwrap
from itertools import groupby
from typing import Final

import click

from taskpilot.cli import formatting, output
from taskpilot.cli.options import global_options, json_option
from taskpilot.config.listing import Listed
from taskpilot.diagnostics import Diagnosis, Finding, Level
from taskpilot.domain.exits import ExitCode
from taskpilot.domain.text import one_line

_WIDEST: Final = 100
"""Maximum width: longer lines are hard to read."""
_LEVEL: Final = 9
"""Width of the level and the gap after it."""
_NAME: Final = 24
"""Width of a setting's name; a longer name has a line of its own."""
_WORST_LAST: Final = (Level.OK, Level.NOTE, Level.WARNING, Level.ERROR)


def print_diagnosis(found: Diagnosis) -> None:
    """Prints settings, findings and a summary."""
    width = min(shutil.get_terminal_size((80, 24)).columns, _WIDEST)
    for setting in found.settings:
        _print_setting(setting, width)
    if found.settings:
        output.say()
    for level in _WORST_LAST:
        for group in _grouped([finding for finding in found.findings if finding.level is level]):
            _print_findings(group, width)
    output.say()
    counts = [(level, found.count(level)) for level in (Level.ERROR, Level.WARNING, Level.NOTE) if found.count(level)]
    summary = ", ".join(formatting.count(number, level.value) for level, number in counts) or "no problems"
    output.say(f"{summary}; {_verdict(found.exit_code)}")


def _grouped(findings: list[Finding]) -> list[list[Finding]]:
    """Groups neighbours with the same sentence: without a root, nine checks fail for one reason."""
    return [list(group) for _key, group in groupby(findings, key=lambda one: (one.sentence, one.fix))]


def _print_setting(setting: Listed, width: int) -> None:
    value = one_line(setting.value, limit=300) or formatting.NONE
    source = "" if setting.source == "default" else f"  ({setting.source})"
    head = f"{setting.name:<{_NAME}}"
    if len(setting.name) >= _NAME:
        output.say_line(setting.name)
        head = " " * _NAME
    _wrap(head, f"{value}{source}", width, _NAME)


def _print_findings(group: list[Finding], width: int) -> None:
    level, sentence, fix = group[0].level.value, group[0].sentence, group[0].fix
    lines = _wrapped(f"{', '.join(one.code for one in group)}: {one_line(sentence, limit=1000)}", width - _LEVEL)
    output.say_marked(level, f"{level:<{_LEVEL}}{lines[0]}")
    for line in lines[1:]:
        output.say_line(" " * _LEVEL + line)
    if fix:
        _wrap(f"{'  fix:':<{_LEVEL}}", one_line(fix, limit=1000), width, _LEVEL)


def _wrap(head: str, text: str, width: int, indent: int) -> None:
    first, *rest = _wrapped(text, width - indent)
    output.say_line(head + first)
    for line in rest:
        output.say_line(" " * indent + line)


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines; a path or URL is not broken, so that it can be copied."""
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False) or [""]


def _verdict(code: ExitCode) -> str:
    return {ExitCode.SUCCEEDED: "the setup works", ExitCode.FAILED: "fix the errors above"}.get(
        code, "the configuration is invalid"
    ) + f" (exit {int(code)})"


@click.command(name="doctor")
@click.option("--stack", is_flag=True, help="Check the metrics, traces, logs and dashboard servers too.")
@json_option
def command(*, stack: bool, as_json: bool) -> int:
    """Diagnose the setup (read-only).

    Checks the settings, job files, rules for tool calls, database, model, prices, Pushgateway, trace collector and crontab. Prints each
    setting with its source and a fix for each problem. It contacts the servers, but pushes nothing and spends no tokens. With --stack it
    also checks Prometheus, Alertmanager, Jaeger, Elasticsearch and Grafana, and names the metrics and traces that are not delivered yet.

    Exit code: 0 no errors, also with warnings; 1 an error; 78 the configuration is invalid.

    \b
    Examples:
      taskpilot doctor
      taskpilot doctor --stack
      taskpilot doctor --json
    """
    from pathlib import Path

    from taskpilot.diagnostics import examine
    from taskpilot.diagnostics.examination import diagnosis_json
    from taskpilot.services.housekeeping import built_in_jobs

    given = global_options()
    root, home, jobs = (None if text is None else Path(text) for text in (given.root, given.home, given.jobs))
    found = examine(root=root, home=home, jobs=jobs, log_level=given.log_level, stack=stack, built_in=built_in_jobs)
    given.exit_code = found.exit_code
    if as_json:
        output.print_json(diagnosis_json(found))
    else:
        print_diagnosis(found)
    return found.exit_code
