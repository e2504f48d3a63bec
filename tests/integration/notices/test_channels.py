"""Mail and other services through apprise, against real servers on localhost."""

import email
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from email.message import Message as Mail
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from taskpilot.channels import open_channel
from taskpilot.domain.channels import Channel, Message
from taskpilot.domain.errors import NotDelivered
from taskpilot.domain.events import EventKind
from taskpilot.domain.ids import new_id
from taskpilot.domain.reasons import Reason, ReasonCode
from tests.servers.receiver import Receiver, receiver
from tests.unit.notices.conftest import Desk
from tests.unit.notices.test_delivery import send

pytestmark = pytest.mark.slow


class Mailbox:
    """Keeps each mail."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    box = Mailbox()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()  # type: ignore[no-untyped-call]
    yield box, port
    controller.stop()  # type: ignore[no-untyped-call]


@pytest.fixture
def sink() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def parts(mail: Mail) -> dict[str, str]:
    return {
        part.get_content_type(): part.get_payload(decode=True).decode()  # type: ignore[union-attr]
        for part in mail.walk()
        if not part.is_multipart()
    }


def test_a_mail_says_the_same_as_text_and_as_escaped_html(tmp_path: Path, mailbox: tuple[Mailbox, int]) -> None:
    box, port = mailbox
    url = f"mailto://127.0.0.1:{port}/?from=night@example.org&to=anna@example.org&mode=insecure"
    desk = Desk(tmp_path, settings=f'[notify]\ndefault = ["mail"]\n[notify.channels.mail]\nurl = "{url}"\n')
    run_id = new_id()
    hostile = Reason(ReasonCode.EXCEPTION, {"error_type": "ValueError", "error": "<script>alert(1)</script>"})
    desk.happen(EventKind.RUN_FAILED, run_id=run_id, reason=hostile)
    desk.look()
    send(desk, seconds=60)
    assert [one.result for one in desk.notices()] == ["delivered"], desk.notices()[0].error
    (mail,) = box.mails
    assert mail["Subject"] == "triage failed"
    found = parts(mail)
    assert "<script>" not in found["text/html"]
    for text in found.values():
        assert run_id[-8:] in text
        assert "runs show" in text
    desk.close()


def test_the_notices_of_the_quiet_hours_are_one_message_at_their_end(tmp_path: Path, sink: Receiver) -> None:
    text = f'[notify]\ndefault = ["people"]\nquiet = "11:00-13:00"\n[notify.channels.people]\nurl = "ntfy://127.0.0.1:{sink.port}/night"\n'
    desk = Desk(tmp_path, settings=text)
    noon = desk.clock().astimezone().replace(hour=12)
    desk.clock.advance(noon - desk.clock())
    for job in ("triage", "digest"):
        desk.happen(EventKind.RUN_FAILED, job)
    desk.happen(EventKind.RUN_SUCCEEDED, "digest")
    desk.look()
    send(desk)
    assert sink.bodies == []
    desk.clock.advance(timedelta(hours=1))
    send(desk, seconds=60)
    (body,) = sink.bodies
    assert body["title"].startswith("3 notices since")
    for line in ("triage failed", "digest failed", "digest works again"):
        assert line in body["message"]
    assert {one.result.value for one in desk.notices()} == {"delivered"}
    desk.close()


def test_a_service_that_refuses_leads_elsewhere_or_hangs_is_named_without_its_address(sink: Receiver) -> None:
    channel = Channel(f"json://127.0.0.1:{sink.port}/token-abcdefgh")
    for status in (302, 500):
        sink.status = status
        with pytest.raises(NotDelivered) as caught:
            open_channel("ops", channel, seconds=60).deliver(Message("x", title="y"))
        assert "token-abcdefgh" not in str(caught.value)
        assert "'ops'" in str(caught.value)
    assert set(sink.paths) == {"/token-abcdefgh"}
    sink.hang = 30
    began = time.monotonic()
    with pytest.raises(NotDelivered) as caught:
        open_channel("ops", channel, seconds=1).deliver(Message("x", title="y"))
    assert caught.value.late
    assert time.monotonic() - began < 20


def test_a_service_that_nobody_knows_is_refused_without_its_address() -> None:
    with pytest.raises(NotDelivered, match=r"'ops'.*apprise does not understand") as caught:
        open_channel("ops", Channel("slakc://token-abcdefgh"), seconds=60).deliver(Message("x"))
    assert "token" not in str(caught.value)
