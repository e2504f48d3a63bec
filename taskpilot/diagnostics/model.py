"""The model's server: reachable, the key accepted, the model listed; no token is spent."""

import json
from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from taskpilot.diagnostics.context import ANSWER_SECONDS, CheckContext
from taskpilot.diagnostics.findings import Code, Finding, unchecked
from taskpilot.domain.chat import OFFLINE
from taskpilot.domain.errors import ConfigurationError
from taskpilot.domain.text import one_line
from taskpilot.http import Answer, Unanswered, exchange, shown
from taskpilot.llm.factory import check_model
from taskpilot.llm.openai_chat import OPENAI_URL

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
        yield Finding(Code.MODEL_OFFLINE, f"offline is embedded: rules, no network, no key; {_users(asked[OFFLINE])}")
    names = [name for name in asked if name != OFFLINE]
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    if not asked:
        yield Finding(Code.MODEL_NONE, "no model is named: a job that asks one would fail", "set TASKPILOT_MODEL, or give the job model=")
    if not key and settings.openai_base_url is None:
        for name in names:
            sentence = f"there is no way to {one_line(name)}: neither a key nor a server is set; {_users(asked[name])}"
            yield Finding(Code.MODEL_NO_ACCESS, sentence, _THREE_WAYS, {"model": one_line(name)})
        return
    try:
        check_model(names[0] if names else "any", key, settings.openai_base_url)
    except ConfigurationError as error:
        yield Finding(Code.MODEL_NO_ACCESS, str(error), error.hint or _THREE_WAYS)
        return
    yield from _ask(settings.openai_base_url or OPENAI_URL, key, names)


def _ask(base_url: str, key: str | None, names: list[str]) -> Iterator[Finding]:
    parts = urlsplit(base_url)
    url = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/models"))
    # A query may hold a key, as the part before an @ may hold a password.
    place = shown(urlunsplit(parts._replace(query="")))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = exchange("GET", url, seconds=ANSWER_SECONDS, headers=headers, body_max=_LIST_MAX)
    except (Unanswered, ValueError) as error:
        fix = "start that server or correct OPENAI_BASE_URL; a run would end with 75"
        yield Finding(Code.MODEL_UNREACHABLE, f"{place} cannot be reached: {error}", fix, {"url": place})
        return
    if answer.status in (401, 403):
        what = "the key in OPENAI_API_KEY" if key else "a request without a key"
        yield Finding(
            Code.MODEL_KEY_REFUSED,
            f"{place} refuses {what} ({answer.status})",
            "set OPENAI_API_KEY to a key of that server",
            {"url": place, "status": answer.status},
        )
    elif answer.status in _NO_LIST:
        why = f"{place} answers, but has no list of models ({answer.status}): key and models are unknown"
        yield unchecked("model", why, "correct OPENAI_BASE_URL, which mostly ends in /v1; where it is right, a run will tell")
    elif answer.status != 200:
        fix = "try again later; where it stays so, look at that server's log"
        facts: dict[str, str | int] = {"url": place, "status": answer.status}
        yield Finding(Code.MODEL_UNWELL, f"{place} answers {answer.status} to a request for its models", fix, facts)
    else:
        yield from _listed(place, answer, names)


def _listed(place: str, answer: Answer, names: list[str]) -> Iterator[Finding]:
    try:
        listed = {str(one["id"]) for one in json.loads(answer.body)["data"]}
    except (ValueError, KeyError, TypeError):
        yield unchecked("model", f"{place} answers, but not by a list of models", "correct OPENAI_BASE_URL, which mostly ends in /v1")
        return
    missing = [name for name in names if name not in listed]
    for name in missing:
        few = one_line(", ".join(sorted(listed)), limit=160) or "none"
        sentence = f"{place} does not list {one_line(name)}; it lists {few}"
        fix = "correct TASKPILOT_MODEL or the job's model=; some servers take names that they do not list"
        yield Finding(Code.MODEL_NOT_LISTED, sentence, fix, {"url": place, "model": one_line(name)})
    if not missing:
        yield Finding(Code.MODEL_OK, f"{place} answers and lists {one_line(', '.join(names)) or f'{len(listed)} models'}")


def _users(jobs: list[str]) -> str:
    return f"named for {one_line(', '.join(jobs), limit=160)}" if jobs else "named by the settings"
