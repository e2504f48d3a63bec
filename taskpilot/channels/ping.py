"""Pings a Healthchecks-compatible URL: `/start` when a run starts, its exit code when it ends, and the run's id as `rid`."""

from urllib.parse import urlencode, urlsplit, urlunsplit

from taskpilot.domain.errors import NotDelivered
from taskpilot.http import Unanswered, exchange


def ping(url: str, what: str, run_id: str, *, seconds: float) -> None:
    """One GET. `what`: "start" or an exit code. Raises NotDelivered, whose text holds no part of the URL."""
    parts = urlsplit(url)
    query = "&".join(filter(None, (parts.query, urlencode({"rid": run_id}))))
    address = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{what}", query=query, fragment=""))
    try:
        answer = exchange("GET", address, seconds=seconds, headers={"user-agent": "taskpilot", "connection": "close"}, wait_for_body=False)
    except Unanswered as error:
        raise NotDelivered(f"the ping URL could not be reached ({error})", late=error.late) from None
    except ValueError:
        raise NotDelivered("the ping URL is no http or https URL", refused=True) from None
    if not answer.success:
        raise NotDelivered(f"the ping URL answered HTTP {answer.status}", answered=True, refused=answer.status in (400, 410))
