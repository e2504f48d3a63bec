"""`taskpilot decisions`: show, approve and reject tool calls."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import click

from taskpilot.cli import answers, completion, formatting, output
from taskpilot.cli.grants import grants
from taskpilot.cli.groups import Noun
from taskpilot.cli.options import json_option, next_page, page_options, person_options, status_option, utc_option
from taskpilot.domain.decisions import Decision
from taskpilot.domain.errors import UsageError
from taskpilot.domain.ids import short_id
from taskpilot.messages.actions import Answered

STATUSES = ("final", "pending", "approved", "rejected", "expired")
VERDICTS = ("allow", "deny", "require_approval")


@click.group(name="decisions", cls=Noun, default="list")
def command() -> None:
    """Show, approve and reject tool calls.

    \b
    Examples:
      taskpilot decisions
      taskpilot decisions --status pending
    """


@command.command(name="list")
@click.option("--run", "run_id", metavar="RUN", help="Only decisions of this run.", shell_complete=completion.ids("run"))
@click.option("--job", help="Only decisions of this job.", shell_complete=completion.jobs)
@status_option(STATUSES, f"Only decisions in these states: {', '.join(STATUSES)}; pending waits for you.")
@click.option("--verdict", type=click.Choice(VERDICTS), help="Answer of the rules.")
@page_options("decision")
@json_option
def list_(
    *,
    run_id: str | None,
    job: str | None,
    statuses: tuple[str, ...],
    verdict: str | None,
    limit: int,
    before: str | None,
    since: datetime | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """List decisions on tool calls, newest first.

    \b
    Examples:
      taskpilot decisions --status pending
      taskpilot decisions list --verdict deny --json
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.shapes import decision_json
    from taskpilot.store.listings import Page
    from taskpilot.views import tasks

    with bootstrap.deployment() as deployment:
        page = Page(limit, before, since, until)
        found = tasks.list_decisions(deployment, page, run_id=run_id, job=job, statuses=statuses, verdict=verdict)
        now = deployment.now()
    if as_json:
        output.print_json([decision_json(one) for one in found])
        return
    # The reason of an allowed call and the status "final" are left out: they say nothing new.
    cells = [
        (
            short_id(one.id),
            formatting.listed(one.decided_at, now),
            one.agent,
            one.tool,
            one.verdict.value,
            "" if one.status.value == "final" else one.status.value,
            "" if one.verdict.value == "allow" else _why(one),
        )
        for one in found
    ]
    output.print_table(
        ("id", "decided", "agent", "tool", "verdict", "status", "why"),
        cells,
        empty="no decisions",
        spare=("decided", "agent", "verdict"),
    )
    output.print_next_page(found, limit, next_page("decisions", short_id(found[-1].id)) if found else "")


@command.command()
@click.argument("decision_id", metavar="DECISION", shell_complete=completion.ids("decision"))
@utc_option
@json_option
def show(decision_id: str, *, as_json: bool) -> None:
    """Show one decision and the arguments of its tool call.

    \b
    Examples:
      taskpilot decisions show 5941ec9f
    """
    from taskpilot.cli import bootstrap
    from taskpilot.messages.shapes import decision_json
    from taskpilot.views import tasks

    with bootstrap.deployment() as deployment:
        one = tasks.show_decision(deployment, decision_id)
    if as_json:
        output.print_json(decision_json(one))
        return
    output.print_fields(
        {
            "decision": one.id,
            "run": one.run_id,
            "job": one.job,
            "agent": one.agent,
            "tool": one.tool,
            "verdict": one.verdict.value,
            "status": one.status.value,
            "why": "; ".join(one.reasons),
            "by": f"{one.engine}, {one.path}",
            "decided": formatting.instant(one.decided_at),
            "answered": f"{formatting.instant(one.settled_at)} by {one.settled_by}, {one.via or 'terminal'}" if one.settled_by else "",
            "note": one.note or "",
            "expires": f"{formatting.instant(one.expires_at)}: it is denied then"
            if one.expires_at and one.status.value == "pending"
            else "",
            "expired": f"{formatting.instant(one.expires_at)}: nobody answered" if one.status.value == "expired" else "",
        }
    )
    output.say("arguments")
    output.say(json.dumps(one.arguments, ensure_ascii=False, indent=2))
    if one.status.value == "pending":
        output.say_command(f"next: taskpilot decisions approve {one.id}\n  or: taskpilot decisions reject {one.id}")


