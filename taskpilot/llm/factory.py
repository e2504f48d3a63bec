"""Makes a model from its name and the settings, or raises an error that says what is missing.

A new provider is a module beside this one, two branches here and its settings: nothing else knows providers.
"""

from typing import Final
from urllib.parse import urlsplit

from taskpilot.config import Settings
from taskpilot.domain.chat import OFFLINE
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.protocols import Model
from taskpilot.domain.text import one_line
from taskpilot.http import shown

_THREE_WAYS: Final = (
    "use `--model offline` (embedded rules: no key, no network, no cost), or set OPENAI_API_KEY=sk-... "
    "(OpenAI), or OPENAI_BASE_URL=http://localhost:8080/v1 (any compatible server, such as llama.cpp or vLLM); "
    "more: `taskpilot docs models`"
)


def check_model(name: str, settings: Settings) -> None:
    """Raises ConfigurationError if `open_model` would; loads no library."""
    if name == OFFLINE:
        return
    key, base_url = _key(settings), settings.openai_base_url
    if not key and not base_url:
        raise ConfigurationError("no model is configured. No token was spent.", hint=_THREE_WAYS)
    if not name.strip():
        raise ConfigurationError(
            "the model has no name. No token was spent.", hint="name one by --model, TASKPILOT_MODEL or the job's model="
        )
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigurationError(
            "OPENAI_API_KEY has a space, a line break or a character that is not ASCII. No token was spent.",
            hint="set OPENAI_API_KEY to the key alone",
        )
    if base_url:
        _check_url(base_url)
    if settings.openai_proxy:
        _check_proxy(settings.openai_proxy)


def _check_url(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        shown = one_line(base_url.rpartition("@")[2])
        hint = "set OPENAI_BASE_URL to an address like http://localhost:8080/v1"
        raise ConfigurationError(f"OPENAI_BASE_URL is {shown!r}, which is not a URL. No token was spent.", hint=hint)


def _check_proxy(proxy: str) -> None:
    try:
        parts = urlsplit(proxy)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ConfigurationError(
            f"the proxy {shown(proxy)} cannot be used for the model: only http:// and https:// proxies can. No token was spent.",
            hint='set [openai] proxy in taskpilot.toml to such a proxy, or to "off"',
        )


def open_model(name: str, settings: Settings) -> Model:
    """The model with this name; `offline` is the embedded one. Raises ConfigurationError like `check_model`."""
    check_model(name, settings)
    # Imported here: a supervisor only checks the name, its child opens the model.
    if name == OFFLINE:
        from taskpilot.llm.offline import OfflineModel

        return OfflineModel()
    from taskpilot.llm.openai_chat import ATTEMPT_SECONDS, OpenAIModel

    seconds = settings.openai_request_timeout or ATTEMPT_SECONDS
    return OpenAIModel(
        name, api_key=_key(settings), base_url=settings.openai_base_url or None, proxy=settings.openai_proxy, attempt_seconds=seconds
    )


def _key(settings: Settings) -> str | None:
    return (settings.openai_api_key.get_secret_value() if settings.openai_api_key else None) or None
