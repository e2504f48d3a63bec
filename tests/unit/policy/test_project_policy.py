"""A project's own Rego files: they extend, restrict or replace the default policy, and a broken one denies."""

import re
from pathlib import Path
from typing import Any

import pytest

from taskpilot.domain.decisions import PolicyInput, PolicyResult, Verdict
from taskpilot.domain.errors import ConfigurationError, Terminated
from taskpilot.policy import RegoPolicy, check_policies, engines

ALLOW, DENY, APPROVAL = Verdict.ALLOW, Verdict.DENY, Verdict.REQUIRE_APPROVAL
MESSAGE = {"channel": "ops", "message": "done"}


def policy(folder: Path, *rules: str, default: bool = True) -> RegoPolicy:
    files = []
    for number, text in enumerate(rules):
        file = folder / f"p{number}.rego"
        file.write_text(text if text.startswith("package") else f"package taskpilot.tools\n{text}\n")
        files.append(file)
    return RegoPolicy(files=files, default=default)


def ask(engine: RegoPolicy, tool: str = "notify", arguments: dict[str, Any] | None = None, agent: str = "executor") -> PolicyResult:
    return engine.decide(PolicyInput(tool, MESSAGE if arguments is None else arguments, agent, "triage", "r1", ()))


def test_a_denial_of_the_project_wins_over_the_defaults_allow(tmp_path: Path) -> None:
    result = ask(policy(tmp_path, 'deny contains "quiet hours" if input.tool == "notify"'))
    assert (result.verdict, result.reasons) == (DENY, ("quiet hours",))


def test_a_denial_of_the_default_wins_over_the_projects_allow(tmp_path: Path) -> None:
    assert ask(policy(tmp_path, "allow := true"), "delete_task", {}).verdict is DENY
    assert ask(policy(tmp_path, "allow := true"), "notify", MESSAGE | {"message": "delete it"}).verdict is DENY


def test_the_project_allows_what_the_default_does_not(tmp_path: Path) -> None:
    engine = policy(tmp_path, 'allow if { input.tool == "notify"; input.agent == "planner" }')
    assert ask(engine, agent="planner").verdict is ALLOW
    assert ask(engine, agent="executor").verdict is ALLOW
    assert ask(engine, agent="reviewer").verdict is DENY
    assert ask(engine, agent="planner").reasons == ("allowed by the project's policy",)


def test_the_project_asks_for_approval(tmp_path: Path) -> None:
    result = ask(policy(tmp_path, 'require_approval contains "a person reads every message" if input.tool == "notify"'))
    assert (result.verdict, result.reasons) == (APPROVAL, ("a person reads every message",))


def test_a_projects_rules_cannot_redefine_the_defaults(tmp_path: Path) -> None:
    rules = ["valid_title := true", "valid_priority := true", "built_in := set()", "may_file_tasks := true"]
    used = "allow if { valid_title; valid_priority; may_file_tasks; 1 in built_in }"
    engine = policy(tmp_path, "\n".join([*rules, used]))
    assert ask(engine, "create_task", {"title": "", "priority": "x"}).verdict is DENY
    assert ask(engine).verdict is ALLOW


def test_several_files_are_one_policy(tmp_path: Path) -> None:
    engine = policy(tmp_path, "allow if open", "open if input.agent == `planner`", default=False)
    assert ask(engine, agent="planner").verdict is ALLOW
    assert ask(engine, agent="executor").verdict is DENY


def test_a_replaced_default_has_no_say(tmp_path: Path) -> None:
    engine = policy(tmp_path, 'allow if input.tool == "delete_task"', default=False)
    assert ask(engine, "delete_task", {}).verdict is ALLOW
    assert ask(engine).verdict is DENY


def test_no_policy_at_all_allows_nothing() -> None:
    assert ask(RegoPolicy(default=False)).reasons == ("no rule allows it",)


@pytest.mark.parametrize("rule", ['allow := "true"', "allow := 1", "allow := [true]", 'allow := {"result": true}', "allow contains true"])
def test_only_a_true_that_is_a_boolean_allows(tmp_path: Path, rule: str) -> None:
    result = ask(policy(tmp_path, rule, default=False))
    assert result.verdict is DENY
    assert result.error is not None
    assert result.error.startswith("policy_error: ")


@pytest.mark.parametrize("rule", ["allow := false", "allow := null", "allow if input.nothing", "deny contains `x` if false"])
def test_an_undefined_or_false_allow_is_a_denial(tmp_path: Path, rule: str) -> None:
    assert ask(policy(tmp_path, rule, default=False)).verdict is DENY


