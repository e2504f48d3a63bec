"""Whether an effect may happen: Rego policies, the guards before them, and a check that they say what they should."""

from taskpilot.policy.check import FixtureResult, PolicyReport, check_policies
from taskpilot.policy.rego import RegoPolicy

__all__ = ["FixtureResult", "PolicyReport", "RegoPolicy", "check_policies"]
