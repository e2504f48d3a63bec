"""Reads the settings: the command line wins over the environment, that over `.env`, that over the file, the file over the defaults."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from taskpilot.config import values
from taskpilot.config.dotenv import DOTENV_FILE, DotEnv, filled, merged, read_dotenv
from taskpilot.config.model import Settings
from taskpilot.config.proxies import proxy_of
from taskpilot.config.root import PROJECT_FILE, SETTINGS_FILE, check_trusted, find_root, project_table, read_toml
from taskpilot.domain.chat import DEFAULT_OUTPUT_TOKENS, OPENAI_URL
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.notices import COOLDOWN, SELECTABLE
from taskpilot.domain.specs import DEFAULT_APPROVAL_TIMEOUT
from taskpilot.domain.text import one_line


@dataclass(frozen=True, slots=True)
class _Option:
    """One setting: its key and variables, and how its value is read."""

    field: str
    read: Callable[[Any], Any]
    default: Any = None
    key: str | None = None
    """Dotted, in the settings file; None where only the environment may set it."""
    names: tuple[str, ...] = ()
    """Environment variables, the first that is set wins."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The raw value of one setting, and its source."""

    source: str
    """For people, as in `Settings.sources`."""
    value: Any
    setting: str
    """The variable, the option of the command line, or the file's key."""
    file: str | None = None
    variable: str | None = None


HISTORY_DAYS: Final = 90
"""Three months: long enough to find out why a run failed, and short enough for a small disk."""

HOUSEKEEPING: Final = timedelta(minutes=15)

_STACK_PORTS: Final = {"prometheus": 9090, "alertmanager": 9093, "jaeger": 16686, "elasticsearch": 9200, "grafana": 3000}
"""As docker-compose.observability.yml publishes them."""

