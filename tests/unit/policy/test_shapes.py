"""Policy files say only what is evaluated; what never ends, or ends its process, is named by file and line."""

from pathlib import Path

import pytest

from taskpilot.domain.decisions import PolicyInput, PolicyResult, Verdict
from taskpilot.domain.errors import ConfigurationError
from taskpilot.policy import RegoPolicy, WatchedPolicy, check_apart, undecided


def written(folder: Path, *texts: str) -> RegoPolicy:
    files = [folder / f"p{number}.rego" for number in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text if text.lstrip("\ufeff").startswith("package") else f"package taskpilot.tools\n{text}\n")
    return RegoPolicy(files=files)


REFUSED = {
    # Never evaluated, so a denial that never happens.
    'deny(x) := "no" if x': r"p0\.rego:2: this shape of deny is not evaluated",
    'deny[m] if { m := "no" }': r"p0\.rego:2: this shape of deny",
    'deny[m] := 1 if { m := "no" }': r"p0\.rego:2: this shape of deny",
    'deny.why contains "no" if true': r"p0\.rego:2: a rule with a dot",
    "deny.why := 1": r"p0\.rego:2: a rule with a dot",
    'deny := "no" if input.tool == "x"': r"p0\.rego:2: this shape of deny",
    "deny := 1 if true": r"p0\.rego:2: this shape of deny",
    'require_approval := ["a"] if true': r"p0\.rego:2: this shape of require_approval",
    'deny if { input.tool == "x" } else := true': r"p0\.rego:2: this shape of deny",
    "default deny(x) := true": r"p0\.rego:2: this default of deny",
    'default deny := "no"': r"p0\.rego:2: this default of deny",
    "allow contains true": r"p0\.rego:2: this shape of allow",
    "allow(x) if x": r"p0\.rego:2: this shape of allow",
    'allow := "true"': r"p0\.rego:2: this shape of allow",
    "allow if { false } else := 1": r"p0\.rego:2: this shape of allow",
    'allow if true\ndenny contains "no" if true': r"p0\.rego:3: the rule denny is never evaluated",
    "allow if true\ndefault alow := false": r"p0\.rego:3: the rule alow is never evaluated",
    "allow if true\na if b\nb if input.tool": r"p0\.rego:3: the rule a is never evaluated",
    # Undefined without an error, so a denial that never happens.
    'deny contains "no" if http["send"]({"url": "x"}).status_code': r"p0\.rego:2: http\.send is not available",
    'deny contains "no" if { x := http.send({}); x }': r"p0\.rego:2: http\.send is not available",
    'deny contains "no" if opa.runtime().env.STAGE == "production"': r"p0\.rego:2: opa\.runtime is not available",
    'deny := true if { input.tool == "x" } else := false': r"p0\.rego:2: this shape of deny is not evaluated",
    'default deny := {"no"}': r"p0\.rego:2: this default of deny is not evaluated",
    "f(x) := y if { f := 1; y := f }\nf(x) := y if { x == 2; y := f(x) }\nallow if f(1)": r"p0\.rego:3: f uses itself",
    "f(x) := [y | y := f(x)]\nallow if f(1) == []": r"p0\.rego:2: f uses itself",
    "\ufeffpackage taskpilot.tool\nallow if true": r"p0\.rego:1: its package is taskpilot\.tool, and only",
    'deny contains "no" if net.lookup_ip_addr("x")': r"p0\.rego:2: there is no function net\.lookup_ip_addr",
    'deny contains "no" if input.args.title == "x"': r"p0\.rego:2: input\.args is never there",
    'deny contains "no" if input["titel"]': r"p0\.rego:2: input\.titel is never there",
    'deny contains "no" if { i := input; i.titel }': r"p0\.rego:2: name the field: input\.tool",
    'deny contains "no" if { some k in ["titel"]; input[k] }': r"p0\.rego:2: name the field: input\.tool",
    'deny contains "no" if object.get(input, "titel", 1) == 2': r"p0\.rego:2: name the field: input\.tool",
    'deny contains "no" if data.company.closed': r"p0\.rego:2: data\.company\.closed is never there",
    'deny contains "no" if data[input.tool]': r"p0\.rego:2: data\.\[\.\.\.\] is never there",
    'deny contains "no" if data.taskpilot.tools.nothing': r"p0\.rego:2: .*nothing is never there",
    'import data.company\ndeny contains "no" if company.closed': r"p0\.rego:2: only `import rego",
    'import input.arguments as a\ndeny contains "no" if a.x': r"p0\.rego:2: only `import rego",
    'deny contains "no" if { y with input.tool as "x" }\ny if input.tool': r"p0\.rego:2: `with` is for tests",
    # Recursion ends the process of the engine.
    "f(x) := f(x - 1)\nallow if f(input.arguments.n)": r"p0\.rego:2: f uses itself",
    "f(x) := g(x)\ng(x) := f(x)\nallow if f(1)": r"p0\.rego:2: f uses itself",
    "f(x) := data.taskpilot.tools.f(x)\nallow if f(1)": r"p0\.rego:2: f uses itself",
    "a if b\nb if a\nallow if a": r"p0\.rego:2: a uses itself",
    "allow if " + "(" * 200 + "true" + ")" * 200: r"p0\.rego:2: brackets nest deeper than 64",
    "": r"p0\.rego:1: it defines no rule",
    "package taskpilot.tool\nallow if true": r"p0\.rego:1: its package is taskpilot\.tool, and only",
    "package taskpilot.tools.more\nallow if true": r"p0\.rego:1: its package is taskpilot\.tools\.more",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_what_is_not_evaluated_is_refused_by_file_and_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=REFUSED[text]):
        written(tmp_path, text).compile()


