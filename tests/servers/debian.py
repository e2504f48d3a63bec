"""Servers that come from Debian packages: skipped at home, never in CI."""

import os
import shutil

import pytest


def require(binary: str, package: str) -> str:
    """The path of `binary`; without it the test is skipped, or fails where TASKPILOT_CI=1 says that it must be there."""
    found = shutil.which(binary) or shutil.which(binary, path="/usr/sbin:/usr/local/sbin:/sbin")
    if found is not None:
        return found
    message = f"{binary} is missing; install it with: sudo apt-get install --no-install-recommends {package}"
    if os.environ.get("TASKPILOT_CI") == "1":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)
