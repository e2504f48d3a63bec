"""Signed links to one question each: made from the key of the store, kept as a digest, and read back.

A link holds the id and the time of its question. The signature covers these, and what is to be done as well, so that a link never answers
for other arguments.
"""

import base64
import binascii
import hashlib
import hmac
import uuid
from typing import Final

from sqlalchemy import Connection, select, update

from taskpilot.domain.decisions import Decision
from taskpilot.domain.tasks import Task
from taskpilot.domain.times import to_micros
from taskpilot.store.approval_tables import link_key
from taskpilot.store.records import dumps
from taskpilot.store.tables import decisions, tasks
from taskpilot.store.tasks import get_decision, get_task

Question = Decision | Task

_PURPOSE: Final = b"taskpilot approval link 1\0"
_KINDS: Final = {b"d": get_decision, b"t": get_task}
_ID = 16
_TIME = 8
_SIGNED: Final = 1 + _ID + _TIME
_LENGTH: Final = _SIGNED + hashlib.sha256().digest_size


def issue_link(connection: Connection, question: Question) -> None:
    """From here on the question's link may answer it. Does nothing for a question without a time."""
    token = link_token(connection, question)
    if token is not None:
        table = decisions if isinstance(question, Decision) else tasks
        connection.execute(update(table).where(table.c.id == question.id).values(link_digest=_digest(token)))


def link_token(connection: Connection, question: Question) -> str | None:
    """The secret part of a question's link, the same each time; None for a question without a time."""
    if question.expires_at is None:
        return None
    kind = b"d" if isinstance(question, Decision) else b"t"
    head = kind + uuid.UUID(question.id).bytes + to_micros(question.expires_at).to_bytes(_TIME, "big")
    return base64.urlsafe_b64encode(head + _signature(connection, head, question)).rstrip(b"=").decode()


def question_of_link(connection: Connection, token: str) -> Question | None:
    """The question that a link answers; None where it is none of ours."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    if len(raw) != _LENGTH or raw[:1] not in _KINDS:
        return None
    question = _KINDS[raw[:1]](connection, str(uuid.UUID(bytes=raw[1 : 1 + _ID])))
    if question is None or (wanted := link_token(connection, question)) is None:
        return None
    table = decisions if isinstance(question, Decision) else tasks
    issued = connection.execute(select(table.c.link_digest).where(table.c.id == question.id)).scalar() or ""
    return question if hmac.compare_digest(token, wanted) and hmac.compare_digest(issued, _digest(token)) else None


def _signature(connection: Connection, head: bytes, question: Question) -> bytes:
    key = bytes.fromhex(connection.execute(select(link_key.c.key)).scalar_one())
    about = [question.tool, question.arguments] if isinstance(question, Decision) else [question.title, question.description]
    return hmac.digest(key, _PURPOSE + head + hashlib.sha256(dumps([question.run_id, *about]).encode()).digest(), "sha256")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
