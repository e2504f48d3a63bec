"""Tools about which a person is asked before each call, and that count their calls."""

from collections import Counter
from pathlib import Path

from taskpilot import tool
from tests.spine import Spine

RULES = 'package taskpilot.tools\n\nrequire_approval contains "a person looks" if input.tool in {"refund", "wipe"}\n'
MADE: Counter[str] = Counter()
"""How often a tool was called with which argument, since `asking` was called."""


@tool
def refund(customer: str) -> str:
    """Refund a customer."""
    MADE[customer] += 1
    return "refunded"


@tool(approval_timeout="1h")
def wipe(path: str) -> str:
    """Wipe a folder."""
    MADE[path] += 1
    return "wiped"


def asking(folder: Path, *, settings: str = "") -> Spine:
    """A root whose rules ask a person about both tools."""
    MADE.clear()
    (folder / "ask.rego").write_text(RULES, encoding="utf-8")
    return Spine(folder, settings=f'{settings}\n[policy]\nfiles = ["ask.rego"]\n')
