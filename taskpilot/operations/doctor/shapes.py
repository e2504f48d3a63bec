"""A diagnosis as a JSON value."""

from typing import Any

from taskpilot.operations.doctor.examination import Diagnosis


def diagnosis_json(found: Diagnosis) -> dict[str, Any]:
    """Keys of each finding: code, level, subject, sentence, mend; of each setting: name, variables, value, source."""
    return {
        "exit_code": int(found.exit_code),
        "findings": [
            {
                "code": one.code.value,
                "level": one.level.value,
                "subject": one.subject,
                "sentence": one.sentence,
                "mend": one.mend or None,
            }
            for one in found.findings
        ],
        "settings": [
            {"name": one.name, "variables": list(one.variables), "value": one.value or None, "source": one.source} for one in found.settings
        ],
    }
