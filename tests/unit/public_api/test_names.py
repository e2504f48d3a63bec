"""The names that job files import: the stub for type checkers declares the same ones as the package."""

import ast
from pathlib import Path

import taskpilot

STUB = Path(taskpilot.__file__).with_suffix(".pyi")


def test_the_stub_declares_the_names_of_the_package() -> None:
    imports = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
    declared = {alias.asname: node.module for node in imports for alias in node.names}
    assert sorted(declared) == taskpilot.__all__


def test_every_public_name_can_be_imported() -> None:
    for name in taskpilot.__all__:
        assert getattr(taskpilot, name) is not None
