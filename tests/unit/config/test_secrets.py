"""What counts as a secret among the settings."""

from pathlib import Path

from taskpilot.config import SETTINGS_FILE, load
from taskpilot.config.secrets import secrets_of


def secrets(root: Path, text: str = "", **environ: str) -> set[str]:
    root.mkdir(exist_ok=True)
    (root / SETTINGS_FILE).write_text(text)
    return set(secrets_of(load(root=root, environ=environ)))


def test_nothing_is_secret_where_nothing_is_configured(tmp_path: Path) -> None:
    assert secrets(tmp_path / "root") == set()


def test_keys_and_tokens_are(tmp_path: Path) -> None:
    assert secrets(tmp_path / "root", OPENAI_API_KEY="the-key", TASKPILOT_API_TOKEN="the-token") == {"the-key", "the-token"}


def test_a_password_in_a_url_is_as_it_is_written_and_as_it_is_sent(tmp_path: Path) -> None:
    found = secrets(tmp_path / "root", TASKPILOT_PUSHGATEWAY_URL="http://me:p%40ss@host:9091", OPENAI_BASE_URL="http://tok@host/v1?key=q1")
    assert found == {"p%40ss", "p@ss", "bWU6cEBzcw==", "tok", "q1"}


def test_headers_are_by_their_name_or_their_length_and_a_webhooks_path_is(tmp_path: Path) -> None:
    text = """[notify.channels.team]
url = "https://hooks.example/services/T0/B1/x2"
headers = { Authorization = "Bearer abc", X-Team = "night", X-Long = "0123456789abcdef" }
"""
    found = secrets(tmp_path / "root", text, OTEL_EXPORTER_OTLP_HEADERS="api-key=k1,x-team=night")
    assert found == {"k1", "services/T0/B1/x2", "Bearer abc", "abc", "0123456789abcdef"}
