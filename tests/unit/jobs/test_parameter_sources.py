"""Where a run's parameters come from: a params file, and files that it names."""

import pytest

from taskpilot.domain.errors import UsageError
from taskpilot.domain.specs import InputFile
from taskpilot.jobs.decorator import job, job_spec
from taskpilot.jobs.parameters import input_parameters, parse_parameters, read_parameters_file


def test_a_params_file_holds_one_object() -> None:
    assert read_parameters_file('{"a": 1}', name="p.json") == {"a": 1}
    for text in ("[1]", "", "{\n'a'}", b"\xff", "[" * 100_000):
        with pytest.raises(UsageError, match=r"p\.json"):
            read_parameters_file(text, name="p.json")


def test_input_files_are_found_by_their_type() -> None:
    def function(ctx: object, inbox: InputFile = "inbox.jsonl", extra: InputFile | None = None, name: str = "x") -> None: ...

    spec = job_spec(job(function))
    assert input_parameters(spec, parse_parameters(spec, [], None)) == ["inbox"]
    assert input_parameters(spec, parse_parameters(spec, [("extra", "-")], None)) == ["inbox", "extra"]
