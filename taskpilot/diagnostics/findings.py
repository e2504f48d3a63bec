"""What the doctor can find: every code with its weight, on one page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from taskpilot.domain.exits import ExitCode


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing has to be done."""
    WARNING = "warning"
    """Runs go on, but somebody should look; also what could not be checked."""
    ERROR = "error"
    """A run would fail, or what is configured does not work."""


class Code(StrEnum):
    """A stable name, `subject.what`, with how much it matters and how `doctor` exits for it."""

    level: Level
    exit_code: ExitCode

    def __new__(cls, value: str, level: Level, exit_code: ExitCode | None = None) -> Self:
        """A member is its text; an error's exit code is 1 unless it says that the configuration is invalid (78)."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.level = level
        member.exit_code = exit_code or (ExitCode.FAILED if level is Level.ERROR else ExitCode.SUCCEEDED)
        return member

    ROOT_OK = "root.ok", Level.OK
    ROOT_NONE = "root.none", Level.ERROR, ExitCode.CONFIGURATION
    ROOT_INVALID = "root.invalid", Level.ERROR, ExitCode.CONFIGURATION
    ROOT_UNTRUSTED = "root.untrusted", Level.ERROR, ExitCode.CONFIGURATION

    SETTINGS_OK = "settings.ok", Level.OK
    SETTINGS_INVALID = "settings.invalid", Level.ERROR, ExitCode.CONFIGURATION
    SETTINGS_UNKNOWN_VARIABLE = "settings.unknown-variable", Level.WARNING
    SETTINGS_UNCHECKED = "settings.unchecked", Level.WARNING

    JOBS_OK = "jobs.ok", Level.OK
    JOBS_NONE = "jobs.none", Level.NOTE
    JOBS_NO_FOLDER = "jobs.no-folder", Level.ERROR, ExitCode.CONFIGURATION
    JOBS_BROKEN = "jobs.broken", Level.ERROR, ExitCode.CONFIGURATION
    JOBS_UNCHECKED = "jobs.unchecked", Level.WARNING

    STORE_OK = "store.ok", Level.OK
    STORE_NONE = "store.none", Level.NOTE
    STORE_HALF_MADE = "store.half-made", Level.NOTE
    STORE_DIR_UNUSABLE = "store.dir-unusable", Level.ERROR
    STORE_DIR_OWNER = "store.dir-owner", Level.ERROR
    STORE_DIR_MODE = "store.dir-mode", Level.WARNING
    STORE_FILE_OWNER = "store.file-owner", Level.WARNING
    STORE_FILE_MODE = "store.file-mode", Level.WARNING
    STORE_READ_ONLY = "store.read-only", Level.ERROR
    STORE_DISK_FULL = "store.disk-full", Level.ERROR
    STORE_DISK_LOW = "store.disk-low", Level.WARNING
    STORE_NOT_A_DATABASE = "store.not-a-database", Level.ERROR
    STORE_CORRUPT = "store.corrupt", Level.ERROR
    STORE_FOREIGN = "store.foreign", Level.ERROR
    STORE_LONE_LOG = "store.lone-log", Level.ERROR
    STORE_UNREADABLE = "store.unreadable", Level.ERROR
    STORE_LOCKED = "store.locked", Level.ERROR
    STORE_SCHEMA_OLDER = "store.schema-older", Level.ERROR, ExitCode.CONFIGURATION
    STORE_SCHEMA_NEWER = "store.schema-newer", Level.ERROR, ExitCode.CONFIGURATION
    STORE_DEPLOYMENT = "store.deployment", Level.ERROR, ExitCode.CONFIGURATION
    STORE_NOT_WAL = "store.not-wal", Level.WARNING
    STORE_LOG_LARGE = "store.log-large", Level.WARNING
    STORE_PARTLY_CHECKED = "store.partly-checked", Level.NOTE
    STORE_UNCHECKED = "store.unchecked", Level.WARNING

    MODEL_OK = "model.ok", Level.OK
    MODEL_OFFLINE = "model.offline", Level.OK
    MODEL_NONE = "model.none", Level.NOTE
    MODEL_NO_ACCESS = "model.no-access", Level.ERROR, ExitCode.CONFIGURATION
    MODEL_UNREACHABLE = "model.unreachable", Level.ERROR
    MODEL_KEY_REFUSED = "model.key-refused", Level.ERROR
    MODEL_UNWELL = "model.unwell", Level.ERROR
    MODEL_NOT_LISTED = "model.not-listed", Level.WARNING
    MODEL_UNCHECKED = "model.unchecked", Level.WARNING

    PRICES_OK = "prices.ok", Level.OK
    PRICES_INVALID = "prices.invalid", Level.ERROR, ExitCode.CONFIGURATION
    PRICES_REFUSES_RUN = "prices.refuses-run", Level.ERROR, ExitCode.CONFIGURATION
    PRICES_UNKNOWN = "prices.unknown", Level.WARNING
    PRICES_NONE = "prices.none", Level.NOTE
    PRICES_UNCHECKED = "prices.unchecked", Level.WARNING

    GATEWAY_OK = "gateway.ok", Level.OK
    GATEWAY_UNSET = "gateway.unset", Level.NOTE
    GATEWAY_UNREACHABLE = "gateway.unreachable", Level.ERROR
    GATEWAY_FOREIGN_STORE = "gateway.foreign-store", Level.ERROR, ExitCode.CONFIGURATION
    GATEWAY_UNOWNED_GROUP = "gateway.unowned-group", Level.WARNING
    GATEWAY_REMOVED_JOB = "gateway.removed-job", Level.WARNING
    GATEWAY_OWED = "gateway.pending", Level.WARNING
    GATEWAY_NOT_PUSHED = "gateway.not-pushed", Level.NOTE
    GATEWAY_UNCHECKED = "gateway.unchecked", Level.WARNING

    PUSHGATEWAY_OK = "pushgateway.ok", Level.OK
    PUSHGATEWAY_UNUSED = "pushgateway.unused", Level.ERROR
    PUSHGATEWAY_UNREACHABLE = "pushgateway.unreachable", Level.ERROR
    PUSHGATEWAY_UNCHECKED = "pushgateway.unchecked", Level.WARNING

    PROMETHEUS_OK = "prometheus.ok", Level.OK
    PROMETHEUS_UNREACHABLE = "prometheus.unreachable", Level.ERROR
    PROMETHEUS_NO_SERIES = "prometheus.no-series", Level.ERROR
    PROMETHEUS_LABELS = "prometheus.labels", Level.ERROR
    PROMETHEUS_NO_RULES = "prometheus.no-rules", Level.ERROR
    PROMETHEUS_RULE_FAILS = "prometheus.rule-fails", Level.ERROR
    PROMETHEUS_NO_ALERTMANAGER = "prometheus.no-alertmanager", Level.ERROR
    PROMETHEUS_UNCHECKED = "prometheus.unchecked", Level.WARNING

    ALERTMANAGER_OK = "alertmanager.ok", Level.OK
    ALERTMANAGER_UNREACHABLE = "alertmanager.unreachable", Level.ERROR
    ALERTMANAGER_NO_RECEIVER = "alertmanager.no-receiver", Level.ERROR
    ALERTMANAGER_UNCHECKED = "alertmanager.unchecked", Level.WARNING

    JAEGER_OK = "jaeger.ok", Level.OK
    JAEGER_UNREACHABLE = "jaeger.unreachable", Level.ERROR
    JAEGER_NO_TRACES = "jaeger.no-traces", Level.NOTE
    JAEGER_UNCHECKED = "jaeger.unchecked", Level.WARNING

    ELASTICSEARCH_OK = "elasticsearch.ok", Level.OK
    ELASTICSEARCH_UNREACHABLE = "elasticsearch.unreachable", Level.ERROR
    ELASTICSEARCH_RED = "elasticsearch.red", Level.ERROR
    ELASTICSEARCH_PASSWORD = "elasticsearch.password", Level.NOTE
    ELASTICSEARCH_UNCHECKED = "elasticsearch.unchecked", Level.WARNING

    GRAFANA_OK = "grafana.ok", Level.OK
    GRAFANA_UNREACHABLE = "grafana.unreachable", Level.ERROR
    GRAFANA_DATABASE = "grafana.database", Level.ERROR
    GRAFANA_UNCHECKED = "grafana.unchecked", Level.WARNING

    TELEMETRY_OK = "telemetry.ok", Level.OK
    TELEMETRY_OWED = "telemetry.pending", Level.WARNING
    TELEMETRY_FAILURES = "telemetry.failures", Level.NOTE
    TELEMETRY_UNCHECKED = "telemetry.unchecked", Level.WARNING

    COLLECTOR_OK = "collector.ok", Level.OK
    COLLECTOR_OFF = "collector.off", Level.NOTE
    COLLECTOR_NONE = "collector.none", Level.NOTE
    COLLECTOR_UNREACHABLE = "collector.unreachable", Level.ERROR
    COLLECTOR_NO_ROUTE = "collector.no-route", Level.ERROR
    COLLECTOR_REFUSED = "collector.refused", Level.ERROR
    COLLECTOR_UNCHECKED = "collector.unchecked", Level.WARNING

    POLICY_OK = "policy.ok", Level.OK
    POLICY_DIFFERS = "policy.differs", Level.NOTE
    POLICY_BROKEN = "policy.broken", Level.ERROR, ExitCode.CONFIGURATION
    POLICY_UNCHECKED = "policy.unchecked", Level.WARNING

    CRON_OK = "cron.ok", Level.OK
    CRON_NONE = "cron.none", Level.NOTE
    CRON_ENVIRONMENT = "cron.environment", Level.WARNING
    CRON_SHELL_ONLY = "cron.shell-only", Level.WARNING
    CRON_PERCENT = "cron.percent", Level.WARNING
    CRON_COMMAND = "cron.command", Level.WARNING
    CRON_NO_ROOT = "cron.no-root", Level.WARNING
    CRON_NOT_QUIET = "cron.not-quiet", Level.WARNING
    CRON_NO_FIRE = "cron.no-fire", Level.WARNING
    CRON_NO_SCHEDULE = "cron.no-schedule", Level.WARNING
    CRON_UNKNOWN_JOB = "cron.unknown-job", Level.WARNING
    CRON_UNCHECKED = "cron.unchecked", Level.WARNING


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is known about one subject."""

    code: Code
    sentence: str
    """May hold untrusted text."""
    fix: str = ""
    """The command or the key that helps; empty where nothing has to be done."""
    facts: Mapping[str, str | int] = field(default_factory=dict)
    """What the sentence is about, for programs: `setting`, `file`, `line`, `job`, `model`, `url`, `path` and the like."""

    @property
    def level(self) -> Level:
        """How much it matters."""
        return self.code.level

    @property
    def subject(self) -> str:
        """What was looked at."""
        return self.code.partition(".")[0]


def unchecked(subject: str, why: str, fix: str = "") -> Finding:
    """A subject that could not be looked at; it is never called well."""
    code = next(code for code in Code if code == f"{subject}.unchecked")
    return Finding(code, f"not checked: {why}", fix)
