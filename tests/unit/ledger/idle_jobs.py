"""Jobs that are due each minute or each hour and do nothing: what the tests of the ledger claim."""

from taskpilot import RunContext, cron, every, job


@job(schedule=every("1m"))
def minutely(ctx: RunContext) -> None:
    """Do nothing."""


@job(schedule=cron("0 * * * *"))
def hourly(ctx: RunContext) -> None:
    """Do nothing."""


@job(schedule=cron("0 * * * *"), catch_up="skip")
def strict(ctx: RunContext) -> None:
    """Do nothing."""


@job
def unscheduled(ctx: RunContext) -> None:
    """Do nothing."""
