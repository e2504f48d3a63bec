"""Slack, mail, ntfy, Telegram and about 150 more, through apprise, which is imported when something is sent."""

import io
import logging
import threading
from typing import Any, Final, Self

from taskpilot.config.secrets import secrets_in_channel
from taskpilot.domain.channels import Channel, Message
from taskpilot.domain.errors import ConfigurationError, NotDelivered
from taskpilot.domain.text import one_line, printable
from taskpilot.http import TimedCall

_TEXT_MAX: Final = 3_500
"""Characters: the smallest limit of the services that people use is Telegram's, 4,096."""
_MAIL: Final = frozenset({"mailto", "mailtos"})


class Service:
    """One address in apprise's notation. Its parts are often secrets, so nothing but its name is ever shown."""

    def __init__(self, name: str, channel: Channel, *, seconds: float) -> None:
        """Raises ConfigurationError that names the channel and not its URL."""
        where = f"the channel {one_line(name, limit=64)!r} (notify.channels in the settings)"
        if "://" not in channel.url:
            raise ConfigurationError(f"{where} needs a URL like https://... or slack://...")
        if channel.headers or channel.secret is not None:
            raise ConfigurationError(f"{where} has headers or a signing key, which only an http or https URL has")
        self._name = name
        self._channel = channel
        self._seconds = seconds

    def check(self) -> None:
        """Raises ConfigurationError where apprise does not understand the URL; imports it."""
        _opened(self._name, self._channel)

    def deliver(self, message: Message) -> str:
        """Sends the message; gives the service's name. Raises NotDelivered, whose text says whether the message can have arrived."""
        name = f"the channel {self._name!r}"
        sending = threading.Event()
        call = TimedCall(lambda: self._send(message, sending))
        if not call.wait(self._seconds):
            late = sending.is_set()
            reached = "it may or may not have received the message" if late else "nothing was sent"
            raise NotDelivered(f"{name} did not answer within {self._seconds:g} s; {reached}", late=late)
        if isinstance(call.error, ConfigurationError):
            raise NotDelivered(str(call.error))
        if call.error is not None or call.value is None:
            raise NotDelivered(f"{name} could not be used ({type(call.error).__name__})")
        service, why = call.value
        if why is not None:
            raise NotDelivered(f"{name} did not take the message{f': {why}' if why else ''}", answered=False)
        return service

    def _send(self, message: Message, sending: threading.Event) -> tuple[str, str | None]:
        """The service's name, and why it did not take the message; None where it did."""
        service = _opened(self._name, self._channel)
        from apprise import NotifyFormat

        html = bool(message.html) and self._channel.scheme in _MAIL
        # A message may hold what a model wrote.
        body = printable(message.html if html else _shortened(message.text), keep_newlines=True)
        with _Overheard() as heard:
            sending.set()
            sent = service.notify(body, title=printable(message.title), body_format=NotifyFormat.HTML if html else NotifyFormat.TEXT)
        return str(service.service_name), None if sent else self._masked(heard.last)

    def _masked(self, text: str) -> str:
        for secret in sorted(secrets_in_channel(self._channel), key=len, reverse=True):
            text = text.replace(secret, "***")
        return one_line(text)


def _opened(name: str, channel: Channel) -> Any:
    """Apprise's object of the channel. Raises ConfigurationError that names the channel and not its URL."""
    from apprise import Apprise, AppriseAsset

    # Nothing is kept on disk, and no redirect is followed: it could lead a secret to another host.
    asset = AppriseAsset(app_id="TaskPilot", app_desc="TaskPilot", http_redirects=False, storage_mode="memory", async_mode=False)
    with _Overheard():
        service = Apprise.instantiate(channel.url, asset=asset, suppress_exceptions=True)
    if service is None:
        raise ConfigurationError(
            f"the channel {one_line(name, limit=64)!r} (notify.channels in the settings) has a URL that apprise does not understand",
            hint="taskpilot docs notices",
        )
    return service


class _Overheard:
    """Keeps what apprise logs in this thread; without a handler, Python would print it."""

    def __enter__(self) -> Self:
        self._text = io.StringIO()
        self._handler = logging.StreamHandler(self._text)
        self._handler.setLevel(logging.WARNING)
        thread = threading.get_ident()
        self._handler.addFilter(lambda record: record.thread == thread)
        logging.getLogger("apprise").addHandler(self._handler)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self._handler)

    @property
    def last(self) -> str:
        """The last line."""
        return next((line for line in reversed(self._text.getvalue().splitlines()) if line.strip()), "")


def _shortened(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
