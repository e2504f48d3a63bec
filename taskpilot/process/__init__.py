"""Runs a child process with a deadline and a lease, and kills its process tree at the end; knows nothing of the store."""

from taskpilot.process.child import asked_to_end
from taskpilot.process.interrupts import Interrupts
from taskpilot.process.owner import current_owner, is_gone
from taskpilot.process.plan import Cause, ChildPlan, Ending, Watch
from taskpilot.process.watch import supervise

__all__ = ["Cause", "ChildPlan", "Ending", "Interrupts", "Watch", "asked_to_end", "current_owner", "is_gone", "supervise"]
