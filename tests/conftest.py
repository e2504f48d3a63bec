"""What holds for every test: nothing of the developer's own configuration reaches it."""

import os

import pytest
from hypothesis import settings

# A shared two-core machine makes single examples slow now and then; that is no finding.
settings.register_profile("deployment", deadline=None, print_blob=True)
settings.load_profile("deployment")

_KEPT = {"TASKPILOT_CI"}


@pytest.fixture(autouse=True)
def _no_configuration_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("TASKPILOT_", "OPENAI_", "OTEL_")) and name not in _KEPT:
            monkeypatch.delenv(name)