@command.command()
@click.argument("decision_ids", nargs=-1, metavar="[DECISION]...", shell_complete=completion.ids("decision", "pending"))
@answers.all_option("decision")
@click.option("--always-until", metavar="TIME", help="Approve such calls of this job until then too; a date is included. Needs --max.")
@click.option("--max", "uses", type=click.IntRange(1, 1_000_000), help="So many calls in all, this one included. Needs --always-until.")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False),
    help="File with a JSON schema: such calls may have other arguments that it allows.",
)
@person_options
def approve(
    decision_ids: tuple[str, ...],
    *,
    everything: bool,
    always_until: str | None,
    uses: int | None,
    schema: str | None,
    by: str | None,
    note: str,
) -> None:
    """Approve tool calls: each with exactly its arguments.

    \b
    Examples:
      taskpilot decisions approve 5941ec9f --note ok
      taskpilot decisions approve 5941ec9f --always-until 2026-12-31 --max 20
    """
    from taskpilot.services.approvals import approve_decision

    if always_until is not None or uses is not None or schema is not None:
        if always_until is None or uses is None or len(decision_ids) != 1 or everything:
            raise UsageError("a standing grant needs one DECISION, --always-until and --max", hint="taskpilot docs approvals")
        _grant(decision_ids[0], always_until, uses, schema, by=by, note=note)
        return
    _answer(decision_ids, approve_decision, "approve", everything=everything, by=by, note=note)


@command.command()
@click.argument("decision_ids", nargs=-1, metavar="[DECISION]...", shell_complete=completion.ids("decision", "pending"))
@answers.all_option("decision")
@person_options
def reject(decision_ids: tuple[str, ...], *, everything: bool, by: str | None, note: str) -> None:
    """Reject tool calls.

    \b
    Examples:
      taskpilot decisions reject 5941ec9f --note no
    """
    from taskpilot.services.approvals import reject_decision

    _answer(decision_ids, reject_decision, "reject", everything=everything, by=by, note=note)


def _grant(decision_id: str, until: str, uses: int, schema: str | None, *, by: str | None, note: str) -> None:
    from taskpilot.cli import bootstrap
    from taskpilot.cli.options import name_of
    from taskpilot.domain.times import parse_until
    from taskpilot.messages.actions import granted
    from taskpilot.services.approvals import grant_decision

    try:
        end = parse_until(until)
        allowed = None if schema is None else json.loads(Path(schema).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UsageError(str(error)) from None
    with bootstrap.deployment() as deployment:

        def answer(one: str) -> Answered:
            answered, grant = grant_decision(deployment, one, until=end, uses=uses, schema=allowed, by=name_of(by), note=note)
            output.say(granted(grant))
            return answered

        answers.answer_each([decision_id], answer)


def _why(one: Decision) -> str:
    until = f"until {formatting.instant(one.expires_at)}: " if one.expires_at is not None and one.status.value == "pending" else ""
    return until + "; ".join(one.reasons)


def _answer(ids: tuple[str, ...], service: Callable[..., Answered], verb: str, *, everything: bool, by: str | None, note: str) -> None:
    from taskpilot.cli import bootstrap
    from taskpilot.cli.options import name_of
    from taskpilot.store.listings import Page
    from taskpilot.views import tasks

    with bootstrap.deployment() as deployment:

        def waiting() -> list[tuple[str, str]]:
            found = tasks.list_decisions(deployment, Page(answers.MOST), statuses=("pending",))
            return [(one.id, f"{one.tool} {json.dumps(one.arguments, ensure_ascii=False)}") for one in found]

        wanted = answers.chosen(ids, everything=everything, waiting=waiting, verb=verb, noun="decision")
        answers.answer_each(wanted, lambda one: service(deployment, one, by=name_of(by), note=note))


command.add_command(grants)