def test_a_second_file_of_a_misspelt_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"p1\.rego:1: its package is taskpilot\.tolls"):
        written(tmp_path, "allow if false", 'package taskpilot.tolls\ndeny contains "no" if true').compile()


GOOD = """
import rego.v1

default allow := false

allow if {
	some name in input.job_tools
	input.tool == name
	every word in words { not contains(input.folded.title, word) }
} else := false

words := {"drop", "delete"}

deny contains reason if {
	some field, value in input.arguments
	is_string(value)
	bad(value)
	reason := sprintf("%s says no", [field])
}

deny contains "a number" if { input.arguments.numbers[_] == 13 }

bad(value) if count([word | some word in words; contains(lower(value), word)]) > 0

default limit(_) := 3

limit(tool) := levels[tool]

levels[tool] := 5 if some tool in ["a", "b"]

require_approval if data.taskpilot.tools.limit(input.tool) > 4

require_approval := {x | some x in input.job_tools; startswith(x, "danger")}
"""


def test_what_is_evaluated_is_taken(tmp_path: Path) -> None:
    written(tmp_path, GOOD.replace("require_approval if", "ask if").replace('startswith(x, "danger")', "ask")).compile()
    written(tmp_path, GOOD.partition("require_approval :=")[0]).compile()
    written(tmp_path, "allow if open", "open if input.agent == `planner`").compile()
    written(tmp_path, "default deny := false\ndeny if input.tool == `x`").compile()


SLOW = "allow if {\n\tsome a in numbers.range(1, 3000)\n\tsome b in numbers.range(1, 3000)\n\ta * b == 0\n}"
DEEP = "allow if " + ("1 + " * 200 + "\n") * 1_000 + "1 == 0"


@pytest.mark.parametrize(
    ("text", "says"),
    [(SLOW, r"p0\.rego:2: allow was not evaluated within 1 s"), (DEEP, r"p0\.rego:4: an expression has more than 500 operators")],
    ids=["slow", "deep"],
)
def test_a_policy_that_does_not_end_or_ends_its_process_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_apart(written(tmp_path, text), tmp_path, seconds=1)


def test_the_check_apart_gives_the_same_report(tmp_path: Path) -> None:
    report = check_apart(written(tmp_path, 'deny contains "read only" if input.tool == "notify"'), tmp_path, seconds=60)
    assert report.ok
    assert any(one.differs and one.reasons == ("read only",) for one in report.fixtures)
    assert report.files[-1].endswith("p0.rego")


def test_a_question_is_noted_while_it_is_decided_and_left_where_the_process_ends_in_it(tmp_path: Path) -> None:
    question = PolicyInput("notify", {"message": "secret"}, "executor", "triage", "r1", ("a",))
    seen = []

    class Dying:
        def decide(self, asked: PolicyInput) -> PolicyResult:
            seen.extend(path.read_text() for path in tmp_path.iterdir())
            # What a process leaves that is killed here.
            for path in list(tmp_path.iterdir()):
                path.rename(tmp_path / f"{path.stem}0.json")
            return PolicyResult(Verdict.ALLOW, (), "e", "p")

    policy = WatchedPolicy(Dying(), tmp_path, hide=lambda value: value | {"arguments": {"message": "***"}})
    assert policy.decide(question).verdict is Verdict.ALLOW
    assert len(seen) == 1
    assert "secret" not in seen[0]
    ((left, result),) = undecided(tmp_path)
    assert (left.tool, left.arguments, left.job_tools) == ("notify", {"message": "***"}, ["a"])
    assert result.verdict is Verdict.DENY
    assert list(tmp_path.iterdir()) == []
