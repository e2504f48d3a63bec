"""The face that job files import: what runs and what type checkers are told are the same."""

import ast
from pathlib import Path

import taskpilot

STUB = Path(taskpilot.__file__).with_suffix(".pyi")


def test_the_stub_names_what_the_face_gives() -> None:
    imports = [node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.ImportFrom)]
    told = {alias.asname: node.module for node in imports for alias in node.names}
    assert sorted(told) == taskpilot.__all__


def test_every_name_of_the_face_is_there() -> None:
    for name in taskpilot.__all__:
        assert getattr(taskpilot, name) is not None
