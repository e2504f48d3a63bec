"""The link with which a person answers from a notice. The store has it as a digest; a notice gets it when it is sent."""

from collections.abc import Mapping
from typing import Any, Final

from taskpilot.deployment import Deployment
from taskpilot.store.approval_links import Question, issue_link, link_token
from taskpilot.store.database import Transaction
from taskpilot.store.tasks import get_decision, get_task

PATH: Final = "/a/"
_HIDDEN: Final = "..."
"""In place of the secret part, wherever a notice is stored or shown."""


def with_hidden_link(connection: Transaction, facts: Mapping[str, Any], public_url: str | None) -> dict[str, Any]:
    """The facts of a notice about a question, whose link is valid from here on; as they are where there is none."""
    question = _question(connection, facts)
    if public_url is None or question is None or question.expires_at is None:
        return dict(facts)
    issue_link(connection, question)
    return {**facts, "link": f"{public_url}{PATH}{_HIDDEN}"}


def with_link(deployment: Deployment, facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """The facts as they are sent."""
    hidden = facts.get("link")
    if not isinstance(hidden, str) or not hidden.endswith(PATH + _HIDDEN):
        return facts
    with deployment.store.read() as connection:
        question = _question(connection, facts)
        token = None if question is None else link_token(connection, question)
    return {**facts, "link": None if token is None else hidden.removesuffix(_HIDDEN) + token}


def _question(connection: Transaction, facts: Mapping[str, Any]) -> Question | None:
    about = facts.get("reason_facts") or {}
    if isinstance(decision := about.get("decision_id"), str):
        return get_decision(connection, decision)
    return get_task(connection, task) if isinstance(task := about.get("task_id"), str) else None
