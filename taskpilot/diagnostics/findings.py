"""What the doctor can find: each code with its level, sentence and fix, on one page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from shlex import quote
from string import Formatter
from typing import Any, Final, Self

from taskpilot.domain.exits import ExitCode


class Level(StrEnum):
    """How serious a finding is."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing has to be done."""
    WARNING = "warning"
    """Runs continue, but a person should look; also what could not be checked."""
    ERROR = "error"
    """A run would fail, or what is configured does not work."""


_OK: Final = Level.OK, ExitCode.SUCCEEDED
_NOTE: Final = Level.NOTE, ExitCode.SUCCEEDED
_WARNING: Final = Level.WARNING, ExitCode.SUCCEEDED
_ERROR: Final = Level.ERROR, ExitCode.FAILED
_INVALID: Final = Level.ERROR, ExitCode.CONFIGURATION
"""The configuration is invalid."""

_UNCHECKED: Final = _WARNING, "not checked: {why}", "{fix}"
COMPOSE: Final = "docker compose -f docker-compose.observability.yml"
_UNREACHABLE: Final = _ERROR, "{url} gives no usable answer: {why}", COMPOSE + " up -d {server}; or {key}"
_BACKUP: Final = "restore it from a backup (those of `taskpilot db backup` are in its folder `backups`), or move it away to start with none"
_HOME: Final = "give another state dir by TASKPILOT_HOME or --home"
_SPANS_KEPT: Final = "traces.jsonl in the state dir keeps the spans"
_EXAMPLE: Final = "crontab.example shows a whole line"


def _row(name: str, weight: tuple[Level, ExitCode], sentence: str, fix: str = "") -> tuple[str, tuple[Level, ExitCode], str, str]:
    return name, weight, sentence, fix


