"""The messages between a server and its fork server."""

import socket
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.fires import StartOrder
from taskpilot.engines.orders import MessageReader, order_message, order_of, send


def test_a_message_is_one_line_of_json() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"signal": 15})
        send(ours, {"ready": 7})
        assert theirs.recv(1000) == b'{"signal":15}\n{"ready":7}\n'


@pytest.mark.parametrize(
    "order",
    [
        StartOrder("triage", datetime(2026, 11, 23, 7, 0, 0, 123_456, tzinfo=UTC)),
        StartOrder("triage", run_id="019ab1f0-0000-7000-8000-000000000000"),
    ],
)
def test_an_order_arrives_as_it_was(order: StartOrder) -> None:
    assert order_of(order_message(order)) == order


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.none() | st.text())), st.data())
def test_messages_are_whole_however_they_arrive_in_pieces(messages: list[dict[str, object]], data: st.DataObject) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        for message in messages:
            send(ours, message)
        ours.shutdown(socket.SHUT_WR)
        sent = b"".join(iter(lambda: theirs.recv(65_536), b""))
    reader, got = MessageReader(), []
    while sent:
        size = data.draw(st.integers(1, len(sent)))
        got += reader.feed(sent[:size])
        sent = sent[size:]
    assert got == messages
