"""Finds the secrets of the settings, which logs, records and replies must not contain: keys, tokens, passwords in URLs and headers."""

import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from taskpilot.config.model import Secret, Settings
from taskpilot.domain.channels import Channel

_SECRET_HEADER: Final = re.compile(r"auth|key|token|secret|cookie|password|signature|credential", re.IGNORECASE)
_TOKEN: Final = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_:+/=-]{8,}|[A-Za-z0-9_:+/=-]{20,}")
"""A part of a service's URL that may be a token: what has no digit and is shorter is a word, which jobs may use too."""
_LONG: Final = 16
"""A header's value with at least this many characters counts as a secret, whatever the header's name."""


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """Each secret as it is configured and, where a URL encodes it, as it is sent; short ones too."""
    return tuple(dict.fromkeys(secret for secret in _all(settings) if secret))


def _all(settings: Settings) -> Iterator[str]:
    for one in fields(settings):
        if isinstance(held := getattr(settings, one.name), Secret):
            yield held.get_secret_value()
    for address in (
        settings.openai_base_url,
        settings.openai_proxy,
        settings.pushgateway_url,
        settings.otel_endpoint,
        settings.otel_traces_endpoint,
    ):
        if address is not None:
            yield from _in_url(address)
    yield from _in_headers(settings.otel_headers)
    for channel in settings.notify_channels.values():
        yield from secrets_in_channel(channel)
    for key, names in settings.references.items():
        if key.startswith("notify."):
            yield from (settings.dotenv.get(name, "") for name in sorted(names))
    if settings.notify_ping_url is not None:
        yield from secrets_in_ping(settings.notify_ping_url)


def secrets_in_channel(channel: Channel) -> Iterator[str]:
    """The parts of a channel that may be secrets."""
    parts = urlsplit(channel.url)
    if channel.is_webhook:
        yield from _in_url(channel.url)
        # The path of a webhook's URL is its password.
        yield parts.path.strip("/")
        yield from _in_headers(channel.headers)
        if channel.secret is not None:
            yield channel.secret
        return
    # A service's token may be any part of its URL, as may be the name of a room or a person.
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    yield from (password, unquote(password))
    words = (user, parts.netloc.rpartition("@")[2], *parts.path.split("/"), *(value for _, value in parse_qsl(parts.query)))
    for word in map(unquote, words):
        if _TOKEN.fullmatch(word):
            yield word


def secrets_in_ping(url: str) -> Iterator[str]:
    """The parts of a ping URL that may be secrets: whoever knows its path may ping it."""
    yield from _in_url(url)
    yield urlsplit(url).path.strip("/")


def _in_url(address: str) -> Iterator[str]:
    parts = urlsplit(address)
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    if colon:
        yield password
        yield unquote(password)
        yield b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    elif user:
        # A token in the place of the user name.
        yield user
    for _, value in parse_qsl(parts.query):
        yield value


def _in_headers(headers: Mapping[str, str]) -> Iterator[str]:
    for name, value in headers.items():
        if _SECRET_HEADER.search(name) or len(value) >= _LONG:
            yield value
            # "Bearer abc": a library may log the second word alone.
            yield value.rpartition(" ")[2]
