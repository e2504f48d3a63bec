"""What is wrong with a house, and what mends it; one module a subject, and nothing is changed by looking."""

from taskpilot.operations.doctor.examination import Diagnosis, examine
from taskpilot.operations.doctor.findings import Code, Finding, Level

__all__ = ["Code", "Diagnosis", "Finding", "Level", "examine"]
