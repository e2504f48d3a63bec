"""Makes a model from its name and server, or raises an error that says what is missing."""

from typing import Final
from urllib.parse import urlsplit

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


def check_model(name: str, api_key: str | None, base_url: str | None, proxy: str | None = None) -> None:
    """Raises ConfigurationError if `open_model` would; loads no library."""
    if name == OFFLINE:
        return
    if not api_key and not base_url:
        raise ConfigurationError("no model is configured. No token was spent.", hint=_THREE_WAYS)
    if not name.strip():
        raise ConfigurationError(
            "the model has no name. No token was spent.", hint="name one by --model, TASKPILOT_MODEL or the job's model="
        )
    if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise ConfigurationError(
            "OPENAI_API_KEY has a space, a line break or a character that is not ASCII. No token was spent.",
            hint="set OPENAI_API_KEY to the key alone",
        )
    if base_url:
        _check_url(base_url)
    if proxy:
        _check_proxy(proxy)


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


def open_model(
    name: str, *, api_key: str | None, base_url: str | None, proxy: str | None = None, request_timeout: float | None = None
) -> Model:
    """The model with this name; `offline` is the embedded one. Raises ConfigurationError like `check_model`."""
    check_model(name, api_key, base_url, proxy)
    # Imported here: a supervisor only checks the name, its child opens the model.
    if name == OFFLINE:
        from taskpilot.llm.offline import OfflineModel

        return OfflineModel()
    from taskpilot.llm.openai_chat import ATTEMPT_SECONDS, OpenAIModel

    seconds = request_timeout or ATTEMPT_SECONDS
    return OpenAIModel(name, api_key=api_key or None, base_url=base_url or None, proxy=proxy, attempt_seconds=seconds)