class Code(StrEnum):
    """A stable name, `subject.what`, with its level, exit code, sentence and fix; `{name}` is a fact, `{name!q}` quoted for a shell."""

    level: Level
    exit_code: ExitCode
    sentence: str
    fix: str

    def __new__(cls, value: str, weight: tuple[Level, ExitCode], sentence: str, fix: str) -> Self:
        """A member equals its name."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.level, member.exit_code = weight
        member.sentence, member.fix = sentence, fix
        return member

    # fmt: off
    ROOT_OK = _row("root.ok", _OK, "{root}, {how}")
    ROOT_NONE = _row("root.none", _INVALID,
        "no TaskPilot root in {folder} or above: no taskpilot.toml, and no pyproject.toml with [tool.taskpilot]",
        "taskpilot --root /path/to/project doctor; `taskpilot init DIR` makes a new one")
    ROOT_INVALID = _row("root.invalid", _INVALID, "{error}", "{fix}")
    ROOT_UNTRUSTED = _row("root.untrusted", _INVALID, "{error}", "{fix}")

    SETTINGS_OK = _row("settings.ok", _OK, "{given} of {known} are given, the others have their defaults")
    SETTINGS_INVALID = _row("settings.invalid", _INVALID, "{error}", "{fix}")
    SETTINGS_UNKNOWN_VARIABLE = _row(
        "settings.unknown-variable", _WARNING, "the environment variable {variable} sets nothing: no setting has this name", "{fix}")
    SETTINGS_IGNORED = _row("settings.ignored", _WARNING, "{warning}", "set it to another value, or unset it")
    SETTINGS_DOTENV = _row("settings.dotenv", _WARNING, ".env sets {names}, which only the environment may set: ignored",
        "take it out of .env")
    SETTINGS_UNCHECKED = _row("settings.unchecked", *_UNCHECKED)

    JOBS_OK = _row("jobs.ok", _OK, "{count} valid: {jobs}")
    JOBS_NONE = _row("jobs.none", _NOTE, "{path} defines no job", "`taskpilot init DIR` makes a first one to copy")
    JOBS_NO_FOLDER = _row("jobs.no-folder", _INVALID, "{error}", "{fix}")
    JOBS_BROKEN = _row("jobs.broken", _INVALID, "{error}", "correct the file, then `taskpilot jobs validate`; the other jobs run meanwhile")
    JOBS_BLOCKED = _row("jobs.blocked", _INVALID, "`taskpilot serve` cannot start {job}, as it found at {at}: {error}", "{fix}")
    JOBS_UNCHECKED = _row("jobs.unchecked", *_UNCHECKED)

    POLICY_OK = _row("policy.ok", _OK, "compiled: {files}")
    POLICY_DIFFERS = _row("policy.differs", _NOTE, "the project's files decide {count} known calls differently from the shipped policy",
        "nothing, where that is meant; `taskpilot policy check` lists them")
    POLICY_BROKEN = _row("policy.broken", _INVALID, "{error}", "{fix}")
    POLICY_UNCHECKED = _row("policy.unchecked", *_UNCHECKED)

    STORE_OK = _row("store.ok", _OK, "{path}: schema {schema}, runs recorded: {runs:,}, integrity checked, log {log}, {free} free")
    STORE_NONE = _row("store.none", _NOTE, "there is no store at {path} yet: the first run makes it")
    STORE_HALF_MADE = _row("store.half-made", _NOTE, "the store {path} is empty: its creation was interrupted; the next run completes it")
    STORE_DIR_UNUSABLE = _row("store.dir-unusable", _ERROR, "{path} cannot be the state dir: {why}",
        f"make it a folder that this user can read and write, or {_HOME}")
    STORE_DIR_OWNER = _row("store.dir-owner", _ERROR, "the state dir {path} belongs to uid {owner}, not to this user",
        "chown -R {uid} {path!q}, or run as that user, or " + _HOME)
    STORE_DIR_MODE = _row("store.dir-mode", _WARNING,
        "the state dir {path} is open to other users (mode {mode}): it holds prompts and results", "chmod 700 {path!q}")
    STORE_FILE_OWNER = _row("store.file-owner", _WARNING, "the store {path} belongs to uid {owner}, not to this user",
        "chown {uid} {path!q}*, or run as that user")
    STORE_FILE_MODE = _row("store.file-mode", _WARNING, "the store {path} is open to other users (mode {mode})", "chmod 600 {path!q}*")
    STORE_READ_ONLY = _row("store.read-only", _ERROR, "{path} is read-only for this user: no run can be recorded", "{fix}")
    STORE_DISK_FULL = _row("store.disk-full", _ERROR, "the disk of the state dir is full: {free} are left",
        "free some space on the disk of {path}, or " + _HOME)
    STORE_DISK_LOW = _row("store.disk-low", _WARNING, "the disk of the state dir is nearly full: {free} are left",
        "free some space on the disk of {path}, or " + _HOME)
    STORE_NOT_A_DATABASE = _row("store.not-a-database", _ERROR, "{path} is not a database", _BACKUP)
    STORE_CORRUPT = _row("store.corrupt", _ERROR, "the store {path} is damaged: {detail}", _BACKUP)
    STORE_FOREIGN = _row("store.foreign", _ERROR, "{path} is a database, but not one of TaskPilot's", f"move it away, or {_HOME}")
    STORE_LONE_LOG = _row("store.lone-log", _ERROR, "{path}-wal holds rows, but {path} is missing or empty",
        "put taskpilot.db back beside it from a backup, or move the log away")
    STORE_UNREADABLE = _row(
        "store.unreadable", _ERROR, "the store {path} cannot be read: {detail}", "look at the permissions of that folder and at the disk")
    STORE_LOCKED = _row("store.locked", _ERROR, "{holder} holds the lock of {path} for more than a second: runs end with 75",
        "`fuser {path!q}` shows the process; end it, or wait for its end")
    STORE_SCHEMA_OLDER = _row("store.schema-older", _INVALID, "the store {path} has schema {schema}, this version needs {newest}",
        "taskpilot db backup && taskpilot db upgrade")
    STORE_SCHEMA_NEWER = _row("store.schema-newer", _INVALID, "the store {path} has schema {schema}, newer than this version's {newest}",
        f"install the TaskPilot that wrote it, or {_HOME}")
    STORE_DEPLOYMENT = _row("store.deployment", _INVALID, "the store {path} belongs to deployment {deployment}, not to {wanted}",
        "unset TASKPILOT_DEPLOYMENT, or give another TASKPILOT_HOME")
    STORE_NOT_WAL = _row("store.not-wal", _WARNING, "the store {path} has no write-ahead log: readers and writers wait for each other",
        "taskpilot db upgrade")
    STORE_LOG_LARGE = _row("store.log-large", _WARNING,
        "the write-ahead log of the store has grown to {log}: a reader prevents its checkpoint",
        "`fuser {path!q}` shows which process holds it open; end that process")
    STORE_PARTLY_CHECKED = _row("store.partly-checked", _NOTE, "only a part of its integrity was checked: it is large",
        "sqlite3 -readonly {path!q} 'PRAGMA integrity_check'")
    STORE_UNCHECKED = _row("store.unchecked", *_UNCHECKED)

    MODEL_OK = _row("model.ok", _OK, "{url} answers and lists {models}")
    MODEL_OFFLINE = _row("model.offline", _OK, "offline is built in: rules, no network, no key; {users}")
    MODEL_NONE = _row(
        "model.none", _NOTE, "no model is named: a job that asks one would fail", "set TASKPILOT_MODEL, or give the job model=")
    MODEL_NO_ACCESS = _row("model.no-access", _INVALID, "{error}", "{fix}")
    MODEL_UNREACHABLE = _row("model.unreachable", _ERROR, "{url} cannot be reached: {error}",
        "start that server or correct OPENAI_BASE_URL; a run would end with 75")
    MODEL_KEY_REFUSED = _row("model.key-refused", _ERROR, "{url} refuses {what} ({status})", "set OPENAI_API_KEY to a key of that server")
    MODEL_UNWELL = _row("model.unwell", _ERROR, "{url} answers {status} to a request for its models",
        "try again later; if that does not help, look at that server's log")
    MODEL_NOT_LISTED = _row("model.not-listed", _WARNING, "{url} does not list {model}; it lists {listed}",
        "correct TASKPILOT_MODEL or the job's model=; some servers take names that they do not list")
    MODEL_UNCHECKED = _row("model.unchecked", *_UNCHECKED)

    PRICES_OK = _row("prices.ok", _OK, "known: {models}")
    PRICES_INVALID = _row("prices.invalid", _INVALID, "{error}", "{fix}")
    PRICES_REFUSES_RUN = _row("prices.refuses-run", _INVALID,
        "the price of {model} is not known, so the budget in USD refuses each run of {jobs}",
        "add a [[price]] for {model} to {file}, or give the budget in tokens or calls")
    PRICES_UNKNOWN = _row("prices.unknown", _WARNING,
        "the price of {model} is not known: its cost will be unknown, and budgets limit calls and tokens only",
        "add a [[price]] for {model} to {file}")
    PRICES_NONE = _row("prices.none", _NOTE, "no model is named, so no price is needed")
    PRICES_UNCHECKED = _row("prices.unchecked", *_UNCHECKED)

    NOTICES_OK = _row("notices.ok", _OK, "usable: {channels}; jobs without channels of their own tell {default}")
    NOTICES_NONE = _row("notices.none", _NOTE, "no channel is configured: nobody is told when a job fails",
        "add [notify.channels.ops] with its url to taskpilot.toml: taskpilot docs notices")
    NOTICES_NOBODY = _row("notices.nobody", _WARNING, "channels are configured, but nobody is told: [notify] default names none",
        "add default = [{names}] to [notify]")
    NOTICES_UNUSABLE = _row("notices.unusable", _INVALID, "{error}", "{fix}")
    NOTICES_UNKNOWN_CHANNEL = _row("notices.unknown-channel", _INVALID,
        "job {job} names the channel {channel}, which is not in the settings",
        "add [notify.channels.{channel}] to taskpilot.toml, or correct notify= of the job")
    NOTICES_UNSIGNED = _row("notices.unsigned", _NOTE, "the webhook {channel} has no secret: its receiver cannot tell who posts to it",
        'add secret = "${{NAME}}" to [notify.channels.{channel}], and NAME to .env')
    NOTICES_FAILING = _row("notices.failing", _WARNING, "{count} notices did not arrive at the channel {channel}{why}",
        "taskpilot notify test {channel}; they are sent again by themselves")
    NOTICES_UNCHECKED = _row("notices.unchecked", *_UNCHECKED)

    GATEWAY_OK = _row("gateway.ok", _OK, "{url} answers; {groups}")
    GATEWAY_UNSET = _row("gateway.unset", _NOTE, "no Pushgateway is set, so no metrics are pushed",
        "set TASKPILOT_PUSHGATEWAY_URL, or pushgateway_url in taskpilot.toml, if you want them")
    GATEWAY_UNREACHABLE = _row("gateway.unreachable", _ERROR, "{error}", "{fix}")
    GATEWAY_FOREIGN_STORE = _row("gateway.foreign-store", _INVALID,
        "another store ({store_id}) fills the group of {job} under the name {deployment}",
        "{delete} if that store is gone; else give one of the two its own TASKPILOT_HOME and TASKPILOT_DEPLOYMENT")
    GATEWAY_UNOWNED_GROUP = _row("gateway.unowned-group", _WARNING,
        "the group of {job} under the name {deployment} names no store: it was not pushed by TaskPilot", "{fix}")
    GATEWAY_REMOVED_JOB = _row(
        "gateway.removed-job", _WARNING, "the group of {job} is still there, but no file defines that job", "taskpilot metrics prune")
    GATEWAY_PENDING = _row("gateway.pending", _WARNING, "the metrics of {jobs} are still pending{why}", "taskpilot metrics push")
    GATEWAY_NOT_PUSHED = _row("gateway.not-pushed", _NOTE, "{jobs} has no metrics there yet", "taskpilot metrics push")
    GATEWAY_UNCHECKED = _row("gateway.unchecked", *_UNCHECKED)

    COLLECTOR_OK = _row("collector.ok", _OK, "{url} {answer}")
    COLLECTOR_OFF = _row("collector.off", _NOTE, "no traces are sent: switched off by {source}; " + _SPANS_KEPT)
    COLLECTOR_NONE = _row("collector.none", _NOTE, "no collector listens at {url}, the default; " + _SPANS_KEPT,
        "set OTEL_EXPORTER_OTLP_ENDPOINT to a collector, or OTEL_ENABLED=false")
    COLLECTOR_UNREACHABLE = _row("collector.unreachable", _ERROR, "{url} {why}; " + _SPANS_KEPT, "{fix}")
    COLLECTOR_NO_ROUTE = _row(
        "collector.no-route", _ERROR, "{url} has no such path (404)", "correct OTEL_EXPORTER_OTLP_ENDPOINT: the base, without /v1/traces")
    COLLECTOR_REFUSED = _row("collector.refused", _ERROR, "{url} refuses the request ({status})", "correct OTEL_EXPORTER_OTLP_HEADERS")
    COLLECTOR_UNCHECKED = _row("collector.unchecked", *_UNCHECKED)

    CRON_OK = _row("cron.ok", _OK, "crontab lines for this root: {count}, each complete")
    CRON_NONE = _row("cron.none", _NOTE, "{why}", "{fix}")
    CRON_ENVIRONMENT = _row("cron.environment", _WARNING,
        "{variables} not set in this environment: jobs do not find git and other programs",
        "write {variable}=... at the top of the crontab, or in the unit")
    CRON_SHELL_ONLY = _row("cron.shell-only", _WARNING, "crontab line {line} does not have what this shell sets: {variables}",
        "write it to .env in the root (chmod 600), or put it into taskpilot.toml")
    CRON_PERCENT = _row("cron.percent", _WARNING, "crontab line {line} has a bare %: cron ends the command there", "write \\% for each %")
    CRON_COMMAND = _row("cron.command", _WARNING, "crontab line {line}: {why}", "write the whole path: {program}")
    CRON_NO_ROOT = _row("cron.no-root", _WARNING, "crontab line {line} names no absolute root, and cron starts in the home folder",
        "write taskpilot --root {root!q} ...")
    CRON_NOT_QUIET = _row(
        "cron.not-quiet", _WARNING, "crontab line {line} has no --quiet: cron mails each success", "add --quiet to `run {job}`")
    CRON_NO_FIRE = _row("cron.no-fire", _WARNING,
        "crontab line {line} claims no fire: a second line, or a retry by hand, runs the job twice",
        "add --scheduled-for auto to `run {job}`")
    CRON_NO_SCHEDULE = _row("cron.no-schedule", _WARNING,
        "crontab line {line} asks for the fire of {job}, which has no schedule: each start is exit 2",
        "give the job schedule=cron(...) with the times of the line")
    CRON_UNKNOWN_JOB = _row(
        "cron.unknown-job", _WARNING, "crontab line {line} runs {job}, which no file defines", "`taskpilot jobs` lists the jobs that exist")
    CRON_UNCHECKED = _row("cron.unchecked", *_UNCHECKED)

    TELEMETRY_OK = _row("telemetry.ok", _OK, "nothing is pending: all metrics and spans are delivered")
    TELEMETRY_PENDING = _row("telemetry.pending", _WARNING, "{what}: {pending}", "{fix}")
    TELEMETRY_FAILURES = _row("telemetry.failures", _NOTE, "deliveries that failed at first, since the store was made: {counts}")
    TELEMETRY_UNCHECKED = _row("telemetry.unchecked", *_UNCHECKED)

    PUSHGATEWAY_OK = _row("pushgateway.ok", _OK, "Pushgateway {version} at {url}")
    PUSHGATEWAY_UNUSED = _row("pushgateway.unused", _ERROR, "Pushgateway {version} at {url} answers, but nothing is pushed to it", "{fix}")
    PUSHGATEWAY_UNREACHABLE = _row("pushgateway.unreachable", *_UNREACHABLE)
    PUSHGATEWAY_UNCHECKED = _row("pushgateway.unchecked", *_UNCHECKED)

    PROMETHEUS_OK = _row("prometheus.ok", _OK, "Prometheus {version} at {url} has {what}")
    PROMETHEUS_UNREACHABLE = _row("prometheus.unreachable", *_UNREACHABLE)
    PROMETHEUS_NO_SERIES = _row("prometheus.no-series", _ERROR, "{url} has no metrics of this store{down}",
        "taskpilot metrics push; and let prometheus.yml scrape the Pushgateway as observability/prometheus/prometheus.yml does")
    PROMETHEUS_LABELS = _row("prometheus.labels", _ERROR,
        "{url} has the metrics of this store under the gateway's name instead of job={job!r}",
        "set honor_labels: true for the Pushgateway's scrape in prometheus.yml")
    PROMETHEUS_NO_RULES = _row("prometheus.no-rules", _ERROR, "{url} has no rule of TaskPilot, so a job that stops running raises no alarm",
        "name observability/prometheus/rules/*.yml under rule_files in prometheus.yml, and start Prometheus again")
    PROMETHEUS_RULE_FAILS = _row(
        "prometheus.rule-fails", _ERROR, "the rule {rule} fails: {why}", "promtool check rules observability/prometheus/rules/*.yml")
    PROMETHEUS_NO_ALERTMANAGER = _row("prometheus.no-alertmanager", _ERROR, "{url} has no Alertmanager to send alarms to",
        "name it under alerting.alertmanagers in prometheus.yml")
    PROMETHEUS_UNCHECKED = _row("prometheus.unchecked", *_UNCHECKED)

    ALERTMANAGER_OK = _row("alertmanager.ok", _OK, "Alertmanager {version} at {url}")
    ALERTMANAGER_UNREACHABLE = _row("alertmanager.unreachable", *_UNREACHABLE)
    ALERTMANAGER_NO_RECEIVER = _row("alertmanager.no-receiver", _ERROR, "{url} has no receiver that sends alarms to a person",
        "give alertmanager.yml a receiver, as observability/alertmanager does")
    ALERTMANAGER_UNCHECKED = _row("alertmanager.unchecked", *_UNCHECKED)

    JAEGER_OK = _row("jaeger.ok", _OK, "{name} at {url} has traces of {service}")
    JAEGER_UNREACHABLE = _row("jaeger.unreachable", *_UNREACHABLE)
    JAEGER_NO_TRACES = _row("jaeger.no-traces", _NOTE, "{name} at {url} has no trace of {service} yet",
        "taskpilot traces replay, where runs have ended since it is there")
    JAEGER_UNCHECKED = _row("jaeger.unchecked", *_UNCHECKED)

    ELASTICSEARCH_OK = _row("elasticsearch.ok", _OK, "Elasticsearch {version} at {url} is {health}")
    ELASTICSEARCH_UNREACHABLE = _row("elasticsearch.unreachable", *_UNREACHABLE)
    ELASTICSEARCH_RED = _row("elasticsearch.red", _ERROR,
        "Elasticsearch {version} at {url} is red: some of the log lines cannot be read or written", f"{COMPOSE} logs elasticsearch")
    ELASTICSEARCH_PASSWORD = _row("elasticsearch.password", _NOTE, "{url} answers and asks for a password; its health was not checked",
        "set TASKPILOT_STACK_ELASTICSEARCH_URL=http://elastic:PASSWORD@localhost:9200, with the password of .env")
    ELASTICSEARCH_UNCHECKED = _row("elasticsearch.unchecked", *_UNCHECKED)

    GRAFANA_OK = _row("grafana.ok", _OK, "Grafana {version} at {url}")
    GRAFANA_UNREACHABLE = _row("grafana.unreachable", *_UNREACHABLE)
    GRAFANA_DATABASE = _row(
        "grafana.database", _ERROR, "Grafana {version} at {url} cannot use its database: {database}", f"{COMPOSE} logs grafana")
    GRAFANA_UNCHECKED = _row("grafana.unchecked", *_UNCHECKED)
    # fmt: on


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
        """How serious it is."""
        return self.code.level

    @property
    def subject(self) -> str:
        """What was checked."""
        return self.code.partition(".")[0]


class _Sentences(Formatter):
    def convert_field(self, value: Any, conversion: Any) -> Any:
        return quote(str(value)) if conversion == "q" else super().convert_field(value, conversion)


_TEXTS: Final = frozenset({"error", "fix", "delete"})
"""Whole sentences and commands that another module made: shown, but no facts."""


def found(code: Code, **facts: str | int | Path | None) -> Finding:
    """A finding from its facts; those that are None are left out."""
    known = {name: value if isinstance(value, int) else str(value) for name, value in facts.items() if value is not None}
    fill = _Sentences().vformat
    public = {name: value for name, value in known.items() if name not in _TEXTS}
    return Finding(code, fill(code.sentence, (), known), fill(code.fix, (), known), public)


def unchecked(subject: str, why: str, fix: str = "") -> Finding:
    """A subject that could not be checked; it is never reported as ok."""
    return found(Code.__members__[f"{subject.upper()}_UNCHECKED"], why=why, fix=fix)
