"""The settings as one frozen value, with the source of each field."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta
from pathlib import Path
from typing import Final, Literal

from taskpilot.domain.channels import Channel
from taskpilot.domain.notices import NoticeEvent, Quiet

_WITHHELD: Final = (
    "TASKPILOT_API_TOKEN",
    "TASKPILOT_READ_TOKEN",
    "ALERT_WEBHOOK_URL",
    "ELASTIC_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
    "KIBANA_ENCRYPTION_KEY",
    "KIBANA_SYSTEM_PASSWORD",
)
_WITHHELD_TABLES: Final = frozenset({"notify", "web", "models", "mcp"})
Protocol = Literal["grpc", "http/protobuf"]


class Secret:
    """A text that no repr, log line or table shows; `get_secret_value()` returns it.

    pydantic's SecretStr does the same, but costs each command 160 ms of import.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def get_secret_value(self) -> str:
        """The text itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('**********')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings. No other package reads the environment again."""

    root: Path
    """Absolute. Jobs and state are relative to it."""
    state_dir: Path
    """Absolute: everything that TaskPilot writes. It may not exist yet."""
    jobs_dir: Path
    """Absolute. It may not exist."""
    model: str | None
    """The model of a run that neither `--model` nor its job names."""
    openai_api_key: Secret | None
    openai_base_url: str | None = field(repr=False)
    openai_max_output_tokens: int
    """The limit of one reply; a server whose context is too small for it is asked for less."""
    openai_request_timeout: float | None
    """Seconds for one reply; None: the run's remaining deadline, at most 10 minutes."""
    openai_proxy: str | None = field(repr=False)
    """The proxy through which the model's server is reached; None: directly."""
    deployment: str | None
    """The configured name; a store keeps the name that it was created with."""
    pushgateway_url: str | None = field(repr=False)
    """None: no push."""
    otel_enabled: bool
    otel_endpoint: str
    """A collector's base URL without `/v1/traces`, as in OTEL_EXPORTER_OTLP_ENDPOINT."""
    otel_traces_endpoint: str | None
    """OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: used unchanged, instead of the base URL."""
    otel_protocol: Protocol
    otel_headers: Mapping[str, str] = field(repr=False)
    otel_certificate: str | None
    """OTEL_EXPORTER_OTLP_CERTIFICATE: a PEM file with the authorities to trust for an https collector; None: the system's."""
    otel_content: bool
    """Whether prompts, replies, arguments and results are in the spans; known secrets are masked in them."""
    otel_service_name: str
    otel_resource_attributes: Mapping[str, str]
    log_level: str
    """A level that loguru knows, in capitals."""
    lease_seconds: float
    """How long a run's lease lasts without a renewal."""
    drain_timeout: float
    """Seconds that a server waits for its runs when it is asked to stop."""
    approval_timeout: timedelta
    """How long a question to a person is open, where neither the tool nor the job says so."""
    max_concurrent_runs: int
    """Runs that a server executes at once; further due runs wait in the store, in order."""
    history_days: int | None
    """Housekeeping deletes ended runs and fires that are older; None: it deletes none."""
    housekeeping: timedelta | None
    """How often the built-in job of that name is due; None: the root has no such job."""
    port: int
    """The TCP port of the server."""
    api_token: Secret | None
    """The server's token; None: on a loopback address it makes one of its own."""
    read_token: Secret | None
    """A token that may only read."""
    public_url: str | None
    """The address at which people reach the server, for the links in notices; None: notices have none."""
    policy_files: tuple[Path, ...]
    """Absolute; each is an existing file that only we or uid 0 can change."""
    policy_default: bool
    """False: the project's files replace the shipped policy."""
    stack_prometheus: str = field(repr=False)
    """The addresses that `doctor --stack` checks; nothing else uses these five."""
    stack_alertmanager: str = field(repr=False)
    stack_jaeger: str = field(repr=False)
    stack_elasticsearch: str = field(repr=False)
    stack_grafana: str = field(repr=False)
    notify_channels: Mapping[str, Channel]
    notify_default: tuple[str, ...]
    """The channels that get the notices of a job that names none of its own."""
    notify_events: tuple[NoticeEvent, ...]
    """What is told."""
    notify_cooldown: timedelta
    """Between two notices of an open incident."""
    notify_after: int
    """A run that ended badly is told from so many in a row on."""
    notify_quiet: Quiet | None
    notify_report: time | None
    """When the report of the night is sent, by the clock of this machine; None: never."""
    notify_ping_url: str | None = field(repr=False)
    prices_file: Path | None
    """`prices.toml` in the root, where there is one."""
    sources: Mapping[str, str]
    """The source of each field, for people: "env TASKPILOT_MODEL", ".env TASKPILOT_MODEL", "taskpilot.toml", "--home", "default"."""
    warnings: tuple[str, ...]
    """What was ignored, each as a sentence that names the variable."""
    variables: Mapping[str, str]
    """The environment variable of each field that one set; one in `.env` is not among them."""
    dotenv: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables of `.env` in the root; a job's process has those that the environment does not set."""
    dotenv_refused: tuple[str, ...] = ()
    """Names in `.env` that it may not set; they are ignored."""
    references: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The variables that a key of the settings file names as `${NAME}`."""

    @property
    def otel_traces_url(self) -> str:
        """Where spans go: for http/protobuf the whole URL, for grpc the endpoint."""
        if self.otel_traces_endpoint is not None:
            return self.otel_traces_endpoint
        return self.otel_endpoint if self.otel_protocol == "grpc" else f"{self.otel_endpoint.rstrip('/')}/v1/traces"

    @property
    def otel_resource(self) -> Mapping[str, str]:
        """Resource attributes of spans; OTEL_SERVICE_NAME wins over OTEL_RESOURCE_ATTRIBUTES, which wins over the default."""
        named = {"service.name": self.otel_service_name}
        given = self.otel_resource_attributes
        return {**named, **given} if self.sources["otel_service_name"] == "default" else {**given, **named}

    @property
    def withheld(self) -> tuple[str, ...]:
        """Names of environment variables that a job's process does not get: secrets of the server, the stack and the channels."""
        tables = (names for key, names in self.references.items() if key.partition(".")[0] in _WITHHELD_TABLES)
        return tuple(sorted({*_WITHHELD, *(name for names in tables for name in names)}))
