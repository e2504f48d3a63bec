"""What is wrong with a deployment, and what fixes it; one module a subject, and nothing is changed by looking."""

from taskpilot.diagnostics.examination import Diagnosis, examine
from taskpilot.diagnostics.findings import Code, Finding, Level

__all__ = ["Code", "Diagnosis", "Finding", "Level", "examine"]
