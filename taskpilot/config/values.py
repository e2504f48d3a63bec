"""Reads one value: each function returns the checked value, or raises ValueError that says what is expected."""

import math
import re
from collections.abc import Collection, Mapping
from datetime import time, timedelta
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from taskpilot.config.model import Protocol, Secret
from taskpilot.domain.channels import WEBHOOKS, Channel
from taskpilot.domain.notices import PING, SELECTABLE, NoticeEvent, Quiet
from taskpilot.domain.specs import parse_approval_timeout
from taskpilot.domain.text import one_line
from taskpilot.domain.times import parse_duration

LOG_LEVELS: Final = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
LEASE_MIN_SECONDS: Final = 2.0
"""A lease is renewed after each third of its time, and one commit on a busy disk may take half a second."""
DAY_SECONDS: Final = 86_400.0

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_SERVICE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)", re.ASCII)
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}

_DAYS_MAX: Final = 36_500


def text(value: Any) -> str:
    """Text that is not empty and has no control characters."""
    if not isinstance(value, str):
        raise ValueError(f"must be text, not {one_line(repr(value), limit=60)}")  # noqa: TRY004 - one kind of error for all values
    stripped = value.strip()
    if not stripped:
        raise ValueError("must not be empty")
    if not stripped.isprintable():
        raise ValueError("must not hold control characters")
    return stripped


def secret(value: Any) -> Secret:
    """Text that is never shown."""
    return Secret(text(value))


def boolean(value: Any) -> bool:
    """True or false, also as text: true, 1, yes, on, false, 0, no, off."""
    if isinstance(value, bool):
        return value
    word = _BOOLEANS.get(value.strip().lower()) if isinstance(value, str) else None
    if word is None:
        raise ValueError(f"must be true or false, not {one_line(repr(value), limit=60)}")
    return word


def capture(value: Any) -> bool:
    """Whether message content goes into spans: true or false, or one of OpenTelemetry's values; TaskPilot has no events."""
    values = {"span_only": True, "span_and_event": True, "event_only": False, "no_content": False}
    known = values.get(value.strip().lower()) if isinstance(value, str) else None
    return boolean(value) if known is None else known


def seconds(value: Any) -> float:
    """A number of seconds, or a duration such as "30s"."""
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            number = parse_duration(value.strip()).total_seconds()
    if not 0 < number <= DAY_SECONDS:
        raise ValueError(f'must be between 0 s and a day, such as 30 or "30s", not {one_line(repr(value), limit=60)}')
    return number


def lease_seconds(value: Any) -> float:
    """Seconds, long enough that a slow disk does not lose the lease."""
    number = seconds(value)
    if number < LEASE_MIN_SECONDS:
        raise ValueError(f"must be at least {LEASE_MIN_SECONDS:g} s: a shorter lease may end while its run is active")
    return number


def run_count(value: Any) -> int:
    """A number of runs, from 1 to 1,000."""
    return _whole(value, 1, 1000)


def proxy(value: Any) -> str:
    """The URL of a proxy, or "off"."""
    return "off" if value is False or (isinstance(value, str) and value.strip().lower() == "off") else url(value)


def token_count(value: Any) -> int:
    """A number of tokens, from 1 to a million."""
    return _whole(value, 1, 1_000_000)


def port(value: Any) -> int:
    """A TCP port; 0 lets the system choose one."""
    return _whole(value, 0, 65_535)


def _whole(value: Any, least: int, most: int) -> int:
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise ValueError(f"must be a whole number from {least} to {most}, not {one_line(repr(value), limit=60)}")
    return number


def url(value: Any, schemes: Collection[str] = ("http", "https")) -> str:
    """A URL with a host, of one of the schemes. No message contains the value: it may hold a password."""
    address = text(value)
    try:
        parts = urlsplit(address)
        usable = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and " " not in address
    except ValueError:
        usable = False
    if not usable:
        raise ValueError('must be a URL like "http://localhost:9091"')
    return address


def log_level(value: Any) -> str:
    """A level that loguru knows, in capitals."""
    level = text(value).upper()
    if level not in LOG_LEVELS:
        raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}, not {one_line(level, limit=60)}")
    return level


def days_or_off(value: Any) -> int | None:
    """A number of days, or None for "off"."""
    if value is False or (isinstance(value, str) and value.strip().lower() == "off"):
        return None
    word = str(value).strip()
    if isinstance(value, bool) or not (word.isascii() and word.isdigit() and 1 <= int(word) <= _DAYS_MAX):
        raise ValueError(f'must be a number of days from 1 to {_DAYS_MAX}, or "off", not {one_line(word, limit=60)}')
    return int(word)


def interval_or_off(value: Any) -> timedelta | None:
    """A duration from a second to a day such as "15m", or None for "off"."""
    if value is False or (isinstance(value, str) and value.strip().lower() == "off"):
        return None
    try:
        found = parse_duration(text(value))
    except ValueError as error:
        raise ValueError(f'{error}; or "off"') from None
    if not timedelta(seconds=1) <= found <= timedelta(days=1):
        raise ValueError(f'must be from 1s to 1d, or "off", not {one_line(str(value), limit=60)}')
    return found


def public_url(value: Any) -> str:
    """An http or https URL without user, query and fragment; a path is kept, a slash at the end is not."""
    found = url(value).rstrip("/")
    parts = urlsplit(found)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("must be like https://tasks.example.org")
    return found


def approval_timeout(value: Any) -> timedelta:
    """A duration of at most a year."""
    return parse_approval_timeout(text(value))