@pytest.mark.parametrize(
    "rule",
    [
        "deny := true",
        "deny contains 7 if true",
        "deny contains null if true",
        'deny := ["no"]',
        "deny contains `` if true",
        'deny := {"a": 1}',
        "deny := 0",
        'deny := "no"',
        'deny contains {"why": "no"} if true',
        "deny contains [1] if true",
    ],
)
def test_a_denial_of_any_shape_denies(tmp_path: Path, rule: str) -> None:
    assert ask(policy(tmp_path, rule)).verdict is DENY


@pytest.mark.parametrize(
    "text",
    [
        "allow if {",
        "allow := nothing",
        "allow := nowhere.at_all(1)",
        "allow := true\nallow := false",
        "allow if to_number(input.tool) > 1",
        "package other\nallow := true",
        "nonsense",
        "allow { true }",
        "allow := deny\ndeny := allow",
    ],
)
def test_a_broken_policy_denies_what_the_default_allows(tmp_path: Path, text: str) -> None:
    engine = policy(tmp_path, text)
    first, second = ask(engine), ask(engine)
    for result in (first, second):
        assert result.verdict is DENY
        assert result.error is not None
        assert result.error.startswith("policy_error: ")
        assert "backtrace" not in result.error
        assert "\n" not in result.error
    with pytest.raises(ConfigurationError) as caught:
        engine.compile()
    assert re.search(r"p0\.rego:[1-3]?:? ", str(caught.value))
    assert caught.value.exit_code == 78


def test_the_fingers_on_a_file_during_a_run_change_nothing(tmp_path: Path) -> None:
    engine = policy(tmp_path, "allow if input.agent == `planner`", default=False)
    (tmp_path / "p0.rego").write_text("package taskpilot.tools\nallow := true\n")
    assert ask(engine, agent="executor").verdict is DENY


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.rego cannot be read \(No such file"):
        RegoPolicy(files=[tmp_path / "missing.rego"])
    (tmp_path / "latin.rego").write_bytes(b"package taskpilot.tools # \xe9\n")
    with pytest.raises(ConfigurationError, match=r"latin\.rego is not UTF-8"):
        RegoPolicy(files=[tmp_path / "latin.rego"])
    (tmp_path / "huge.rego").write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigurationError, match=r"huge\.rego is larger"):
        RegoPolicy(files=[tmp_path / "huge.rego"])


def test_http_send_is_refused_by_line_where_it_is_called(tmp_path: Path) -> None:
    for call in ("http.send", 'http["send"]'):
        with pytest.raises(ConfigurationError, match=r"p0\.rego:3: http\.send is not available"):
            policy(tmp_path, f'# http.send\ndeny contains "x" if {call}({{"url": "http://x"}}).status_code != 200').compile()
    assert ask(policy(tmp_path, '# http.send\ndeny contains "no http.send" if input.tool == "x"')).verdict is ALLOW


def test_what_a_policy_prints_goes_nowhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(policy(tmp_path, "allow if print(`secret`)", default=False)).verdict is ALLOW
    assert capfd.readouterr() == ("", "")


def test_a_panic_of_the_engine_denies_and_the_next_call_has_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    engine = policy(tmp_path, "allow := true", default=False)
    assert ask(engine).verdict is ALLOW
    before = engines._engine(engine.policies[0])

    class Panicking:
        def set_input_json(self, text: str) -> None:
            raise PanicException("the engine\nfell over")

    engines._local.engines[engine.policies[0].fingerprint] = engines._Engine(Panicking(), before.rules)
    result = ask(engine)
    assert (result.verdict, result.error) == (DENY, "policy_error: the engine")
    assert ask(engine).verdict is ALLOW


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, Terminated])
def test_what_stops_the_process_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]) -> None:
    def leave(*_: object) -> None:
        raise stop

    monkeypatch.setattr(engines, "ask", leave)
    with pytest.raises(stop):
        ask(RegoPolicy())


def test_the_report_shows_what_a_project_changes(tmp_path: Path) -> None:
    report = check_policies(policy(tmp_path, 'deny contains "read only" if input.tool == "notify"'))
    assert [result.name for result in report.fixtures if result.differs] == ["the executor sends a message"]
    assert report.ok
    assert report.files == ("taskpilot/policy/default.rego", str(tmp_path / "p0.rego"))


def test_many_policies_in_one_thread_keep_few_engines(tmp_path: Path) -> None:
    for number in range(20):
        assert ask(policy(tmp_path, f'deny contains "{number}" if true')).reasons == (str(number),)
    assert len(engines._local.engines) <= 8
