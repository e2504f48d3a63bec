"""Which source wins, and what is refused."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskpilot.config import Secret, Settings, load
from taskpilot.config.caller import caller_traceparent
from taskpilot.domain.errors import ConfigurationError
from taskpilot.llm.prices import Prices


def write(root: Path, text: str) -> None:
    (root / "taskpilot.toml").write_text(text)


def refusal(root: Path, text: str = "", **environ: str) -> str:
    if text:
        write(root, text)
    with pytest.raises(ConfigurationError) as caught:
        load(cwd=root, environ=environ)
    return caught.value.one_line


def test_an_empty_environment_gives_the_documented_defaults(root: Path) -> None:
    settings = load(cwd=root, environ={})
    assert (settings.root, settings.state_dir, settings.jobs_dir) == (root, root / ".taskpilot", root / "jobs")
    assert (settings.model, settings.openai_api_key, settings.openai_base_url) == (None, None, None)
    assert (settings.pushgateway_url, settings.deployment, settings.api_token) == (None, None, None)
    assert (settings.otel_enabled, settings.otel_protocol, settings.otel_endpoint) == (True, "grpc", "http://localhost:4317")
    assert (settings.lease_seconds, settings.drain_timeout, settings.log_level) == (30.0, 30.0, "INFO")
    assert (settings.policy_files, settings.policy_default, dict(settings.notify_channels)) == ((), True, {})
    assert set(settings.sources.values()) == {"default"}


def test_every_field_has_a_source(root: Path) -> None:
    names = {field.name for field in dataclasses.fields(Settings)} - {
        "sources",
        "variables",
        "warnings",
        "dotenv",
        "dotenv_refused",
        "references",
    }
    assert set(load(cwd=root, environ={}).sources) == names


def test_nothing_is_written(root: Path) -> None:
    load(cwd=root, environ={})
    assert [path.name for path in root.iterdir()] == ["taskpilot.toml"]


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(root: Path) -> None:
    write(root, 'log_level = "ERROR"\nhome = "from-file"\nmodel = "file-model"\n')
    assert load(cwd=root, environ={}).sources["model"] == "taskpilot.toml"
    environ = {"TASKPILOT_LOG_LEVEL": "debug", "TASKPILOT_HOME": "from-env", "TASKPILOT_MODEL": ""}
    settings = load(cwd=root, environ=environ)
    assert (settings.log_level, settings.state_dir, settings.model) == ("DEBUG", root / "from-env", "file-model")
    assert settings.sources["state_dir"] == "env TASKPILOT_HOME"
    typed = load(cwd=root, environ=environ, home=Path("typed"), jobs=Path("/elsewhere"), log_level="warning")
    assert (typed.log_level, typed.state_dir, typed.jobs_dir) == ("WARNING", root / "typed", Path("/elsewhere"))
    assert (typed.sources["log_level"], typed.sources["state_dir"], typed.sources["jobs_dir"]) == ("--log-level", "--home", "--jobs")


def test_relative_paths_start_at_the_root_not_where_cron_started_us(root: Path) -> None:
    below = root / "below"
    below.mkdir()
    settings = load(cwd=below, environ={"TASKPILOT_HOME": "state", "TASKPILOT_JOBS": "work"})
    assert (settings.state_dir, settings.jobs_dir) == (root / "state", root / "work")


def test_a_pyproject_table_is_read_where_there_is_no_file_of_our_own(root: Path) -> None:
    (root / "taskpilot.toml").unlink()
    (root / "pyproject.toml").write_text('[tool.taskpilot]\nmodel = "m"\n')
    settings = load(cwd=root, environ={})
    assert (settings.model, settings.sources["model"]) == ("m", "pyproject.toml")


def test_settings_in_both_files_are_refused_instead_of_guessed(root: Path) -> None:
    (root / "pyproject.toml").write_text("[tool.taskpilot]\n")
    load(cwd=root, environ={})
    (root / "pyproject.toml").write_text('[tool.taskpilot]\nmodel = "m"\n')
    assert "both hold settings" in refusal(root)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "x"', "did you mean model?"),
        ('[policy]\nfile = ["x"]', "did you mean policy.files?"),
        ('[openai]\nbase-url = "http://x"', "did you mean openai.base_url?"),
        ("policy = 5", "policy"),
        ("zzz = 1", "known are "),
        ('"a\\u001b[31mb" = 1', r"a\x1b[31mb"),
        ("[budget]\nusd_per_day = 5", "budget.usd_per_day: budgets of a day"),
        ("budget = 5", "not implemented in this version"),
        ('database_url = "postgresql://x"', "PostgreSQL is not implemented in this version"),
        ('[openai]\napi_key = "sk-1"', "OPENAI_API_KEY"),
        ('api_token = "t"', "TASKPILOT_API_TOKEN"),
        ('read_token = "t"', "TASKPILOT_READ_TOKEN"),
        ("model = 5", "taskpilot.toml: model: must be text"),
        ('model = " "', "must not be empty"),
        ("lease_seconds = 1", "at least 2 s"),
        ("lease_seconds = nan", "between 0 s and a day"),
        ("lease_seconds = true", "between 0 s and a day"),
        ('drain_timeout = "soon"', "is not a duration"),
        ("policy.default = 1", "must be true or false"),
        ('policy.files = "x.rego"', "must be a list"),
        ('policy.files = ["gone.rego"]', "gone.rego, which is not a file"),
        ("policy.default = false", "leaves no policy"),
        ('deployment = "a/b"', "deployment"),
        ('log_level = "loud"', "must be one of TRACE"),
        ("model = ", "is not valid TOML"),
        ('[otel]\nprotocol = "http/json"', "http/json is not implemented"),
        ('[notify.channels.ops]\nheaders = {a = "b"}', "ops needs a url"),
        ('[notify.channels.ops]\nurl = "x"', "ops: must be a URL"),
        ('[notify.channels.ops]\nurl = "http://"', "ops: must be a URL"),
        ('[notify.channels.ops]\nurl = "http://anna:token@x/"', "ops: must not hold a user"),
        ('[notify.channels.ops]\nurl = "mailto://x"\nsecret = "s"', "ops: only an http or https URL has headers or a secret"),
        ('[notify.channels.ping]\nurl = "http://x"', "'ping' is the name of the pings"),
        ('[notify]\ndefault = ["ops"]', "notify.default names ops, which is not a channel"),
        ('[notify]\nevents = ["run_broke"]', "'run_broke' is not an event"),
        ('[notify]\nevents = ["drill"]', "'drill' is not an event"),
        ('[notify]\ncooldown = "5s"', "must be from 1m to 30d"),
        ("[notify]\nafter = 0", "must be a whole number from 1 to 100"),
        ('[notify]\nquiet = "22:00"', "must be two times of the day"),
        ('[notify]\nquiet = "07:00-07:00"', "must be two times of the day"),
        ('[notify]\nreport = "25:00"', "must be a time of the day"),
        ('[notify]\nping_url = "ftp://x"', "must be a URL"),
        ('[notify.channels.ops]\nurl = "http://x"\nbody = "b"', "unknown key 'body'"),
        ('[notify.channels.ops]\nurl = "http://x"\nheaders = {"a b" = "c"}', "is not a valid header name"),
        ('[notify.channels.ops]\nurl = "http://x"\nheaders = {a = "b\\r\\nc: d"}', "printable ASCII"),
        ('[notify.channels."a b"]\nurl = "http://x"', "not a valid channel name"),
        ("notify.channels = 5", "must be a table"),
    ],
)
def test_a_wrong_settings_file_is_refused_by_name(root: Path, text: str, said: str) -> None:
    message = refusal(root, text)
    assert said in message
    assert message.isprintable()


def test_a_job_does_not_get_the_variables_that_channels_are_configured_by(root: Path) -> None:
    write(root, '[openai]\nbase_url = "http://${HOST}/v1"\n[notify.channels.ops]\nurl = "https://x/${HOOK}"\nheaders = {a = "${HEAD}"}')
    withheld = load(cwd=root, environ={"HOST": "h", "HOOK": "a", "HEAD": "b"}).withheld
    assert ({"HOOK", "HEAD"} <= set(withheld), "HOST" in withheld, "OPENAI_API_KEY" in withheld) == (True, False, False)


FOREIGN = {
    "OTEL_EXPORTER_OTLP_HEADERS": "novalue",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://u:hunter2@ho st",
    "OTEL_RESOURCE_ATTRIBUTES": "k8s.pod.name=a,broken,team=x y",
    "OTEL_SERVICE_NAME": "a\x01b",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "some",
}


def test_a_value_of_opentelemetry_that_we_cannot_use_is_a_warning_and_the_default_applies(root: Path) -> None:
    settings, plain = load(cwd=root, environ=FOREIGN), load(cwd=root, environ={})
    assert dataclasses.replace(settings, warnings=()) == plain
    assert len(settings.warnings) == len(FOREIGN)
    for name in FOREIGN:
        (warning,) = (one for one in settings.warnings if f"env {name} " in one)
        assert (warning.isprintable(), "hunter2" in warning) == (True, False)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_settings_of_an_editor_that_writes_a_byte_order_mark_are_read(root: Path, end: str) -> None:
    (root / "taskpilot.toml").write_bytes(b"\xef\xbb\xbf" + f'model = "m"{end}{end}[openai]{end}max_output_tokens = 9{end}'.encode())
    (root / "prices.toml").write_bytes(b"\xef\xbb\xbf" + f'[[price]]{end}model = "m"{end}input = "1"{end}output = "2"{end}'.encode())
    settings = load(cwd=root, environ={})
    assert (settings.model, settings.openai_max_output_tokens) == ("m", 9)
    assert Prices(settings.prices_file).known("m")
    (root / "taskpilot.toml").write_text('model = "m"', encoding="utf-16")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load(cwd=root, environ={})


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TASKPILOT_DATABASE_URL", "postgresql://x", "PostgreSQL is not implemented in this version"),
        ("TASKPILOT_PUSHGATEWAY_URL", "localhost:9091", "must be a URL"),
        ("TASKPILOT_PUSHGATEWAY_URL", "http://u:hunter2@ho st", "must be a URL"),
        ("OPENAI_BASE_URL", "http://", "must be a URL"),
        ("OPENAI_BASE_URL", "http://x:99999", "must be a URL"),
        ("TASKPILOT_LEASE_SECONDS", "0.5", "at least 2 s"),
        ("TASKPILOT_LEASE_SECONDS", "inf", "between 0 s and a day"),
        ("TASKPILOT_MODEL", "a\x1b[2Jb", "control characters"),
        ("OTEL_ENABLED", "maybe", "must be true or false"),
    ],
)
def test_a_wrong_variable_is_refused_by_name_and_shows_no_secret(root: Path, name: str, value: str, said: str) -> None:
    message = refusal(root, **{name: value})
    assert message.startswith(f"env {name}")
    assert said in message
    assert message.isprintable()
    assert "hunter2" not in message


def test_secrets_are_in_no_repr(root: Path) -> None:
    write(root, '[notify.channels.ops]\nurl = "https://x/hunter2"\nheaders = {Authorization = "Bearer hunter2"}\n')
    environ = {
        "OPENAI_API_KEY": " sk-hunter2\n",
        "TASKPILOT_API_TOKEN": "hunter2",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20hunter2",
        "TASKPILOT_PUSHGATEWAY_URL": "http://u:hunter2@gw:9091",
        "OPENAI_BASE_URL": "http://u:hunter2@llm/v1",
    }
    settings = load(cwd=root, environ=environ)
    assert "hunter2" not in f"{settings!r} {settings}"
    assert settings.openai_api_key == Secret("sk-hunter2")
    assert settings.otel_headers == {"authorization": "Bearer hunter2"}
    assert settings.notify_channels["ops"].headers == {"Authorization": "Bearer hunter2"}
    assert {"TASKPILOT_API_TOKEN", "GRAFANA_ADMIN_PASSWORD"} <= set(settings.withheld)


def test_durations_may_be_numbers_or_words(root: Path) -> None:
    settings = load(cwd=root, environ={"TASKPILOT_LEASE_SECONDS": "2", "TASKPILOT_DRAIN_TIMEOUT": "1m30s"})
    assert (settings.lease_seconds, settings.drain_timeout) == (2.0, 90.0)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http://localhost:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/"}, "http://c:1/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/own"}, "http://c:1/own"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "http://localhost:4317"),
    ],
)
def test_spans_go_where_the_standard_names_say(root: Path, environ: dict[str, str], url: str) -> None:
    assert load(cwd=root, environ=environ).otel_traces_url == url


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "taskpilot"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=night,team=ops"}, "night"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=night,team=ops", "OTEL_SERVICE_NAME": "day"}, "day"),
    ],
)
def test_a_service_has_the_name_that_the_standard_names_say(root: Path, environ: dict[str, str], name: str) -> None:
    resource = load(cwd=root, environ=environ).otel_resource
    assert resource["service.name"] == name
    assert resource.get("team") == ("ops" if environ else None)


def test_traces_can_be_switched_off_by_either_name(root: Path) -> None:
    assert not load(cwd=root, environ={"OTEL_ENABLED": "false"}).otel_enabled
    settings = load(cwd=root, environ={"OTEL_SDK_DISABLED": "true"})
    assert (settings.otel_enabled, settings.sources["otel_enabled"]) == (False, "env OTEL_SDK_DISABLED")


def test_policy_files_are_absolute_and_only_ours_to_change(root: Path) -> None:
    rego = root / "own.rego"
    rego.write_text("package own\n")
    write(root, 'policy = {files = ["own.rego"], default = false}\n')
    assert load(cwd=root, environ={}).policy_files == (rego,)
    rego.chmod(0o666)
    assert "chmod o-w" in refusal(root)


def test_a_jobs_folder_that_is_a_file_is_refused(root: Path) -> None:
    (root / "jobs").write_text("")
    assert "is not a folder of job files" in refusal(root)


def test_prices_are_found_beside_the_settings(root: Path) -> None:
    assert load(cwd=root, environ={}).prices_file is None
    (root / "prices.toml").write_text("")
    assert load(cwd=root, environ={}).prices_file == root / "prices.toml"


def test_settings_cannot_be_changed(root: Path) -> None:
    settings = load(cwd=root, environ={})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.model = "other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.sources["model"] = "x"  # type: ignore[index]


@pytest.mark.parametrize("environ", [{}, {"HOME": "/nonexistent", "LOGNAME": "nobody", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}])
def test_it_works_in_the_bare_environment_of_cron(root: Path, environ: dict[str, str]) -> None:
    repository = Path(__file__).parents[3]
    code = f"import sys; sys.path.insert(0, {os.fspath(repository)!r}); from taskpilot.config import load; print(load().root)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr, done.returncode) == (os.fspath(root), "", 0)


def test_content_of_messages_goes_into_spans_only_on_opentelemetrys_word(root: Path) -> None:
    name = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    assert not load(cwd=root, environ={}).otel_content
    for word, wanted in {"true": True, "SPAN_ONLY": True, "span_and_event": True, "false": False, "EVENT_ONLY": False}.items():
        assert load(cwd=root, environ={name: word}).otel_content is wanted
    ignored = load(cwd=root, environ={name: "perhaps"})
    assert (ignored.otel_content, len(ignored.warnings)) == (False, 1)


def test_the_callers_span_is_read_from_the_environment_and_an_invalid_one_is_none() -> None:
    good = f"00-{'ab' * 16}-{'cd' * 8}-01"
    assert caller_traceparent({"TRACEPARENT": good}) == good
    assert caller_traceparent({"TRACEPARENT": "00-zz"}) is None
    assert caller_traceparent({}) is None
