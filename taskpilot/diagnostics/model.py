"""Checks that the model's server is reachable, accepts the key and lists the model; no token is spent."""

import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from taskpilot.diagnostics.context import ANSWER_SECONDS, CheckContext
from taskpilot.diagnostics.findings import Code, Finding, found, unchecked
from taskpilot.domain.chat import OFFLINE, OPENAI_URL
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.http import Answer, Unanswered, exchange, shown
from taskpilot.llm.factory import check_model

_THREE_WAYS: Final = "set OPENAI_API_KEY=sk-..., or OPENAI_BASE_URL=http://localhost:8080/v1, or type --model offline"
_LIST_MAX: Final = 8 * 1024 * 1024
_NO_LIST: Final = frozenset({404, 405, 501})


def examine_model(context: CheckContext) -> Iterator[Finding]:
    """Whether the models that jobs and settings name could be asked."""
    settings = context.settings
    if why := context.unsound("openai_base_url", "openai_api_key", "model"):
        yield unchecked("model", why)
        return
    asked = context.models()
    if OFFLINE in asked:
        yield found(Code.MODEL_OFFLINE, users=_users(asked[OFFLINE]))
    names = [name for name in asked if name != OFFLINE]
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    if not asked:
        yield found(Code.MODEL_NONE)
    if not key and settings.openai_base_url is None:
        for name in names:
            problem = f"{one_line(name)} cannot be asked: neither a key nor a server is set; {_users(asked[name])}"
            yield found(Code.MODEL_NO_ACCESS, error=problem, fix=_THREE_WAYS, model=one_line(name))
        return
    try:
        check_model(names[0] if names else "any", settings)
    except ConfigurationError as error:
        yield found(Code.MODEL_NO_ACCESS, error=str(error), fix=error.hint or _THREE_WAYS)
        return
    yield from _ask(settings.openai_base_url or OPENAI_URL, key, names, settings.openai_proxy)


def _ask(base_url: str, key: str | None, names: list[str], proxy: str | None) -> Iterator[Finding]:
    parts = urlsplit(base_url)
    url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/models"))
    # A query may hold a key, as the part before an @ may hold a password.
    place = shown(urlunsplit(parts._replace(query="")))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = exchange("GET", url, seconds=ANSWER_SECONDS, headers=headers, body_max=_LIST_MAX, proxy=proxy)
    except (Unanswered, ValueError) as error:
        through = f" (through the proxy {shown(proxy)})" if proxy else ""
        yield found(Code.MODEL_UNREACHABLE, url=place, error=f"{error}{through}")
        return
    if answer.status in (401, 403):
        what = "the key in OPENAI_API_KEY" if key else "a request without a key"
        yield found(Code.MODEL_KEY_REFUSED, url=place, status=answer.status, what=what)
    elif answer.status in _NO_LIST:
        why = f"{place} answers, but has no list of models ({answer.status}): key and models are unknown"
        yield unchecked("model", why, "correct OPENAI_BASE_URL, which mostly ends in /v1; if it is right, try a run")
    elif answer.status != 200:
        yield found(Code.MODEL_UNWELL, url=place, status=answer.status)
    else:
        yield from _listed(place, answer, names)


def _listed(place: str, answer: Answer, names: list[str]) -> Iterator[Finding]:
    try:
        listed = {str(one["id"]) for one in json.loads(answer.body)["data"]}
    except (ValueError, KeyError, TypeError):
        yield unchecked("model", f"{place} answers, but not with a list of models", "correct OPENAI_BASE_URL, which mostly ends in /v1")
        return
    missing = [name for name in names if name not in listed]
    for name in missing:
        few = one_line(", ".join(sorted(listed)), limit=160) or "none"
        yield found(Code.MODEL_NOT_LISTED, url=place, model=one_line(name), listed=few)
    if not missing:
        yield found(Code.MODEL_OK, url=place, models=one_line(", ".join(names)) or f"{len(listed)} models")


def _users(jobs: list[str]) -> str:
    return f"named for {one_line(', '.join(jobs), limit=160)}" if jobs else "named by the settings"
