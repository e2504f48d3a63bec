"""Planted faults of root, settings, jobs, policies and prices: each found by its code, each fix named."""

from pathlib import Path

import pytest

from tests.acceptance.doctor.deployments import ASKING, Patient

SUBJECTS = ("settings", "jobs", "policy", "store", "model", "prices", "gateway", "collector", "cron", "notices")


def test_a_healthy_deployment_is_0_and_has_nothing_to_fix(deployment: Patient) -> None:
    found = deployment.diagnose()
    assert (found.code, found.bad) == (0, set())
    assert {"root.ok", "settings.ok", "jobs.ok", "policy.ok", "store.ok", "model.offline", "prices.ok"} <= set(found.findings)
    assert found.one("gateway.unset")["fix"].startswith("set TASKPILOT_PUSHGATEWAY_URL")
    assert "switched off by env OTEL_ENABLED" in found.one("collector.off")["sentence"]


def test_a_deployment_where_nothing_ran_is_0_and_gets_no_store(unused: Patient) -> None:
    found = unused.diagnose()
    assert (found.code, found.bad) == (0, set())
    assert "the first run makes it" in found.one("store.none")["sentence"]
    assert not unused.state_dir.exists()


def test_without_a_root_it_is_78_and_nothing_is_called_well(deployment: Patient) -> None:
    found = deployment.diagnose(cwd=Path("/"))
    assert found.code == 78
    assert found.one("root.none")["fix"].startswith("taskpilot --root /path/to/project doctor")
    assert found.bad == {"root.none", *(f"{subject}.unchecked" for subject in SUBJECTS)}
    assert all("not checked: " in one["sentence"] for one in found.document["findings"] if one["code"] != "root.none")
    assert found.document["settings"] == []


def test_a_root_that_is_no_folder_is_78(deployment: Patient) -> None:
    assert deployment.diagnose("--root", "/nowhere").one("root.invalid")["fix"] == "taskpilot init /nowhere"


@pytest.mark.parametrize(("place", "code"), [(".", "root.untrusted"), ("taskpilot.toml", "settings.invalid"), ("jobs", "settings.invalid")])
def test_what_everybody_can_write_to_is_78(deployment: Patient, place: str, code: str) -> None:
    path = deployment.root / place
    path.chmod(path.stat().st_mode | 0o002)
    found = deployment.diagnose()
    assert found.code == 78
    assert "chmod o-w" in str(found.one(code))


def test_a_settings_file_that_cannot_be_read_is_78_and_the_rest_is_not_guessed(deployment: Patient) -> None:
    deployment.settings("a = [")
    found = deployment.diagnose()
    assert found.code == 78
    assert "taskpilot.toml is not valid TOML" in found.one("settings.invalid")["sentence"]
    assert found.one("settings.invalid")["fix"] == f"correct {deployment.root / 'taskpilot.toml'}"
    assert found.bad == {"settings.invalid", *(f"{subject}.unchecked" for subject in SUBJECTS[1:])}


def test_one_invalid_setting_hides_no_other_and_no_other_subject(deployment: Patient) -> None:
    deployment.settings("modle = 'x'\napi_token = 'x'\nlease_seconds = 1\n[policy]\nfiles = ['gone.rego']\n")
    deployment.job("1 / 0\n", name="broken")
    wrong = {"TASKPILOT_PUSHGATEWAY_URL": "nope", "TASKPILOT_LOG_LEVEL": "loud", "TASKPILOT_DATABASE_URL": "postgresql://x/y"}
    found = deployment.diagnose(environment={**wrong, "TASKPILOT_LEASE_SECONDS": None})
    assert found.code == 78
    fixes = {one["sentence"]: one["fix"] for one in found.findings["settings.invalid"]}
    assert len(fixes) == 7
    facts = [one["facts"] for one in found.findings["settings.invalid"]]
    assert {"setting": "lease_seconds", "file": "taskpilot.toml"} in facts
    assert {"setting": "TASKPILOT_LOG_LEVEL"} in facts
    for sentence, fix in (
        ("the key modle is not known", "did you mean model?"),
        ("TASKPILOT_LOG_LEVEL: must be one of", "correct TASKPILOT_LOG_LEVEL"),
        ("TASKPILOT_PUSHGATEWAY_URL: must be a URL", "correct TASKPILOT_PUSHGATEWAY_URL"),
        ("PostgreSQL is not implemented", "unset TASKPILOT_DATABASE_URL"),
        ("secrets are not read from a file", "set TASKPILOT_API_TOKEN in the environment or in .env"),
        ("gone.rego, which is not a file", "correct policy.files in taskpilot.toml"),
        ("taskpilot.toml: lease_seconds: must be", "correct lease_seconds in taskpilot.toml"),
    ):
        assert any(sentence in said and fix in advice for said, advice in fixes.items()), sentence
    assert found.bad == {"settings.invalid", "jobs.broken", "policy.unchecked", "gateway.unchecked"}
    assert {"store.ok", "jobs.ok"} <= set(found.findings)


