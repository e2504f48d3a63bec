"""The messages between a server and its fork server: one JSON object a line, over a socket that both trust."""

import json
import socket
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from taskpilot.domain.fires import StartOrder
from taskpilot.domain.times import from_micros, to_micros


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Sends one message. Raises OSError where the other end has closed the connection."""
    connection.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")


class MessageReader:
    """Takes whole messages out of bytes that arrive in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """The messages that are complete now."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            yield json.loads(line)


def order_message(order: StartOrder) -> dict[str, Any]:
    """An order as a message."""
    micros = None if order.scheduled_for is None else to_micros(order.scheduled_for)
    return {"job": order.job, "scheduled_for": micros, "run_id": order.run_id}


def order_of(message: dict[str, Any]) -> StartOrder:
    """The order in a message."""
    micros = message["scheduled_for"]
    scheduled_for: datetime | None = None if micros is None else from_micros(micros)
    return StartOrder(message["job"], scheduled_for, message["run_id"])
