"""Every fenced block of README and docs is what it says it is: commands parse, settings load, rules decide as promised, Python compiles.

That the Python of the pages is well typed is a test of `tests/unit/public_api`; what can be run is run by `tests/acceptance/test_docs.py`.
"""

import ast
import json
import re
from pathlib import Path

import pytest

from taskpilot.config import load
from taskpilot.domain.decisions import PolicyInput
from taskpilot.llm.prices import Prices
from taskpilot.policy import RegoPolicy
from tests.loading import read_folder
from tests.typed_commands import parse, typed_in
from tests.unit.docs.pages import Block, all_text, blocks, text_of

LANGUAGES = {"python", "sh", "console", "toml", "rego", "json", "dockerfile", "text"}
BLOCKS = tuple(blocks())
JOB_TOOLS = ("open_ticket", "pay")
"""Of the job that the examples of policy.md speak of."""


def of(*languages: str) -> list[Block]:
    found = [block for block in BLOCKS if block.language in languages]
    assert found
    return found


def test_each_block_says_what_it_is() -> None:
    assert {block.language for block in BLOCKS} == LANGUAGES
    assert all_text().count("\n```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("block", of("sh", "console", "text", "dockerfile"), ids=str)
def test_each_command_of_ours_in_a_block_is_one_that_click_accepts(block: Block) -> None:
    for typed in typed_in(block.text if block.language != "console" else prompts(block.text)):
        parse(typed)


def prompts(text: str) -> str:
    return "\n".join(line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ "))


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_a_block_of_commands_has_one_of_ours_or_sets_something(block: Block) -> None:
    assert typed_in(block.text) or re.search(r"taskpilot|TASKPILOT|pytest", block.text)


def test_each_command_in_the_text_of_a_page_is_one_that_click_accepts() -> None:
    lines = re.findall(r"`((?:[A-Z_]+=\S+ )?taskpilot [a-z][^`]*)`", without_blocks(all_text()))
    assert len(lines) > 50
    for line in lines:
        for typed in typed_in(line):
            # `taskpilot run` alone is the command's name.
            if typed != ["run"]:
                parse(typed)


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_each_block_of_settings_is_loaded_by_the_settings_or_the_prices(block: Block, tmp_path: Path) -> None:
    if "[[price]]" in block.text:
        (tmp_path / "prices.toml").write_text(block.text)
        assert Prices(tmp_path / "prices.toml").known("my-model")
        return
    (tmp_path / "taskpilot.toml").write_text(block.text)
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "ours.rego").write_text("package taskpilot.tools\n")
    assert "taskpilot.toml" in load(root=tmp_path, environ={}).sources.values()


@pytest.mark.parametrize("block", of("json"), ids=str)
def test_each_block_of_json_can_be_read(block: Block) -> None:
    assert json.loads(block.text)


def test_the_rules_of_each_worked_example_decide_as_the_page_says(tmp_path: Path) -> None:
    rules, expected = ([block.text for block in BLOCKS if block.page == "policy.md" and block.language == one] for one in ("rego", "json"))
    assert len(rules) == len(expected) == len(of("rego")) == 2
    for number, (text, calls) in enumerate(zip(rules, expected, strict=True)):
        file = tmp_path / f"ours{number}.rego"
        file.write_text(text)
        policy = RegoPolicy(files=[file])
        policy.compile()
        for call in json.loads(calls):
            for agent in ("executor", "job"):
                result = policy.decide(PolicyInput(call["tool"], call["arguments"], agent, "shift", "run", JOB_TOOLS))
                assert (result.verdict, result.error) == (call["verdict"], None), call


def test_the_verdicts_of_the_examples_are_of_all_three_kinds() -> None:
    assert set(re.findall(r'"verdict": "(\w+)"', text_of("policy"))) == {"allow", "deny", "require_approval"}


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_each_block_of_python_compiles_and_its_jobs_are_loaded(block: Block, tmp_path: Path) -> None:
    names = {node.name for node in ast.parse(block.text).body if isinstance(node, ast.FunctionDef) and is_job(node)}
    if names:
        (tmp_path / "jobs").mkdir()
        (tmp_path / "jobs" / "page.py").write_text(block.text)
        catalog = read_folder(tmp_path / "jobs")
        assert (set(catalog.jobs), catalog.broken) == (names, ())


def is_job(function: ast.FunctionDef) -> bool:
    return any("job" in ast.unparse(decorator).partition("(")[0].split() for decorator in function.decorator_list)