def protocol(value: Any) -> Protocol:
    """The protocol of the collector."""
    word = text(value)
    if word == "grpc":
        return "grpc"
    if word == "http/protobuf":
        return "http/protobuf"
    raise ValueError(f"must be grpc or http/protobuf; {one_line(word, limit=60)} is not implemented in this version")


def name(value: Any) -> str:
    """A name that is safe in a metric label and in a path."""
    word = text(value)
    if not _NAME.fullmatch(word):
        raise ValueError(f"must be letters, digits, '.', '_' and '-', at most 63, not {one_line(word, limit=80)}")
    return word


def headers(value: Any) -> Mapping[str, str]:
    """HTTP headers from a table, or from OpenTelemetry's form `key=value,key2=value2`, percent-encoded."""
    pairs = _pairs(value)
    for key, content in pairs.items():
        if not _HEADER_NAME.fullmatch(key):
            raise ValueError(f"{one_line(key, limit=60)!r} is not a valid header name")
        if not (content.isascii() and content.isprintable()):
            raise ValueError(f"the header {key} must be printable ASCII")
    return MappingProxyType(pairs)


def attributes(value: Any) -> Mapping[str, str]:
    """Resource attributes, in the same forms as headers."""
    return MappingProxyType(_pairs(value))


def _pairs(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        if not all(isinstance(content, str) for content in value.values()):
            raise ValueError("must be a table of texts")
        return dict(value)
    pairs = {}
    for part in text(value).split(","):
        key, equals, content = part.partition("=")
        if part.strip() and not (equals and key.strip()):
            raise ValueError("must be written as key=value,key2=value2")
        if part.strip():
            pairs[unquote(key.strip())] = unquote(content.strip())
    return pairs


def texts(value: Any) -> tuple[str, ...]:
    """A list of text values."""
    if not isinstance(value, list):
        raise ValueError('must be a list of texts, such as ["a", "b"]')  # noqa: TRY004 - one kind of error for all values
    return tuple(text(item) for item in value)


def channels(value: Any) -> Mapping[str, Channel]:
    """The channels of `notify`, by name."""
    if not isinstance(value, Mapping):
        raise ValueError('must be a table: [notify.channels.NAME] with url = "https://..."')  # noqa: TRY004 - one kind of error for all values
    return MappingProxyType({_channel_name(key): _channel(key, table) for key, table in value.items()})


def _channel_name(key: str) -> str:
    if not _NAME.fullmatch(key):
        raise ValueError(f"{one_line(key, limit=80)!r} is not a valid channel name: use letters, digits, '.', '_' and '-', at most 63")
    if key == PING:
        raise ValueError(f"{key!r} is the name of the pings: choose another one")
    return key


def _channel(key: str, table: Any) -> Channel:
    if not isinstance(table, Mapping) or "url" not in table:
        raise ValueError(f'{key} needs a url: [notify.channels.{key}] with url = "https://..."')
    unknown = sorted(set(table) - {"url", "headers", "secret"})
    if unknown:
        raise ValueError(f"{key} has the unknown key {one_line(unknown[0], limit=60)!r}; known are url, headers and secret")
    try:
        secret = table.get("secret")
        found = Channel(
            url=_channel_url(table["url"]), headers=headers(table.get("headers", {})), secret=None if secret is None else text(secret)
        )
        if not found.is_webhook and (found.headers or found.secret is not None):
            raise ValueError("only an http or https URL has headers or a secret")
        return found
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _channel_url(value: Any) -> str:
    """A URL of a webhook, or one of apprise, of which only the form is checked here: `doctor` and the first message check the rest."""
    address = text(value)
    scheme = address.partition(":")[0].lower()
    if scheme in WEBHOOKS:
        if "@" in urlsplit(url(address)).netloc:
            raise ValueError("must not hold a user; put credentials into its headers")
        return address
    if not _SERVICE.fullmatch(address):
        raise ValueError('must be a URL like "https://example.org/hook" or "slack://..."')
    return address


def notice_events(value: Any) -> tuple[NoticeEvent, ...]:
    """The events that are told."""
    names = texts(value)
    for one in names:
        if one not in SELECTABLE:
            raise ValueError(f"{one_line(one, limit=60)!r} is not an event; they are {', '.join(SELECTABLE)}")
    return tuple(NoticeEvent(one) for one in names)


def cooldown(value: Any) -> timedelta:
    """A duration from a minute to 30 days."""
    found = parse_duration(text(value))
    if not timedelta(minutes=1) <= found <= timedelta(days=30):
        raise ValueError(f"must be from 1m to 30d, not {one_line(str(value), limit=60)}")
    return found


def failure_count(value: Any) -> int:
    """A number of failures in a row, from 1 to 100."""
    return _whole(value, 1, 100)


def time_of_day(value: Any) -> time:
    """A time such as "08:00"."""
    match = _TIME.fullmatch(text(value))
    if match is None:
        raise ValueError(f'must be a time of the day such as "08:00", not {one_line(str(value), limit=60)}')
    return time(int(match[1]), int(match[2]))


def quiet(value: Any) -> Quiet:
    """Hours such as "22:00-07:00"."""
    start, dash, end = text(value).partition("-")
    try:
        found = Quiet(time_of_day(start), time_of_day(end)) if dash else None
    except ValueError:
        found = None
    if found is None or found.start == found.end:
        raise ValueError(f'must be two times of the day such as "22:00-07:00", not {one_line(str(value), limit=60)}')
    return found