def test_a_misspelt_variable_is_worth_a_warning(deployment: Patient) -> None:
    found = deployment.diagnose(environment={"TASKPILOT_PUSHGATEWAY": "http://localhost:9091"})
    assert (found.code, found.bad) == (0, {"settings.unknown-variable"})
    assert found.one("settings.unknown-variable")["fix"] == "correct it: did you mean TASKPILOT_PUSHGATEWAY_URL?"


class TestJobs:
    def test_each_broken_file_is_named_with_its_line_and_the_rest_is_listed(self, deployment: Patient) -> None:
        deployment.job("from taskpilot import job\n\n@job\ndef broken(ctx) -> str:\n    return (\n", name="broken")
        deployment.job("from taskpilot import RunContext, job\n@job\ndef odd(ctx: RunContext, n: int = 'x') -> None: ...\n", name="odd")
        # What a job file imports from beside it must leave no bytecode there.
        (deployment.root / "jobs" / "_shared.py").write_text("answer = 42\n")
        deployment.job("import _shared\n", name="uses")
        found = deployment.diagnose()
        assert (found.code, found.bad) == (78, {"jobs.broken"})
        sentences = sorted(one["sentence"] for one in found.findings["jobs.broken"])
        assert "broken.py:5: SyntaxError" in sentences[0]
        assert {"file": str(deployment.root / "jobs" / "broken.py"), "line": 5} in [one["facts"] for one in found.findings["jobs.broken"]]
        assert "odd.py: " in sentences[1]
        assert "taskpilot jobs validate" in found.findings["jobs.broken"][0]["fix"]
        assert found.one("jobs.ok")["sentence"] == "2 valid: by_hand, good"

    def test_a_folder_that_is_gone_is_78(self, deployment: Patient) -> None:
        found = deployment.diagnose("--jobs", "nowhere")
        assert found.code == 78
        assert "name another one with --jobs DIR" in found.one("jobs.no-folder")["fix"]


class TestPolicy:
    def test_one_that_does_not_compile_is_78(self, deployment: Patient) -> None:
        (deployment.root / "bad.rego").write_text("package taskpilot.tools\n\nallow if {\n")
        deployment.settings("[policy]\nfiles = ['bad.rego']\n")
        found = deployment.diagnose()
        assert (found.code, found.bad) == (78, {"policy.broken"})
        assert "bad.rego:" in found.one("policy.broken")["sentence"]
        assert "taskpilot policy check" in found.one("policy.broken")["fix"]

    def test_one_that_decides_otherwise_is_a_note(self, deployment: Patient) -> None:
        (deployment.root / "strict.rego").write_text('package taskpilot.tools\n\ndeny contains "never" if input.tool == "notify"\n')
        deployment.settings("[policy]\nfiles = ['strict.rego']\n")
        found = deployment.diagnose()
        assert (found.code, found.bad) == (0, set())
        assert {"policy.differs", "policy.ok"} <= set(found.findings)


class TestPrices:
    def test_a_broken_file_is_78(self, deployment: Patient) -> None:
        (deployment.root / "prices.toml").write_text("[[models]]\nname = 3\n")
        found = deployment.diagnose()
        assert (found.code, found.bad) == (78, {"prices.invalid"})
        assert str(deployment.root / "prices.toml") in found.one("prices.invalid")["fix"]

    @pytest.mark.parametrize(
        ("options", "code", "exit_code"), [("", "prices.unknown", 1), (', budget=Budget(usd="1")', "prices.refuses-run", 78)]
    )
    def test_a_model_without_a_price_is_reported_with_its_effect(
        self, deployment: Patient, options: str, code: str, exit_code: int
    ) -> None:
        deployment.job(ASKING.format(model="nobodys-model", options=options), name="asking")
        found = deployment.diagnose(environment={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})
        assert found.bad == {code, "model.unreachable"}
        assert found.code == exit_code
        assert "add a [[price]] for nobodys-model" in found.one(code)["fix"]
        assert "prices.toml" in found.one(code)["fix"]
