"""A child process with a deadline, a lease to renew and a tree to kill; knows nothing of the store."""

from taskpilot.supervisor.child import asked_to_end
from taskpilot.supervisor.interrupts import Interrupts
from taskpilot.supervisor.owner import current_owner, is_gone
from taskpilot.supervisor.plan import Cause, ChildPlan, Ending, Watch
from taskpilot.supervisor.watch import supervise

__all__ = ["Cause", "ChildPlan", "Ending", "Interrupts", "Watch", "asked_to_end", "current_owner", "is_gone", "supervise"]
