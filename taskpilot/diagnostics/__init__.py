"""Finds what is wrong with a deployment and what fixes it; nothing is changed."""

from taskpilot.diagnostics.examination import Diagnosis, examine
from taskpilot.diagnostics.findings import Code, Finding, Level

__all__ = ["Code", "Diagnosis", "Finding", "Level", "examine"]
