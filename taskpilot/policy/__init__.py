"""Decides tool calls: Rego policies, checks of their input, and `policy check`."""

from taskpilot.policy.check import FixtureResult, PolicyReport, check_apart, check_policies
from taskpilot.policy.rego import RegoPolicy
from taskpilot.policy.watched import WatchedPolicy, undecided

__all__ = ["FixtureResult", "PolicyReport", "RegoPolicy", "WatchedPolicy", "check_apart", "check_policies", "undecided"]
