"""Prices: the project's own file, and whether each model that is asked has one."""

from collections.abc import Iterator

from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.jobs.catalog import JobCatalog
from taskpilot.models.prices import Prices
from taskpilot.operations.doctor.case import Case
from taskpilot.operations.doctor.findings import Code, Finding


def examine_prices(case: Case) -> Iterator[Finding]:
    """What is not priced, and what that means for the runs that ask it."""
    settings = case.settings
    file = settings.root / "prices.toml"
    if problem := case.problems.get("prices_file"):
        sentence, _separator, mend = str(problem).partition("; ")
        yield Finding(Code.PRICES_INVALID, sentence, mend)
        return
    try:
        prices = Prices(settings.prices_file)
    except ConfigurationError as error:
        # The example that follows is for a run's message; here the keys are enough.
        sentence = str(error).partition(". No token was spent")[0]
        yield Finding(Code.PRICES_INVALID, f"{sentence}; no job can run", f"correct {file}: [[price]] with model, from, input and output")
        return
    asked = case.models()
    if not asked:
        yield Finding(Code.PRICES_NONE, "no model is named, so there is no price to look for")
        return
    known = [name for name in asked if prices.known(name, at=case.now, base_url=settings.openai_base_url)]
    for name, jobs in asked.items():
        if name not in known:
            yield from _unpriced(case, one_line(name), jobs, f"add a [[price]] for {one_line(name)} to {file}")
    if known:
        yield Finding(Code.PRICES_OK, f"known: {one_line(', '.join(known), limit=300)}")


def _unpriced(case: Case, model: str, jobs: list[str], mend: str) -> Iterator[Finding]:
    specs = case.catalog.jobs if isinstance(case.catalog, JobCatalog) else {}
    refused = [name for name in jobs if specs[name].ceilings.usd is not None and specs[name].ceilings.unpriced == "refuse"]
    if refused:
        sentence = f"the price of {model} is not known, so the budget in USD refuses each run of {', '.join(refused)}"
        yield Finding(Code.PRICES_REFUSES_RUN, sentence, f"{mend}, or give the budget in tokens or calls")
    else:
        sentence = f"the price of {model} is not known: its cost will be unknown, and budgets hold by calls and tokens only"
        yield Finding(Code.PRICES_UNKNOWN, sentence, mend)
