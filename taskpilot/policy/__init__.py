"""Decides tool calls: Rego policies, checks of their input, and `policy check`."""

from taskpilot.policy.check import FixtureResult, PolicyReport, check_policies
from taskpilot.policy.rego import RegoPolicy

__all__ = ["FixtureResult", "PolicyReport", "RegoPolicy", "check_policies"]