OPTIONS: Final = (
    _Option("state_dir", values.text, ".taskpilot", "home", ("TASKPILOT_HOME",)),
    _Option("jobs_dir", values.text, "jobs", "jobs", ("TASKPILOT_JOBS",)),
    _Option("model", values.text, None, "model", ("TASKPILOT_MODEL",)),
    _Option("openai_api_key", values.secret, None, None, ("OPENAI_API_KEY",)),
    _Option("openai_base_url", values.url, None, "openai.base_url", ("OPENAI_BASE_URL",)),
    _Option("openai_max_output_tokens", values.token_count, DEFAULT_OUTPUT_TOKENS, "openai.max_output_tokens"),
    _Option("openai_request_timeout", values.seconds, None, "openai.request_timeout"),
    _Option("openai_proxy", values.proxy, None, "openai.proxy"),
    _Option("deployment", values.name, None, "deployment", ("TASKPILOT_DEPLOYMENT",)),
    _Option("pushgateway_url", values.url, None, "pushgateway_url", ("TASKPILOT_PUSHGATEWAY_URL",)),
    _Option("otel_enabled", values.boolean, True, "otel.enabled", ("OTEL_ENABLED",)),
    _Option("otel_endpoint", values.url, None, "otel.endpoint", ("OTEL_EXPORTER_OTLP_ENDPOINT",)),
    _Option("otel_traces_endpoint", values.url, None, None, ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",)),
    _Option(
        "otel_protocol", values.protocol, "grpc", "otel.protocol", ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    ),
    _Option(
        "otel_headers",
        values.headers,
        MappingProxyType({}),
        "otel.headers",
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
    ),
    _Option("otel_certificate", values.text, None, None, ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE")),
    _Option("otel_content", values.capture, False, "otel.content", ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",)),
    _Option("otel_service_name", values.text, "taskpilot", "otel.service_name", ("OTEL_SERVICE_NAME",)),
    _Option("otel_resource_attributes", values.attributes, MappingProxyType({}), None, ("OTEL_RESOURCE_ATTRIBUTES",)),
    _Option("log_level", values.log_level, "INFO", "log_level", ("TASKPILOT_LOG_LEVEL",)),
    _Option("lease_seconds", values.lease_seconds, 30.0, "lease_seconds", ("TASKPILOT_LEASE_SECONDS",)),
    _Option("drain_timeout", values.seconds, 30.0, "drain_timeout", ("TASKPILOT_DRAIN_TIMEOUT",)),
    _Option("approval_timeout", values.approval_timeout, DEFAULT_APPROVAL_TIMEOUT, "approval_timeout"),
    _Option("max_concurrent_runs", values.run_count, 4, "max_concurrent_runs", ("TASKPILOT_MAX_CONCURRENT_RUNS",)),
    _Option("history_days", values.days_or_off, HISTORY_DAYS, "history_days", ("TASKPILOT_HISTORY_DAYS",)),
    _Option("housekeeping", values.interval_or_off, HOUSEKEEPING, "housekeeping", ("TASKPILOT_HOUSEKEEPING",)),
    _Option("port", values.port, 8000, "port", ("PORT",)),
    _Option("api_token", values.secret, None, None, ("TASKPILOT_API_TOKEN",)),
    _Option("read_token", values.secret, None, None, ("TASKPILOT_READ_TOKEN",)),
    _Option("public_url", values.public_url, None, "web.public_url"),
    _Option("policy_files", values.texts, (), "policy.files"),
    _Option("policy_default", values.boolean, True, "policy.default"),
    *(
        _Option(f"stack_{name}", values.url, f"http://localhost:{port}", f"stack.{name}", (f"TASKPILOT_STACK_{name.upper()}_URL",))
        for name, port in _STACK_PORTS.items()
    ),
    _Option("notify_channels", values.channels, MappingProxyType({}), "notify.channels"),
    _Option("notify_default", values.texts, (), "notify.default"),
    _Option("notify_events", values.notice_events, SELECTABLE, "notify.events"),
    _Option("notify_cooldown", values.cooldown, COOLDOWN, "notify.cooldown"),
    _Option("notify_after", values.failure_count, 1, "notify.after"),
    _Option("notify_quiet", values.quiet, None, "notify.quiet"),
    _Option("notify_report", values.time_of_day, None, "notify.report"),
    _Option("notify_ping_url", values.url, None, "notify.ping_url"),
)
_KEYS: Final = frozenset(option.key for option in OPTIONS if option.key is not None)
_TABLES: Final = frozenset(key.partition(".")[0] for key in _KEYS if "." in key) | {"budget"}
_FOREIGN: Final = frozenset(name for option in OPTIONS for name in option.names if name.startswith("OTEL_")) - {"OTEL_ENABLED"}
"""Variables of OpenTelemetry's specification."""
_FROM_ENVIRONMENT_ONLY: Final = {
    "openai_api_key": "OPENAI_API_KEY",
    "openai.api_key": "OPENAI_API_KEY",
    "api_token": "TASKPILOT_API_TOKEN",
    "read_token": "TASKPILOT_READ_TOKEN",
}


@dataclass(frozen=True, slots=True)
class Survey:
    """What is configured, as far as it can be read."""

    settings: Settings
    problems: Mapping[str, ConfigurationError]
    """Invalid options by field, which then has its default, or by the file's key where there is no such field; in the order found."""


def load(
    *,
    root: Path | None = None,
    home: Path | None = None,
    jobs: Path | None = None,
    log_level: str | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """The settings in force for work that starts in `cwd` (default: the current folder).

    `root`, `home`, `jobs` and `log_level` come from the command line; a relative `root` is relative to `cwd`, a relative `home` or
    `jobs` to the root. Writes nothing. Raises ConfigurationError that names each invalid option, with a hint.
    """
    found = survey(root=root, home=home, jobs=jobs, log_level=log_level, cwd=cwd, environ=environ)
    problems = tuple(found.problems.values())
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigurationError(problems=problems)
    return found.settings


def survey(
    *,
    root: Path | None = None,
    home: Path | None = None,
    jobs: Path | None = None,
    log_level: str | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Survey:
    """Like `load`, but collects the problems: one invalid option does not hide the others.

    Raises ConfigurationError if there is no root, or if the root or its settings file cannot be read or trusted.
    """
    environ = os.environ if environ is None else environ
    folder = _root(cwd, root)
    file, table = _settings_file(folder)
    problems: dict[str, ConfigurationError] = {}
    dotenv = DotEnv()
    with _noted(problems, DOTENV_FILE):
        dotenv = read_dotenv(folder)
    variables = merged(dotenv.values, environ)
    found = _found(variables, dotenv, environ, file, table, problems)
    typed = {"state_dir": ("--home", home), "jobs_dir": ("--jobs", jobs), "log_level": ("--log-level", log_level)}
    found |= {name: _Found(option, str(value), setting=option) for name, (option, value) in typed.items() if value is not None}

    warnings: list[str] = []
    fields: dict[str, Any] = {"root": folder, "dotenv": dotenv.values, "dotenv_refused": dotenv.refused}
    references: dict[str, frozenset[str]] = {}
    sources = {"root": "default" if root is None else "--root"}
    for option in OPTIONS:
        given = found.get(option.field)
        source = given.source if given else "default"
        try:
            fields[option.field] = option.read(_value(option, given, variables, references)) if given else option.default
        except ValueError as error:
            assert given is not None, "defaults are valid"
            shown = f"{given.file}: {given.setting}" if given.file else source
            if given.file is None and given.setting in _FOREIGN:
                # A platform sets these for every program, and OpenTelemetry asks to ignore a value that one does not know.
                warnings.append(f"{shown} is ignored: {error}")
                fields[option.field], sources[option.field] = option.default, "default"
                del found[option.field]
                continue
            problems[option.field] = ConfigurationError(f"{shown}: {error}", setting=given.setting, file=given.file)
            fields[option.field] = option.default
        sources[option.field] = source
    _settle_paths(fields, sources, problems)
    for name in fields["notify_default"]:
        if name not in fields["notify_channels"] and "notify_channels" not in problems:
            sentence = f"{sources['notify_default']}: notify.default names {one_line(name, limit=64)}, which is not a channel"
            hint = f"add [notify.channels.{one_line(name, limit=64)}] with its url"
            problems["notify_default"] = ConfigurationError(sentence, hint=hint, setting="notify.default", file=file)
    by_environment = proxy_of(fields["openai_base_url"] or OPENAI_URL, variables) if fields["openai_proxy"] is None else None
    if by_environment is not None:
        fields["openai_proxy"], sources["openai_proxy"] = by_environment[0], f"env {by_environment[1]}"
    elif fields["openai_proxy"] == "off":
        fields["openai_proxy"] = None
    if sources["otel_enabled"] == "default" and variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        fields["otel_enabled"], sources["otel_enabled"] = False, "env OTEL_SDK_DISABLED"
        found["otel_enabled"] = _Found("env OTEL_SDK_DISABLED", "true", setting="OTEL_SDK_DISABLED", variable="OTEL_SDK_DISABLED")
    if fields["otel_endpoint"] is None:
        # OpenTelemetry's default ports of the two protocols.
        fields["otel_endpoint"] = f"http://localhost:{4317 if fields['otel_protocol'] == 'grpc' else 4318}"
    from_variables = {name: given.variable for name, given in found.items() if given.variable is not None}
    settings = Settings(
        **fields,
        warnings=tuple(warnings),
        sources=MappingProxyType(sources),
        variables=MappingProxyType(from_variables),
        references=MappingProxyType(references),
    )
    return Survey(settings, MappingProxyType(problems))


def _root(cwd: Path | None, explicit: Path | None) -> Path:
    try:
        start = Path.cwd() if cwd is None else cwd
    except OSError:
        raise ConfigurationError("the current folder does not exist any more", hint="change into a folder that exists") from None
    folder = find_root(start, explicit)
    if folder is None:
        raise ConfigurationError(
            f"no TaskPilot root in {start} or above: neither a {SETTINGS_FILE} nor a {PROJECT_FILE} with [tool.taskpilot]",
            hint="name it with `taskpilot --root /path/to/project ...`, or make one with `taskpilot init DIR`",
        )
    check_trusted(folder)
    return folder


def _settings_file(root: Path) -> tuple[str, dict[str, Any]]:
    """The name and content of the file that holds the settings; an empty one where there is none."""
    own, project = root / SETTINGS_FILE, root / PROJECT_FILE
    beside = project_table(project) if project.is_file() else None
    if beside is not None:
        check_trusted(project)
    if not own.is_file():
        return PROJECT_FILE, beside or {}
    check_trusted(own)
    if beside:
        raise ConfigurationError(
            f"{own} and [tool.taskpilot] in {project} both hold settings; only one of them may",
            hint=f"move them into {SETTINGS_FILE} (an empty [tool.taskpilot] may stay)",
        )
    return SETTINGS_FILE, read_toml(own)


def _value(option: _Option, given: _Found, variables: Mapping[str, str], references: dict[str, frozenset[str]]) -> Any:
    """The raw value, with its variables filled in where it is from a file. Raises ValueError."""
    if given.file is None:
        return given.value

    def is_url(key: str) -> bool:
        return key.endswith(("url", "proxy")) or (key == option.key and option.read is values.url)

    names: set[str] = set()
    try:
        return filled(given.value, variables, is_url=is_url, key=given.setting, names=names)
    finally:
        if names:
            references[given.setting] = frozenset(names)


def _found(
    variables: Mapping[str, str],
    dotenv: DotEnv,
    environ: Mapping[str, str],
    file: str,
    table: Mapping[str, Any],
    problems: dict[str, ConfigurationError],
) -> dict[str, _Found]:
    """Each field that the environment, `.env` or the file sets; an empty variable counts as not set."""
    if variables.get("TASKPILOT_DATABASE_URL"):
        problems["TASKPILOT_DATABASE_URL"] = ConfigurationError(
            "env TASKPILOT_DATABASE_URL: PostgreSQL is not implemented in this version, the store is SQLite in the state dir",
            hint="unset TASKPILOT_DATABASE_URL",
        )
    given = _flat(file, table, problems)
    found: dict[str, _Found] = {}
    for option in OPTIONS:
        name = next((name for name in option.names if variables.get(name, "").strip()), None)
        if name is not None and name in dotenv.values and not environ.get(name, "").strip():
            found[option.field] = _Found(f"{DOTENV_FILE} {name}", variables[name], setting=name)
        elif name is not None:
            found[option.field] = _Found(f"env {name}", variables[name], setting=name, variable=name)
        elif option.key is not None and option.key in given:
            found[option.field] = _Found(file, given[option.key], setting=option.key, file=file)
    return found


def _flat(file: str, table: Mapping[str, Any], problems: dict[str, ConfigurationError]) -> dict[str, Any]:
    """The file's values by dotted key. An unknown key is a problem."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if key in _TABLES and isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": content for inner, content in value.items()}
        else:
            flat[key] = value
    for key in flat:
        if key not in _KEYS:
            sentence, hint = _refusal(key)
            problems[key] = ConfigurationError(f"{file}: {sentence}", hint=hint, setting=one_line(key, limit=80), file=file)
    return flat


def _refusal(key: str) -> tuple[str, str]:
    """Why a key is refused, and a hint."""
    shown = one_line(key, limit=80)
    if key == "database_url":
        return "database_url: PostgreSQL is not implemented in this version, the store is SQLite in the state dir", "remove database_url"
    if key.partition(".")[0] == "budget":
        return f"{shown}: budgets of a day or a deployment are not implemented in this version", "remove it and give the job a Budget(...)"
    if key in _FROM_ENVIRONMENT_ONLY:
        sentence = f"{shown}: secrets are not read from a file that may be shared"
        return sentence, f"set {_FROM_ENVIRONMENT_ONLY[key]} in the environment or in {DOTENV_FILE}"
    from difflib import get_close_matches

    near = get_close_matches(key, sorted(_KEYS), n=1, cutoff=0.5)
    return f"the key {shown} is not known", f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(_KEYS))}"


@contextmanager
def _noted(problems: dict[str, ConfigurationError], name: str) -> Iterator[None]:
    """Keeps a ConfigurationError under the field's name; the first one wins."""
    try:
        yield
    except ConfigurationError as error:
        problems.setdefault(name, error)


def _settle_paths(fields: dict[str, Any], sources: dict[str, str], problems: dict[str, ConfigurationError]) -> None:
    """Makes paths absolute, relative to the root, and refuses files that another user could change."""
    root: Path = fields["root"]
    for name in ("state_dir", "jobs_dir"):
        given, fields[name] = fields[name], root
        with _noted(problems, name):
            fields[name] = _absolute(root, given)
    jobs_dir: Path = fields["jobs_dir"]
    with _noted(problems, "jobs_dir"):
        if jobs_dir.exists():
            if not jobs_dir.is_dir():
                hint = "name the folder of your job files by --jobs DIR"
                raise ConfigurationError(f"{sources['jobs_dir']}: {jobs_dir} is not a folder of job files", hint=hint)
            check_trusted(jobs_dir)
    given, fields["policy_files"] = fields["policy_files"], ()
    with _noted(problems, "policy_files"):
        fields["policy_files"] = _policy_files(tuple(_absolute(root, name) for name in given), fields, sources)
    prices = root / "prices.toml"
    fields["prices_file"] = prices if prices.is_file() else None
    sources["prices_file"] = "prices.toml" if prices.is_file() else "default"
    if prices.is_file():
        with _noted(problems, "prices_file"):
            check_trusted(prices)


def _policy_files(files: tuple[Path, ...], fields: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[Path, ...]:
    """The files; each exists and is trusted. Raises ConfigurationError, also if no policy is left."""
    for path in files:
        if not path.is_file():
            sentence = f"{sources['policy_files']}: policy.files names {path}, which is not a file"
            raise ConfigurationError(sentence, setting="policy.files", file=sources["policy_files"])
        check_trusted(path)
    if not files and not fields["policy_default"]:
        raise ConfigurationError(
            f"{sources['policy_default']}: policy.default = false without policy.files leaves no policy: every tool call would be denied",
            hint="name the Rego files in policy.files",
        )
    return files


def _absolute(root: Path, name: str) -> Path:
    try:
        path = Path(name).expanduser()
    except RuntimeError:
        raise ConfigurationError(f"{name}: ~ cannot be replaced: there is no home folder", hint="write the whole path") from None
    return (root / path).resolve()
