"""What a deployment is configured to be: one frozen value, with the source of each of its fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from taskpilot.domain.channels import Channel

Protocol = Literal["grpc", "http/protobuf"]


class Secret:
    """A text that no repr, log line or table shows; `get_secret_value()` gives it to the one who needs it.

    pydantic's SecretStr does the same, at 160 ms of import for each command.
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
    """Everything that is configured; nothing below asks the environment again."""

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
    deployment: str | None
    """The name asked for; the store keeps the one that it was made with."""
    pushgateway_url: str | None = field(repr=False)
    """None: no push."""
    otel_enabled: bool
    otel_endpoint: str
    """The base of a collector, without `/v1/traces`, as OTEL_EXPORTER_OTLP_ENDPOINT names it."""
    otel_traces_endpoint: str | None
    """OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: taken as it is, before the base."""
    otel_protocol: Protocol
    otel_headers: Mapping[str, str] = field(repr=False)
    otel_certificate: str | None
    """OTEL_EXPORTER_OTLP_CERTIFICATE: a PEM file with whom to trust at an https collector; None: whom the system trusts."""
    otel_content: bool
    """Whether prompts, replies, arguments and results are in the spans; known secrets are masked in them."""
    otel_service_name: str
    otel_resource_attributes: Mapping[str, str]
    log_level: str
    """A level that loguru knows, in capitals."""
    lease_seconds: float
    """How long a run's lease holds without being renewed."""
    drain_timeout: float
    """Seconds that a server waits for its runs when it is asked to end."""
    max_concurrent_runs: int
    """Runs that a server has going at once; what is due beyond them waits in the store, in order."""
    history_days: int | None
    """How old ended runs and fires get before housekeeping deletes them; None: it deletes none."""
    housekeeping: timedelta | None
    """How often the built-in job of that name is due; None: the root has no such job."""
    port: int
    """Where a server listens."""
    api_token: Secret | None
    policy_files: tuple[Path, ...]
    """Absolute; each is an existing file that only we or uid 0 can change."""
    policy_default: bool
    """False: the project's files replace the shipped policy."""
    stack_prometheus: str = field(repr=False)
    """Where `doctor --stack` looks; nothing else asks these five."""
    stack_alertmanager: str = field(repr=False)
    stack_jaeger: str = field(repr=False)
    stack_elasticsearch: str = field(repr=False)
    stack_grafana: str = field(repr=False)
    notify_channels: Mapping[str, Channel]
    prices_file: Path | None
    """`prices.toml` in the root, where there is one."""
    sources: Mapping[str, str]
    """Where each field came from, for people: "env TASKPILOT_MODEL", "taskpilot.toml", "--home", "default"."""
    variables: Mapping[str, str]
    """The environment variable that gave a field, of those that one gave."""

    @property
    def otel_traces_url(self) -> str:
        """Where spans go: for http/protobuf the whole URL, for grpc the endpoint."""
        if self.otel_traces_endpoint is not None:
            return self.otel_traces_endpoint
        return self.otel_endpoint if self.otel_protocol == "grpc" else f"{self.otel_endpoint.rstrip('/')}/v1/traces"

    @property
    def otel_resource(self) -> Mapping[str, str]:
        """Who spans come from. OTEL_SERVICE_NAME wins over a service.name in OTEL_RESOURCE_ATTRIBUTES, and that one over the default."""
        named = {"service.name": self.otel_service_name}
        given = self.otel_resource_attributes
        return {**named, **given} if self.sources["otel_service_name"] == "default" else {**given, **named}

    @property
    def secrets_for_serve_only(self) -> tuple[str, ...]:
        """Names of environment variables that no job's process is given."""
        return ("TASKPILOT_API_TOKEN",)
