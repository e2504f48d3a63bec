"""Ids that sort by birth, and are parsed before they become a path or a query."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskpilot.domain.errors import UsageError
from taskpilot.domain.ids import new_id, parse_id
from tests.errors import saying


def test_an_id_is_a_version_7_uuid_of_this_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_790_000_000_123_456_789)
    value = uuid.UUID(new_id())
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == 1_790_000_000_123


def test_a_later_id_sorts_after_an_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for moment in range(0, 50_000_000_000, 1_000_000_000):
        monkeypatch.setattr("time.time_ns", lambda moment=moment: 1_790_000_000_000_000_000 + moment)
        ids.append(new_id())
    assert ids == sorted(ids)


def test_ids_of_one_millisecond_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_790_000_000_000_000_000)
    assert len({new_id() for _ in range(2_000)}) == 2_000


@given(st.uuids())
def test_every_way_to_write_an_id_is_read_as_one(value: uuid.UUID) -> None:
    assert parse_id(value.hex.upper()) == parse_id(f"{{{value}}}") == str(value)


@pytest.mark.parametrize("text", ["", "1", "../../etc/passwd", "x" * 32, "g" * 36, "' or 1=1 --", "\x00" * 32, None, 5])
def test_what_is_no_id_is_a_usage_error_that_names_the_list(text: object) -> None:
    with pytest.raises(UsageError, check=saying("taskpilot tasks list")):
        parse_id(text, noun="task")  # type: ignore[arg-type]
